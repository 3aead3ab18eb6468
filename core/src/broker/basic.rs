//! The methods of class basic: publish, consume, get, ack and their like.

use std::sync::Arc;

use amq_protocol::{
    protocol::{
        AMQPClass,
        basic::{self, AMQPMethod as Method},
    },
    types::ShortString,
};
use bytes::Bytes;
use tokio::time::Instant;

use super::{
    SessionId,
    arguments::integer,
    channel::Unacked,
    deliver::content,
    frames::{IntoClass, Reply},
    message::{Message, Stored},
    observe::Observed,
    queue::Consumer,
    refusal::{Answer, Refusal},
    state::State,
};
use crate::wire::{encode, properties::ContentHeader};

/// The pseudo-queue of RabbitMQ's direct reply-to; with a dot and a key it is an address.
const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

impl State {
    pub(super) fn on_basic(&mut self, id: SessionId, number: u16, method: Method, now: Instant) -> Reply {
        match method {
            Method::Consume(consume) => self.consume(id, number, &consume, now),
            Method::Cancel(cancel) => {
                self.cancel(id, number, cancel.consumer_tag.as_str(), now);
                let reply = basic::CancelOk { consumer_tag: cancel.consumer_tag };
                Ok((!cancel.nowait).then(|| Method::CancelOk(reply).into_class()))
            }
            Method::Get(get) => self.get(id, number, &get, now),
            Method::Ack(ack) => self.settle_deliveries(id, number, ack.delivery_tag, ack.multiple, None),
            Method::Nack(nack) => {
                let requeue = Some(nack.requeue);
                self.settle_deliveries(id, number, nack.delivery_tag, nack.multiple, requeue)
            }
            Method::Reject(reject) => {
                self.settle_deliveries(id, number, reject.delivery_tag, false, Some(reject.requeue))
            }
            Method::Qos(qos) => {
                self.qos(id, number, &qos)?;
                Ok(Some(Method::QosOk(basic::QosOk {}).into_class()))
            }
            Method::Recover(recover) => {
                self.recover(id, number, recover.requeue)?;
                Ok(Some(Method::RecoverOk(basic::RecoverOk {}).into_class()))
            }
            Method::RecoverAsync(recover) => self.recover(id, number, recover.requeue).map(|()| None),
            _ => Err(Refusal::new(503, "an answer from a client")),
        }
    }

    // ---- publishing ------------------------------------------------------------------------------------------

    pub(super) fn publish(
        &mut self,
        id: SessionId,
        number: u16,
        publish: basic::Publish,
        header: ContentHeader,
        body: Bytes,
        now: Instant,
    ) -> Answer {
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let (vhost, user) = (session.vhost.clone(), session.user.clone());
        session.publishes = true;
        if let Some(reason) = &self.blocked {
            session.tell_blocked(reason);
        }
        let header = self.with_reply_address(id, number, header)?;
        let exchange = self.vhosts.get(&vhost).and_then(|host| host.exchanges.get(publish.exchange.as_str()));
        match exchange {
            None => return Err(Refusal::no_exchange(publish.exchange.as_str(), &vhost)),
            Some(exchange) if exchange.internal => {
                return Err(Refusal::access(format!(
                    "cannot publish to internal exchange '{}' in vhost '{vhost}'",
                    publish.exchange
                )));
            }
            Some(_) => {}
        }
        let (message, headers) = Message::new(publish.exchange, publish.routing_key, header, body, &user)?;
        let message = Arc::new(message);
        let mut accepted = true;
        let routed = if message.exchange.as_str().is_empty()
            && let Some(address) = message.routing_key.as_str().strip_prefix("amq.rabbitmq.reply-to.")
        {
            self.reply(address, &message);
            // RabbitMQ returns a mandatory reply although it delivers it.
            false
        } else {
            let exchange = message.exchange.as_str();
            let queues = self.route(&vhost, exchange, &message.keys(), headers.as_ref())?;
            for queue in &queues {
                accepted &= self.enqueue(*queue, &message, now);
            }
            !queues.is_empty()
        };
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let frame_max = session.frame_max;
        let Some(channel) = session.channels.get_mut(&number) else { return Ok(()) };
        let out = &mut session.out;
        if publish.mandatory && !routed {
            let returned = basic::Return {
                reply_code: 312,
                reply_text: "NO_ROUTE".into(),
                exchange: message.exchange.clone(),
                routing_key: message.routing_key.clone(),
            };
            encode::method(out, number, &AMQPClass::Basic(Method::Return(returned)));
            encode::raw_header(out, number, 60, message.body.len() as u64, &message.header);
            encode::body(out, number, &message.body, frame_max);
        }
        channel.confirm(out, number, accepted);
        if !self.dead.is_empty() {
            self.settle(now);
        }
        Ok(())
    }

    /// Turns `reply_to` = the direct reply pseudo-queue into an address that reaches this channel.
    fn with_reply_address(
        &mut self,
        id: SessionId,
        number: u16,
        mut header: ContentHeader,
    ) -> Answer<ContentHeader> {
        if header.properties.reply_to().as_ref().is_some_and(|reply_to| reply_to.as_str() == DIRECT_REPLY_TO)
        {
            let key = self.channel(id, number).and_then(|channel| channel.replies.as_ref());
            let Some((_, key)) = key else {
                return Err(Refusal::precondition("fast reply consumer does not exist"));
            };
            let address = format!("{DIRECT_REPLY_TO}.{id}.{number}.{key}");
            header.properties =
                header.properties.with_reply_to(ShortString::try_new(address).unwrap_or_default());
        }
        Ok(header)
    }

    /// The connection and the channel of a consumer of direct replies, by what is behind the dot in its address.
    fn reply_consumer(&self, address: &str) -> Option<(SessionId, u16)> {
        let mut parts = address.splitn(3, '.');
        let (session, number, key) =
            (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?);
        let channel = self.sessions.get(&session)?.channels.get(&number)?;
        channel.replies.as_ref().filter(|(_, own)| own == key)?;
        Some((session, number))
    }

    /// Whether a declare of this name is answered by direct reply-to, where there is no queue: its pseudo-queue always, an
    /// address while its consumer is there.
    pub(super) fn answers_replies(&self, name: &str, vhost: &str) -> Answer<bool> {
        let Some(rest) = name.strip_prefix(DIRECT_REPLY_TO) else { return Ok(false) };
        match rest.strip_prefix('.') {
            Some(address) if self.reply_consumer(address).is_some() => Ok(true),
            Some(_) => Err(Refusal::no_queue(name, vhost)),
            None => Ok(rest.is_empty()),
        }
    }

    /// Delivers to a direct reply consumer, if it is still there.
    fn reply(&mut self, address: &str, message: &Arc<Message>) {
        let Some((session, number)) = self.reply_consumer(address) else { return };
        let copy = self.next_id();
        let Some(session) = self.sessions.get_mut(&session) else { return };
        let frame_max = session.frame_max;
        let Some(channel) = session.channels.get_mut(&number) else { return };
        let Some((tag, _)) = &channel.replies else { return };
        channel.next_delivery += 1;
        let routing_key = message.routing_key.as_str().as_bytes();
        encode::deliver(&mut session.out, number, tag, channel.next_delivery, false, b"", routing_key);
        let stored = Stored {
            number: copy,
            message: message.clone(),
            expires_at: None,
            redelivered: false,
            returns: 0,
            counts_returns: false,
        };
        content(&mut session.out, number, &stored, frame_max);
        session.wake.notify_one();
    }

    // ---- consuming -------------------------------------------------------------------------------------------

    fn consume(&mut self, id: SessionId, number: u16, consume: &basic::Consume, now: Instant) -> Reply {
        let tag: Arc<str> = if consume.consumer_tag.as_str().is_empty() {
            self.generated_name("amq.ctag-").into()
        } else {
            consume.consumer_tag.as_str().into()
        };
        if self.channel(id, number).is_some_and(|channel| {
            channel.consumers.contains_key(&tag)
                || channel.replies.as_ref().is_some_and(|(own, _)| *own == tag)
        }) {
            return Err(Refusal::new(530, format!("attempt to reuse consumer tag '{tag}'")));
        }
        let reply = basic::ConsumeOk { consumer_tag: ShortString::try_new(&*tag).unwrap_or_default() };
        let reply = (!consume.nowait).then(|| Method::ConsumeOk(reply).into_class());
        if consume.queue.as_str() == DIRECT_REPLY_TO {
            if !consume.no_ack {
                return Err(Refusal::precondition("reply consumer cannot acknowledge"));
            }
            let key = self.generated_name("");
            if let Some(channel) = self.channel(id, number) {
                if channel.replies.is_some() {
                    return Err(Refusal::precondition("reply consumer already set"));
                }
                channel.replies = Some((tag, key));
            }
            return Ok(reply);
        }
        let name = self.queue_name(id, number, &consume.queue)?;
        let queue_id = self.usable_queue(id, &name)?;
        let Some(channel) = self.sessions.get(&id).and_then(|session| session.channels.get(&number)) else {
            return Ok(None);
        };
        let (prefetch, global) = (channel.prefetch, channel.global_prefetch);
        let Some(queue) = self.queues.get_mut(&queue_id) else { return Ok(None) };
        if queue.settings().quorum && global > 0 {
            return Err(Refusal::not_implemented(format!("{} does not support global qos", queue.what())));
        }
        let taken = queue.consumers.iter().any(|other| other.exclusive);
        if taken || (consume.exclusive && !queue.consumers.is_empty()) {
            return Err(Refusal::access(format!("{} in exclusive use", queue.what())));
        }
        queue.add_consumer(Consumer {
            session: id,
            channel: number,
            tag: tag.clone(),
            no_ack: consume.no_ack,
            exclusive: consume.exclusive,
            priority: consume.arguments.inner().get("x-priority").and_then(integer).unwrap_or(0),
            prefetch,
            unacked: 0,
        });
        if let Some(channel) = self.channel(id, number) {
            channel.consumers.insert(tag, queue_id);
        }
        // The answer comes before the first delivery.
        if let Some(reply) = reply {
            self.send(id, number, &reply);
        }
        self.pump(queue_id, now);
        Ok(None)
    }

    fn cancel(&mut self, id: SessionId, number: u16, tag: &str, now: Instant) {
        let Some(channel) = self.channel(id, number) else { return };
        if channel.replies.as_ref().is_some_and(|(own, _)| **own == *tag) {
            channel.replies = None;
        }
        let Some(queue_id) = channel.consumers.remove(tag) else { return };
        if let Some(queue) = self.queues.get_mut(&queue_id) {
            queue.remove_consumers(|consumer| consumer.is(id, number, tag), now);
        }
        self.consumers_left(queue_id);
    }

    fn get(&mut self, id: SessionId, number: u16, get: &basic::Get, now: Instant) -> Reply {
        let name = self.queue_name(id, number, &get.queue)?;
        let queue_id = self.usable_queue(id, &name)?;
        self.expire_head(queue_id, now);
        let Some(queue) = self.queues.get_mut(&queue_id) else { return Ok(None) };
        if queue.settings().quorum && queue.settings().single_active_consumer {
            return Err(Refusal::new(
                405,
                format!(
                    "cannot obtain access to locked {}. basic.get operations are not supported by quorum queues with \
                     single active consumer",
                    queue.what()
                ),
            ));
        }
        queue.unused_since = now;
        let Some(stored) = queue.pop() else {
            self.reschedule(queue_id);
            return Ok(Some(Method::GetEmpty(basic::GetEmpty {}).into_class()));
        };
        let left = queue.len() as u32;
        self.reschedule(queue_id);
        self.observe(Observed::Delivered {
            copy: stored.number,
            redelivered: stored.redelivered,
            no_ack: get.no_ack,
        });
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(None) };
        let frame_max = session.frame_max;
        let Some(channel) = session.channels.get_mut(&number) else { return Ok(None) };
        channel.next_delivery += 1;
        let got = basic::GetOk {
            delivery_tag: channel.next_delivery,
            redelivered: stored.redelivered,
            exchange: stored.message.exchange.clone(),
            routing_key: stored.message.routing_key.clone(),
            message_count: left,
        };
        encode::method(&mut session.out, number, &Method::GetOk(got).into_class());
        content(&mut session.out, number, &stored, frame_max);
        if !get.no_ack {
            channel.unacked.insert(channel.next_delivery, Unacked { queue: queue_id, tag: None, stored });
        }
        Ok(None)
    }

    fn qos(&mut self, id: SessionId, number: u16, qos: &basic::Qos) -> Answer {
        let Some(channel) = self.sessions.get_mut(&id).and_then(|session| session.channels.get_mut(&number))
        else {
            return Ok(());
        };
        if !qos.global || self.deny_deprecated {
            channel.prefetch = qos.prefetch_count;
            return Ok(());
        }
        for queue_id in channel.consumers.values() {
            if let Some(queue) = self.queues.get(queue_id)
                && queue.settings().quorum
            {
                return Err(Refusal::not_implemented(format!(
                    "{} does not support global qos",
                    queue.what()
                )));
            }
        }
        channel.global_prefetch = qos.prefetch_count;
        self.dirty.extend(channel.consumers.values());
        Ok(())
    }

    // ---- settling --------------------------------------------------------------------------------------------

    /// An ack (`requeue` is `None`), or a nack or reject.
    fn settle_deliveries(
        &mut self,
        id: SessionId,
        number: u16,
        tag: u64,
        multiple: bool,
        requeue: Option<bool>,
    ) -> Reply {
        let Some(channel) = self.channel(id, number) else { return Ok(None) };
        let limited = channel.global_prefetch > 0;
        let settled = channel.settle(tag, multiple)?;
        if limited {
            let queues: Vec<_> = channel.consumers.values().copied().collect();
            self.dirty.extend(queues);
        }
        for (_, unacked) in settled {
            self.give_back_credit(id, number, &unacked);
            let copy = unacked.stored.number;
            match requeue {
                None => self.observe(Observed::Acked { copy }),
                Some(true) => {
                    self.observe(Observed::Requeued { copy });
                    self.requeue(unacked.queue, unacked.stored);
                }
                Some(false) => self.reject(unacked.queue, unacked.stored),
            }
        }
        // What can be delivered now goes out at the end of the batch: behind `basic.recover-ok`, for one.
        Ok(None)
    }

    fn give_back_credit(&mut self, id: SessionId, number: u16, unacked: &Unacked) {
        let Some(tag) = &unacked.tag else { return };
        let Some(queue) = self.queues.get_mut(&unacked.queue) else { return };
        if let Some(consumer) = queue.consumer(id, number, tag) {
            consumer.unacked = consumer.unacked.saturating_sub(1);
            if !queue.is_empty() {
                self.dirty.insert(unacked.queue);
            }
        }
    }

    fn recover(&mut self, id: SessionId, number: u16, requeue: bool) -> Answer {
        if !requeue {
            return Err(Refusal::not_implemented("requeue=false"));
        }
        self.settle_deliveries(id, number, 0, true, Some(true)).map(|_| ())
    }
}
