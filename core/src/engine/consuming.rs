//! The life of a consumer: started on a channel of its own, cancelled, refused, started again.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use amq_protocol::{
    protocol::{AMQPClass, basic, confirm},
    types::{AMQPValue, ShortString},
};
use tokio::time::Instant;

use super::{
    Engine,
    acks::{ChannelAcks, Lease},
    channel::{ChannelKind, Names},
    command::{Command, Pending},
    delivery_queue::DeliveryQueue,
    record::Item,
    replay::{Retry, RetryWhat},
    rpc::{ExpectedReply, Rpc},
};
use crate::{
    Error, ErrorKind,
    error::{NOT_IMPLEMENTED, Reply},
    events::{Event, NotRestored},
    topology::{Queue, QueueType},
};

/// How a consumer stands with the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// `basic.consume` is on its way, or will be once connected.
    Starting,
    Running,
    Cancelling,
    /// The broker cancelled it; it is tried again until its queue is back.
    Waiting,
}

pub(crate) struct Consumer {
    pub incoming: Arc<DeliveryQueue>,
    /// 0 without a channel.
    channel: u16,
    state: State,
    /// Who waits for the first `basic.consume-ok`.
    pub asked: Option<Pending<()>>,
    /// Who waits for a change of the prefetch.
    pub changes: Vec<Pending<()>>,
    /// Who asked for the end of it while it was being started anew.
    pub cancels: Vec<Pending<()>>,
    /// The prefetch that it was last started with.
    sent_prefetch: u16,
    /// Counts restarts on one channel, where each needs a tag of its own.
    restarts: u32,
    /// Since when the broker has been saying that somebody else has the queue.
    locked_since: Option<Instant>,
    retry_delay: Duration,
    /// Until when the answer to a cancel is read although the application holds all it may.
    cancel_until: Option<Instant>,
}

/// The first delay before a refused consumer is tried again; it doubles up to the recovery's longest delay.
const FIRST_RETRY: Duration = Duration::from_millis(50);

impl Consumer {
    /// The tag on the wire: tags are unique on a channel, and two of one consumer overlap while its prefetch changes.
    fn wire_tag(&self) -> ShortString {
        let tag = self.incoming.settings().tag.to_string();
        let text = if self.restarts == 0 { tag } else { format!("{tag}.{}", self.restarts) };
        ShortString::try_new(text).unwrap_or_default()
    }
}

impl Engine {
    pub(super) fn consume(&mut self, incoming: Arc<DeliveryQueue>, mut reply: Pending<()>) {
        let refused = {
            let mut settings = incoming.settings();
            let recorded = self.record.queue(&settings.queue).map(|recorded| &recorded.queue);
            settings.stream |= recorded.is_some_and(|queue| queue.kind() == Some(QueueType::Stream));
            // Elsewhere a changed prefetch starts the consumer anew: that would hand a single active consumer's place to
            // the next in line, and an exclusive one has to go before it can start again, which is the end of an
            // auto-delete queue.
            let single = recorded.is_some_and(Queue::is_single_active_consumer);
            let may_be_classic =
                recorded.is_none_or(|queue| queue.kind().is_none_or(|kind| kind == QueueType::Classic));
            settings.global_prefetch |= may_be_classic && !settings.stream && (single || settings.exclusive);
            (settings.stream && settings.prefetch == 0).then(no_stream_prefetch)
        };
        if let Some(error) = refused {
            reply.answer(Err(error));
            return;
        }
        self.record.consume(&incoming.settings().queue);
        if let Some(requests) = incoming.requests.clone() {
            requests.with(|window| window.set_blocked(self.live.blocked));
            self.requests.push(requests);
        }
        let id = incoming.id;
        self.consumers.insert(
            id,
            Consumer {
                incoming,
                channel: 0,
                state: State::Starting,
                asked: Some(reply),
                changes: Vec::new(),
                cancels: Vec::new(),
                sent_prefetch: 0,
                restarts: 0,
                locked_since: None,
                retry_delay: FIRST_RETRY,
                cancel_until: None,
            },
        );
        self.start_consumer(id);
    }

    /// Opens a channel for the consumer and consumes, all in one go.
    pub(super) fn start_consumer(&mut self, id: u64) {
        let (link, epoch) = (self.link.clone(), self.epoch);
        // One that has a channel was started by something else that waited for its queue.
        let Some(consumer) = self.consumers.get_mut(&id).filter(|consumer| consumer.channel == 0) else {
            return;
        };
        consumer.state = State::Starting;
        consumer.restarts = 0;
        let incoming = consumer.incoming.clone();
        let requests = incoming.requests.clone();
        let (names, stream) = {
            let settings = incoming.settings();
            (Names::of(settings.tag.clone()), settings.stream)
        };
        let number = self.open_channel(|number| ChannelKind::Consume {
            incoming,
            lease: Arc::new(Lease { acks: ChannelAcks::new(link, number, epoch, stream) }),
            names,
        });
        let Some(number) = number else {
            let error = self.no_channel("consume");
            self.consume_refused(id, &error);
            return;
        };
        if let Some(consumer) = self.consumers.get_mut(&id) {
            consumer.channel = number;
        }
        if let Some(requests) = requests {
            let select = confirm::AMQPMethod::Select(confirm::Select { nowait: false });
            self.request(number, AMQPClass::Confirm(select), ExpectedReply::Step);
            if let Some(channel) = self.live.channels.get(number) {
                channel.publishing = Some(requests);
            }
        }
        self.send_consume(id, number);
    }

    fn send_consume(&mut self, id: u64, number: u16) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        let tag = consumer.wire_tag();
        let (qos, consume) = {
            let settings = consumer.incoming.settings();
            consumer.sent_prefetch = settings.prefetch;
            let mut arguments = settings.arguments.clone();
            if let Some(last) = settings.last_offset {
                arguments.insert("x-stream-offset".into(), AMQPValue::LongLongInt(last.saturating_add(1)));
            }
            let qos = (settings.prefetch > 0).then_some(basic::Qos {
                prefetch_count: settings.prefetch,
                global: settings.global_prefetch,
            });
            let consume = basic::Consume {
                queue: ShortString::try_new(settings.queue.clone()).unwrap_or_default(),
                consumer_tag: tag,
                no_local: false,
                no_ack: settings.no_ack,
                exclusive: settings.exclusive,
                nowait: false,
                arguments,
            };
            (qos, consume)
        };
        if let Some(qos) = qos {
            self.request(number, AMQPClass::Basic(basic::AMQPMethod::Qos(qos)), ExpectedReply::Step);
        }
        self.request(
            number,
            AMQPClass::Basic(basic::AMQPMethod::Consume(consume)),
            ExpectedReply::Consume(id),
        );
    }

    /// `basic.consume-ok`.
    pub(super) fn on_consume_ok(&mut self, id: u64) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        if consumer.state != State::Cancelling {
            consumer.state = State::Running;
        }
        consumer.locked_since = None;
        let resumed = consumer.retry_delay > FIRST_RETRY;
        consumer.retry_delay = FIRST_RETRY;
        if let Some(mut asked) = consumer.asked.take() {
            asked.answer(Ok(()));
        }
        if let Some(requests) = consumer.incoming.requests.clone() {
            let number = consumer.channel;
            requests.with(|window| window.open(number));
        }
        if resumed {
            let settings = consumer.incoming.settings();
            self.events.send(Event::ConsumerResumed {
                consumer_tag: settings.tag.to_string(),
                queue: settings.queue.clone(),
            });
        }
        self.replayed(Item::Consumer(id), Ok(None));
        self.go_on(id);
    }

    // ---- refusals --------------------------------------------------------------------------------------------

    /// The broker refused `basic.consume`, or no channel was free for it.
    pub(super) fn consume_refused(&mut self, id: u64, error: &Error) {
        if error.reply_code() == Some(NOT_IMPLEMENTED) && self.give_up_global_prefetch(id) {
            // That has ended the connection: the consumer starts on the next one.
            return;
        }
        self.give_up_or_retry(id, error);
        // Whatever became of it, a recovery waits for it no longer.
        self.consumer_settled(id);
    }

    /// A queue that somebody else has declared is not classic: only those know a prefetch limit of the channel. Returns
    /// whether the consumer was to have one.
    fn give_up_global_prefetch(&mut self, id: u64) -> bool {
        let consumer = self.consumers.get(&id);
        consumer.is_some_and(|consumer| std::mem::take(&mut consumer.incoming.settings().global_prefetch))
    }

    fn give_up_or_retry(&mut self, id: u64, error: &Error) {
        let heartbeat = self.options.heartbeat.max(Duration::from_secs(1));
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        consumer.channel = 0;
        if let Some(mut asked) = consumer.asked.take() {
            let what = format!("{}: {error}", asked.name);
            let mut named = Error::new(error.kind(), what);
            if let Some(reply) = error.reply() {
                named = named.with_reply(reply.clone());
            }
            asked.answer(Err(named));
            self.drop_consumer(id);
            return;
        }
        if consumer.state == State::Cancelling {
            self.drop_consumer(id);
            return;
        }
        let now = Instant::now();
        match error.kind() {
            // The broker may still hold the connection that was lost.
            ErrorKind::ResourceLocked | ErrorKind::AccessRefused
                if *consumer.locked_since.get_or_insert(now) + heartbeat * 3 > now =>
            {
                self.retry_consumer(id);
            }
            _ => {
                let resume = consumer.incoming.settings().resume;
                let restoring = consumer.retry_delay == FIRST_RETRY;
                if restoring {
                    let what = format!("consumer of queue '{}'", consumer.incoming.settings().queue);
                    self.not_restored(NotRestored { what, error: error.clone() });
                }
                if resume {
                    if restoring {
                        self.tell_cancelled(id, true);
                    }
                    self.retry_consumer(id);
                } else {
                    self.tell_cancelled(id, false);
                    self.end_consumer(id, Some(cancelled_error(error)));
                }
            }
        }
    }

    /// Tries the consumer again later.
    fn retry_consumer(&mut self, id: u64) {
        let longest = self.options.recovery.max_delay;
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        consumer.state = State::Waiting;
        for mut change in consumer.changes.drain(..) {
            // It starts with the new value.
            change.answer(Ok(()));
        }
        let delay = consumer.retry_delay;
        consumer.retry_delay = (delay * 2).min(longest.max(FIRST_RETRY * 2));
        self.retries.push(Retry { at: Instant::now() + delay, what: RetryWhat::Consumer(id) });
    }

    fn tell_cancelled(&self, id: u64, resumes: bool) {
        if let Some(consumer) = self.consumers.get(&id) {
            let settings = consumer.incoming.settings();
            self.events.send(Event::ConsumerCancelled {
                consumer_tag: settings.tag.to_string(),
                queue: settings.queue.clone(),
                resumes,
            });
        }
    }

    /// The broker closed the consumer's channel.
    pub(super) fn consumer_channel_closed(
        &mut self,
        id: u64,
        rpcs: VecDeque<Rpc>,
        refused: Option<Rpc>,
        reply: &Reply,
    ) {
        let error = Error::from_reply("consumer", reply.clone());
        let (mut starting, mut cancelled) = (false, false);
        if let Some(consumer) = self.consumers.get_mut(&id) {
            // Its number is free for another.
            consumer.channel = 0;
            starting = consumer.state == State::Starting;
            cancelled = consumer.state == State::Cancelling;
        }
        for rpc in refused.into_iter().chain(rpcs) {
            match rpc.expected {
                // Gone with its channel, which is what was asked for.
                ExpectedReply::Cancel(mut reply) => {
                    cancelled = true;
                    reply.answer(Ok(()));
                }
                ExpectedReply::Step
                | ExpectedReply::Consume(_)
                | ExpectedReply::Restart(_)
                | ExpectedReply::Replaced(_) => {}
                _ => self.fail_waiter(rpc, Some(reply)),
            }
        }
        if cancelled {
            self.requeued_undelivered(id);
            self.drop_consumer(id);
        } else if starting {
            self.consume_refused(id, &error);
        } else if self.consumers.get(&id).is_some_and(|consumer| consumer.incoming.requests.is_some()) {
            // One of its requests was refused, not the consumer.
            self.start_consumer(id);
        } else {
            self.requeued_undelivered(id);
            let resumes = self.consumers.get(&id).is_some_and(|consumer| consumer.incoming.settings().resume);
            self.tell_cancelled(id, resumes);
            if resumes {
                self.retry_consumer(id);
            } else {
                self.end_consumer(id, Some(error));
            }
        }
    }

    /// The broker has put back what the application never saw.
    fn requeued_undelivered(&mut self, id: u64) {
        if let Some(consumer) = self.consumers.get(&id) {
            let keep = {
                let settings = consumer.incoming.settings();
                settings.no_ack || settings.stream
            };
            if !keep {
                drop(consumer.incoming.take_undelivered());
            }
        }
    }

    /// `basic.cancel` from the broker (RabbitMQ, consumer cancel notification).
    pub(super) fn cancelled_by_broker(&mut self, number: u16, tag: &str) {
        if self.was_replaced(number, tag) {
            return;
        }
        let Some(id) = self.move_to_draining(number) else {
            return;
        };
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        consumer.channel = 0;
        let cancelling = consumer.state == State::Cancelling;
        let resumes = consumer.incoming.settings().resume && !cancelling;
        self.end_restart(number);
        self.tell_cancelled(id, resumes);
        if resumes {
            self.retry_consumer(id);
        } else if cancelling {
            self.drop_consumer(id);
        } else {
            let queue = self.consumers.get(&id).map(|consumer| consumer.incoming.settings().queue.clone());
            let error = Error::new(
                ErrorKind::ConsumerCancelled,
                format!(
                    "the broker cancelled the consumer of queue '{}': the queue was deleted or its node failed",
                    queue.unwrap_or_default()
                ),
            );
            self.end_consumer(id, Some(error));
        }
    }

    /// Whether the consumer with this tag is known to have another in its place, which goes on.
    fn was_replaced(&mut self, number: u16, tag: &str) -> bool {
        let Some(channel) = self.live.channels.get(number) else {
            return false;
        };
        let ChannelKind::Consume { incoming, .. } = &channel.kind else {
            return false;
        };
        let consumer = self.consumers.get(&incoming.id);
        consumer.is_some_and(|consumer| consumer.wire_tag().as_str() != tag)
            && !channel.rpcs.iter().any(is_restart)
    }

    /// A consumer that was being started anew on this channel, with another prefetch, was cancelled. Whether the broker
    /// starts it all the same is not known yet: it goes with its channel, so that there are never two.
    fn end_restart(&mut self, number: u16) {
        let Some(channel) = self.live.channels.get(number) else {
            return;
        };
        if !channel.rpcs.iter().any(is_restart) {
            return;
        }
        if let Some(acks) = channel.kind.acks().cloned() {
            acks.flush(&mut self.live.out);
        }
        self.close_channel(number);
    }

    /// Leaves a consumer's channel to the deliveries that are still with the application. Returns the consumer.
    fn move_to_draining(&mut self, number: u16) -> Option<u64> {
        let channel = self.live.channels.get(number)?;
        let ChannelKind::Consume { incoming, lease, .. } = &channel.kind else {
            return None;
        };
        let (id, acks) = (incoming.id, lease.acks.clone());
        channel.publishing = None;
        // Drops the engine's share of the lease: when no delivery holds it either, the channel is released.
        channel.kind = ChannelKind::Draining(acks);
        Some(id)
    }

    // ---- the owner's wishes ----------------------------------------------------------------------------------

    pub(super) fn cancel(&mut self, id: u64, mut reply: Pending<()>) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            // It may still wait for the connection.
            let is_it = |command: &mut Command| matches!(command, Command::Consume { incoming, .. } if incoming.id == id);
            if let Some(place) = self.deferred.iter_mut().position(is_it)
                && let Some(command) = self.deferred.remove(place)
            {
                command.fail(super::closed());
            }
            reply.answer(Ok(()));
            return;
        };
        if consumer.channel == 0 {
            self.drop_consumer(id);
            reply.answer(Ok(()));
            return;
        }
        if consumer.state == State::Starting {
            // RabbitMQ 3.10 ends the connection (541) over a `basic.cancel` that comes right behind its `basic.consume`.
            // Nothing of this channel was handed out before its consume-ok, so that closing it gives everything back.
            let number = consumer.channel;
            self.close_channel(number);
            self.drop_consumer(id);
            self.consumer_settled(id);
            reply.answer(Ok(()));
            return;
        }
        consumer.state = State::Cancelling;
        consumer.cancel_until = Some(reply.deadline);
        let (number, consumer_tag) = (consumer.channel, consumer.wire_tag());
        let incoming = consumer.incoming.clone();
        if self.is_starting_anew(number) {
            // As above; but here the application may hold deliveries of the channel.
            self.consumers.entry(id).and_modify(|consumer| consumer.cancels.push(reply));
            return;
        }
        self.send_cancel(number, consumer_tag, ExpectedReply::Cancel(reply));
        incoming.settings().cancelling = true;
        put_back(&incoming);
    }

    /// Whether a cancel waits for its answer. Reading must go on for that, also when the application holds all it may:
    /// it may be waiting itself, and nothing comes behind the answer.
    pub(super) fn is_cancelling(&self) -> bool {
        self.consumers
            .values()
            .filter_map(|consumer| consumer.cancel_until)
            .any(|until| until > Instant::now())
    }

    fn send_cancel(&mut self, number: u16, consumer_tag: ShortString, expected: ExpectedReply) {
        let cancel = basic::AMQPMethod::Cancel(basic::Cancel { consumer_tag, nowait: false });
        self.request(number, AMQPClass::Basic(cancel), expected);
    }

    /// `basic.cancel-ok`: what was not handed out goes back to the queue.
    pub(super) fn on_cancel_ok(&mut self, number: u16, mut reply: Pending<()>) {
        if let Some(id) = self.move_to_draining(number)
            && let Some(consumer) = self.consumers.get(&id)
        {
            put_back(&consumer.incoming);
            if let Some(ChannelKind::Draining(acks)) =
                self.live.channels.get(number).map(|channel| &channel.kind)
            {
                let acks = acks.clone();
                acks.flush(&mut self.live.out);
            }
            self.end_consumer(id, None);
        }
        reply.answer(Ok(()));
    }

    pub(super) fn set_prefetch(&mut self, id: u64, prefetch: u16, mut reply: Pending<()>) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            let error = has_ended(&reply.name);
            reply.answer(Err(error));
            return;
        };
        let global = {
            let mut settings = consumer.incoming.settings();
            if settings.no_ack {
                // It has no meaning without acks.
                drop(settings);
                reply.answer(Ok(()));
                return;
            }
            if settings.stream && prefetch == 0 {
                drop(settings);
                reply.answer(Err(no_stream_prefetch()));
                return;
            }
            settings.prefetch = prefetch;
            settings.global_prefetch
        };
        let number = consumer.channel;
        if number == 0 || consumer.state == State::Cancelling {
            // It starts with the new value, if it starts again.
            reply.answer(Ok(()));
            return;
        }
        if global {
            let qos = basic::AMQPMethod::Qos(basic::Qos { prefetch_count: prefetch, global: true });
            self.request(number, AMQPClass::Basic(qos), ExpectedReply::Done(reply));
            return;
        }
        consumer.changes.push(reply);
        self.go_on(id);
    }

    /// Does what was asked of a consumer while it was being started, or started anew, once that is over. Not before:
    /// RabbitMQ has not taken note of a consumer whose consume-ok is on its way, and which tag is whose has to be certain.
    pub(super) fn go_on(&mut self, id: u64) {
        let number = self.consumers.get(&id).map_or(0, |consumer| consumer.channel);
        if number == 0 || self.is_starting_anew(number) {
            return;
        }
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        if consumer.state == State::Cancelling {
            for reply in std::mem::take(&mut consumer.cancels) {
                self.cancel(id, reply);
            }
        } else if consumer.sent_prefetch == consumer.incoming.settings().prefetch {
            for mut change in consumer.changes.drain(..) {
                change.answer(Ok(()));
            }
        } else if !consumer.changes.is_empty() {
            self.start_anew(id, number);
        }
    }

    /// Whether something of the start of a channel's consumer, or of its replacement by another, waits for its answer.
    fn is_starting_anew(&mut self, number: u16) -> bool {
        let waits = |rpc: &Rpc| is_restart(rpc) || matches!(rpc.expected, ExpectedReply::Replaced(_));
        self.live.channels.get(number).is_some_and(|channel| channel.rpcs.iter().any(waits))
    }

    /// Replaces a running consumer by one with the prefetch that its settings say.
    fn start_anew(&mut self, id: u64, number: u16) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        let old_tag = consumer.wire_tag();
        consumer.restarts += 1;
        let (stream, exclusive, prefetch) = {
            let settings = consumer.incoming.settings();
            (settings.stream, settings.exclusive, settings.prefetch)
        };
        if stream {
            // The offset to go on from is known once nothing more comes.
            self.send_cancel(number, old_tag, ExpectedReply::Restart(id));
        } else if exclusive {
            self.send_cancel(number, old_tag, ExpectedReply::Replaced(id));
            self.send_qos_off(number, prefetch);
            self.send_consume(id, number);
        } else {
            // The new consumer before the old one goes: a queue that is deleted with its last consumer stays. On one
            // channel, so that order is kept.
            self.send_qos_off(number, prefetch);
            self.send_consume(id, number);
            self.send_cancel(number, old_tag, ExpectedReply::Replaced(id));
        }
    }

    /// No prefetch limit has to be said on a channel that had one.
    fn send_qos_off(&mut self, number: u16, prefetch: u16) {
        if prefetch == 0 {
            let qos = basic::AMQPMethod::Qos(basic::Qos { prefetch_count: 0, global: false });
            self.request(number, AMQPClass::Basic(qos), ExpectedReply::Step);
        }
    }

    /// The old consumer of a stream is gone; the new one goes on at the next offset.
    pub(super) fn restart(&mut self, number: u16, id: u64) {
        self.send_consume(id, number);
    }

    pub(super) fn recover(&mut self, id: u64, mut reply: Pending<()>) {
        let number = self.consumers.get(&id).map_or(0, |consumer| consumer.channel);
        let acks = match self.live.channels.get(number).map(|channel| &channel.kind) {
            Some(ChannelKind::Consume { lease, .. }) if lease.acks.stream => {
                // RabbitMQ 3.10 ends the connection over it (541).
                let text = format!("{}: a stream keeps its messages and takes none back", reply.name);
                reply.answer(Err(Error::invalid(text)));
                return;
            }
            Some(ChannelKind::Consume { lease, .. }) => lease.acks.clone(),
            _ => {
                let error = has_ended(&reply.name);
                reply.answer(Err(error));
                return;
            }
        };
        acks.flush_and_hold(&mut self.live.out);
        let recover = basic::AMQPMethod::Recover(basic::Recover { requeue: true });
        self.request(number, AMQPClass::Basic(recover), ExpectedReply::Recovered(reply));
    }

    /// `basic.recover-ok`: every delivery so far is void, and comes again.
    pub(super) fn on_recover_ok(&mut self, number: u16, mut reply: Pending<()>) {
        let role = self.live.channels.get(number).map(|channel| &channel.kind);
        // The consumer may have been cancelled meanwhile.
        if let Some(acks) = role.and_then(ChannelKind::acks) {
            acks.forget_unsettled();
        }
        if let Some(ChannelKind::Consume { incoming, .. }) = role {
            drop(incoming.take_undelivered());
        }
        reply.answer(Ok(()));
    }

    // ---- the end of a consumer -------------------------------------------------------------------------------

    fn end_consumer(&mut self, id: u64, reason: Option<Error>) {
        let Some(mut consumer) = self.consumers.remove(&id) else {
            return;
        };
        self.record.stop_consuming(&consumer.incoming.settings().queue);
        if let Some(requests) = &consumer.incoming.requests {
            let error = reason.clone().unwrap_or_else(|| {
                Error::new(ErrorKind::Closed, "the consumer that waited for the answers was cancelled")
            });
            requests.with(|window| window.close(&error));
            self.requests.retain(|known| !Arc::ptr_eq(known, requests));
        }
        if let Some(mut asked) = consumer.asked.take() {
            asked.answer(Err(reason.clone().unwrap_or_else(super::closed)));
        }
        for mut change in consumer.changes {
            change.answer(Err(reason.clone().unwrap_or_else(|| has_ended(&change.name))));
        }
        for mut cancel in consumer.cancels {
            cancel.answer(Ok(()));
        }
        consumer.incoming.end(reason);
    }

    /// Ends a consumer that has no channel.
    pub(super) fn drop_consumer(&mut self, id: u64) {
        self.end_consumer(id, None);
    }

    /// The connection is gone: consumers wait for the next one.
    pub(super) fn suspend_consumers(&mut self) {
        let ids: Vec<u64> = self.consumers.keys().copied().collect();
        for id in ids {
            self.requeued_undelivered(id);
            let Some(consumer) = self.consumers.get_mut(&id) else {
                continue;
            };
            consumer.channel = 0;
            if consumer.state == State::Cancelling {
                self.drop_consumer(id);
            } else {
                consumer.state = State::Starting;
            }
        }
    }
}

/// Gives what was never handed out back to the queue.
fn put_back(incoming: &DeliveryQueue) {
    // Without acks the broker has forgotten them, so the application still gets them.
    if !incoming.settings().no_ack {
        for delivery in incoming.take_undelivered() {
            delivery.put_back();
        }
    }
}

/// Whether it is not known yet if the consumer will be started.
fn is_restart(rpc: &Rpc) -> bool {
    matches!(rpc.expected, ExpectedReply::Consume(_) | ExpectedReply::Restart(_))
}

/// What is said to whoever wants something of a consumer that is over.
pub(super) fn has_ended(name: &str) -> Error {
    Error::new(ErrorKind::ConsumerCancelled, format!("{name}: it has ended"))
}

fn no_stream_prefetch() -> Error {
    Error::invalid("a stream is consumed with a prefetch limit: give one above 0 (RabbitMQ, streams)")
}

/// What a consumer ends with when its queue is not there any more after a reconnect.
fn cancelled_error(error: &Error) -> Error {
    let mut cancelled = Error::new(
        ErrorKind::ConsumerCancelled,
        format!("the consumer could not be restored after a reconnect: {error}"),
    );
    if let Some(reply) = error.reply() {
        cancelled = cancelled.with_reply(reply.clone());
    }
    cancelled
}
