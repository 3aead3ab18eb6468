//! From a queue to its consumers, and from a queue to where its dead letters go.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use amq_protocol::types::{AMQPValue, FieldArray, FieldTable, ShortString};
use tokio::time::Instant;

use super::{
    QueueId,
    arguments::text,
    channel::Unacked,
    message::{Message, Stored},
    observe::Observed,
    queue::Declared,
    state::{Reason, State},
};
use crate::wire::encode;

impl State {
    /// Delivers what the consumers of a queue have credit for.
    pub fn pump(&mut self, id: QueueId, now: Instant) {
        self.expire_head(id, now);
        self.hand_out(id, now);
    }

    /// The same, with what has just come in: a message with a TTL of 0 goes to a consumer that is ready for it.
    pub fn hand_out(&mut self, id: QueueId, now: Instant) {
        while let Some(place) = self.next_consumer(id) {
            let Some(queue) = self.queues.get_mut(&id) else { return };
            let Some(stored) = queue.pop() else { break };
            let consumer = &mut queue.consumers[place];
            let (no_ack, tag) = (consumer.no_ack, consumer.tag.clone());
            let (session, number) = (consumer.session, consumer.channel);
            if !no_ack {
                consumer.unacked += 1;
            }
            queue.rotate(place);
            self.observe(Observed::Delivered {
                copy: stored.number,
                redelivered: stored.redelivered,
                no_ack,
            });
            let Some(session) = self.sessions.get_mut(&session) else { return };
            let frame_max = session.frame_max;
            let Some(channel) = session.channels.get_mut(&number) else { return };
            channel.next_delivery += 1;
            let out = &mut session.out;
            let message = &stored.message;
            encode::deliver(
                out,
                number,
                &tag,
                channel.next_delivery,
                stored.redelivered,
                message.exchange.as_str().as_bytes(),
                message.routing_key.as_str().as_bytes(),
            );
            content(out, number, &stored, frame_max);
            session.wake.notify_one();
            if !no_ack {
                let tag = Some(tag);
                channel.unacked.insert(channel.next_delivery, Unacked { queue: id, tag, stored });
            }
            self.expire_head(id, now);
        }
        self.reschedule(id);
    }

    /// The consumer whose turn it is, if one can take a message.
    fn next_consumer(&mut self, id: QueueId) -> Option<usize> {
        let queue = self.queues.get(&id)?;
        if queue.is_empty() {
            return None;
        }
        for place in 0..queue.active() {
            let consumer = &queue.consumers[place];
            let Some(session) = self.sessions.get_mut(&consumer.session) else { continue };
            let Some(channel) = session.channels.get(&consumer.channel) else { continue };
            if !consumer.has_credit() || !channel.can_take(consumer.no_ack) {
                continue;
            }
            if session.has_room() {
                return Some(place);
            }
            session.starved.insert(id);
        }
        None
    }

    /// Routes a message that its queue gave up to the queue's dead letter exchange, if it has one.
    pub fn dead_letter(&mut self, queue: &Declared, stored: &Stored, reason: Reason, now: Instant) {
        let Some(target) = &queue.settings.dead_letter else { return };
        let message = died(queue, &stored.message, reason, target.routing_key.as_deref());
        let properties = message.properties();
        let headers = properties.headers().as_ref();
        // The exchange may not exist (yet): then the message is dropped.
        let Ok(queues) = self.route(&queue.vhost, &target.exchange, &message.keys(), headers) else { return };
        let message = Arc::new(message);
        for id in queues {
            let name = self.queues.get(&id).map(|queue| queue.declared.name.clone());
            if reason != Reason::Rejected && name.is_some_and(|name| is_cycle(headers, &name)) {
                continue;
            }
            self.enqueue(id, &message, now);
        }
    }
}

/// Writes header and body of a copy.
pub(super) fn content(out: &mut Vec<u8>, channel: u16, stored: &Stored, frame_max: u32) {
    let message = &stored.message;
    if stored.returns > 0 && stored.counts_returns {
        let properties = message.properties();
        let mut headers = properties.headers().clone().unwrap_or_default();
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(stored.returns.cast_signed()));
        encode::header(out, channel, 60, message.body.len() as u64, &properties.with_headers(headers));
    } else {
        encode::raw_header(out, channel, 60, message.body.len() as u64, &message.header);
    }
    encode::body(out, channel, &message.body, frame_max);
}

/// The message as its dead letter exchange gets it (RabbitMQ, dead letter exchanges, effects on messages).
fn died(queue: &Declared, message: &Message, reason: Reason, routing_key: Option<&str>) -> Message {
    let target = queue.settings.dead_letter.as_ref().map_or("", |target| target.exchange.as_str());
    let mut properties = message.properties();
    let mut headers = properties.headers().clone().unwrap_or_default();
    let expiration = properties.expiration().clone();
    let mut deaths: Vec<AMQPValue> = match headers.inner().get("x-death") {
        Some(AMQPValue::FieldArray(deaths)) => deaths.as_slice().to_vec(),
        _ => Vec::new(),
    };
    let same = |death: &AMQPValue| match death {
        AMQPValue::FieldTable(death) => {
            field(death, "queue").as_deref() == Some(&*queue.name)
                && field(death, "reason").as_deref() == Some(reason.name())
        }
        _ => false,
    };
    let before = deaths.iter().position(same).map(|at| deaths.remove(at));
    let count = match &before {
        Some(AMQPValue::FieldTable(death)) => {
            death.inner().get("count").and_then(super::arguments::integer).unwrap_or(0)
        }
        _ => 0,
    };
    let mut death = match before {
        Some(AMQPValue::FieldTable(death)) => death,
        _ => first_death(queue, message, reason, expiration.as_ref()),
    };
    death.insert("count".into(), AMQPValue::LongLongInt(count + 1));
    deaths.insert(0, AMQPValue::FieldTable(death));
    headers.insert("x-death".into(), AMQPValue::FieldArray(deaths.into()));
    if !headers.contains_key("x-first-death-reason") {
        for (key, value) in [
            ("x-first-death-reason", reason.name()),
            ("x-first-death-queue", &*queue.name),
            ("x-first-death-exchange", message.exchange.as_str()),
        ] {
            headers.insert(key.into(), AMQPValue::LongString(value.into()));
        }
    }
    if expiration.is_some() {
        properties = without_expiration(&properties);
    }
    let properties = properties.with_headers(headers);
    let new_key = routing_key.map(|key| ShortString::try_new(key).unwrap_or_default());
    Message {
        exchange: ShortString::try_new(target).unwrap_or_default(),
        more_keys: if new_key.is_some() { Vec::new() } else { message.more_keys.clone() },
        routing_key: new_key.unwrap_or_else(|| message.routing_key.clone()),
        header: encode::property_list(&properties),
        expiration: None,
        ..message.clone()
    }
}

fn first_death(
    queue: &Declared,
    message: &Message,
    reason: Reason,
    expiration: Option<&ShortString>,
) -> FieldTable {
    let mut death = FieldTable::default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut keys = FieldArray::default();
    for key in message.keys() {
        keys.push(AMQPValue::LongString(key.into()));
    }
    death.insert("reason".into(), AMQPValue::LongString(reason.name().into()));
    death.insert("queue".into(), AMQPValue::LongString((&*queue.name).into()));
    death.insert("time".into(), AMQPValue::Timestamp(now.as_secs()));
    death.insert("exchange".into(), AMQPValue::LongString(message.exchange.as_str().into()));
    death.insert("routing-keys".into(), AMQPValue::FieldArray(keys));
    if let Some(expiration) = expiration {
        death.insert("original-expiration".into(), AMQPValue::LongString(expiration.as_str().into()));
    }
    death
}

/// Whether the message has been in this queue before and nobody rejected it since, so that it would circulate for ever.
fn is_cycle(headers: Option<&FieldTable>, queue: &str) -> bool {
    let Some(AMQPValue::FieldArray(deaths)) = headers.and_then(|headers| headers.inner().get("x-death"))
    else {
        return false;
    };
    let tables = deaths.as_slice().iter().filter_map(|death| match death {
        AMQPValue::FieldTable(death) => Some(death),
        _ => None,
    });
    for death in tables {
        if field(death, "reason").as_deref() == Some("rejected") {
            return false;
        }
        if field(death, "queue").as_deref() == Some(queue) {
            return true;
        }
    }
    false
}

fn field(table: &FieldTable, key: &str) -> Option<String> {
    table.inner().get(key).and_then(text)
}

/// There is no way to take a property back but to leave it out.
fn without_expiration(properties: &crate::message::Properties) -> crate::message::Properties {
    let mut kept = crate::message::Properties::default();
    macro_rules! keep {
        ($($get:ident $with:ident),*) => {
            $(if let Some(value) = properties.$get() {
                kept = kept.$with(value.clone());
            })*
        };
    }
    keep!(
        content_type with_content_type,
        content_encoding with_content_encoding,
        headers with_headers,
        delivery_mode with_delivery_mode,
        priority with_priority,
        correlation_id with_correlation_id,
        reply_to with_reply_to,
        message_id with_message_id,
        timestamp with_timestamp,
        kind with_type,
        user_id with_user_id,
        app_id with_app_id,
        cluster_id with_cluster_id
    );
    kept
}
