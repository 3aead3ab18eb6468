//! The life of a consumer.
//!
//! | module | what it is |
//! |---|---|
//! | [`machine`] | the states and what each event does to them, without I/O |
//! | [`resume`] | what the machine does when a consumer is interrupted: it resumes, or ends |
//! | [`prefetch`] | how the prefetch of a running consumer is changed |
//! | [`start`] | the engine starts a consumer: its channel, `basic.qos`, `basic.consume` |
//! | [`end`] | the engine ends a consumer: its channel, its messages, its handle |
//!
//! This file carries out what the machine says.

mod end;
mod machine;
#[cfg(test)]
mod machine_tests;
mod prefetch;
mod resume;
mod start;

use std::sync::Arc;

use amq_protocol::protocol::{AMQPClass, basic};
use tokio::time::Instant;

use self::machine::{Action, Event as Happened, Machine, OnWire, Outcome, Reason};
pub(super) use self::{end::has_ended, start::RefusedConsumes};
use super::{
    Engine,
    channel::ChannelKind,
    command::{Command, Pending},
    delivery_queue::DeliveryQueue,
    replay::{Retry, RetryWhat},
    rpc::ExpectedReply,
};
use crate::{
    Error,
    events::{Event, NotRestored},
};

/// A consumer of this connection and of those after it.
pub(crate) struct Consumer {
    pub incoming: Arc<DeliveryQueue>,
    machine: Machine<Pending<()>>,
}

impl Consumer {
    /// Everybody who waits for something of it.
    pub fn waiting(&mut self) -> impl Iterator<Item = &mut Pending<()>> {
        self.machine.waiting()
    }

    /// A message of a stream arrived.
    pub fn arrived_at(&mut self, offset: i64) {
        self.machine.arrived_at(offset);
    }
}

impl Engine {
    /// Tells a consumer what happened, and does what follows.
    fn consumer_event(&mut self, id: u64, event: Happened<Pending<()>>) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        let actions = consumer.machine.on(event, Instant::now());
        for action in actions {
            self.consumer_action(id, action);
        }
    }

    fn consumer_action(&mut self, id: u64, action: Action<Pending<()>>) {
        match action {
            Action::Consume { on, qos } => self.send_consume(id, on, qos),
            Action::Cancel(on) => self.send_cancel(id, on),
            Action::ReturnArrivals(number) => {
                if let Some(ChannelKind::Consume { returning, .. }) =
                    self.live.channels.get(number).map(|channel| &mut channel.kind)
                {
                    *returning = true;
                }
            }
            Action::CloseChannel(number) => {
                self.flush_channel_acks(number);
                self.close_channel(number);
            }
            Action::Drain(number) => self.drain_channel(number),
            Action::PutBack => self.put_back(id),
            Action::DropUndelivered => self.drop_requeued(id),
            Action::OpenRequests(number) => {
                if let Some(requests) =
                    self.consumers.get(&id).and_then(|known| known.incoming.requests.clone())
                {
                    requests.with(|window| window.open(number));
                }
            }
            Action::Restart => self.start_consumer(id),
            Action::RetryIn(delay) => {
                self.retries.push(Retry { at: Instant::now() + delay, what: RetryWhat::Consumer(id) });
            }
            Action::TellCancelled { resumes } => {
                if let Some(consumer) = self.consumers.get(&id) {
                    let (consumer_tag, queue) = consumer.incoming.names();
                    self.events.send(Event::ConsumerCancelled { consumer_tag, queue, resumes });
                }
            }
            Action::TellResumed => {
                if let Some(consumer) = self.consumers.get(&id) {
                    let (consumer_tag, queue) = consumer.incoming.names();
                    self.events.send(Event::ConsumerResumed { consumer_tag, queue });
                }
            }
            Action::NotRestored(Reason(error)) => {
                if let Some(consumer) = self.consumers.get(&id) {
                    let what = format!("consumer of queue '{}'", consumer.incoming.queue());
                    self.not_restored(NotRestored { what, error });
                }
            }
            Action::Settled { restored } => {
                self.consumer_settled(id, restored);
                self.start_next_suspect(id);
            }
            Action::Answer(mut reply, outcome) => {
                let result = match outcome {
                    Outcome::Done => Ok(()),
                    Outcome::Refused(Reason(error)) => Err(error.within(&reply.name)),
                    Outcome::Ended(Some(Reason(error))) => Err(error),
                    Outcome::Ended(None) => Err(has_ended(&reply.name)),
                };
                reply.answer(result);
            }
            Action::End(reason) => self.end_consumer(id, reason.map(|Reason(error)| error)),
        }
    }

    // ---- answers of the broker -------------------------------------------------------------------------------

    /// `basic.consume-ok`.
    pub(super) fn on_consume_ok(&mut self, number: u16, id: u64) {
        self.consumer_event(id, Happened::ConsumeOk(number));
    }

    /// `basic.cancel-ok`.
    pub(super) fn on_cancel_ok(&mut self, number: u16, id: u64) {
        self.consumer_event(id, Happened::CancelOk(number));
    }

    /// The broker refused `basic.consume`, or no channel was free for it.
    pub(super) fn consume_refused(&mut self, id: u64, error: &Error) {
        self.consumer_event(id, Happened::Refused(error.clone()));
    }

    /// The broker ended the connection over `basic.consume`.
    pub(super) fn consumer_broke(&mut self, id: u64, error: Error) {
        self.consumer_event(id, Happened::Broke(error));
    }

    /// `basic.cancel` from the broker (RabbitMQ, consumer cancel notification).
    pub(super) fn cancelled_by_broker(&mut self, number: u16, tag: &str) {
        let Some(ChannelKind::Consume { incoming, .. }) =
            self.live.channels.get(number).map(|channel| &channel.kind)
        else {
            return;
        };
        let (id, generation) = (incoming.id, start::generation(&incoming.request.tag, tag));
        let error = end::cancelled_by_broker(&incoming.queue());
        self.consumer_event(id, Happened::CancelledByBroker(number, generation, error));
    }

    // ---- the owner's wishes ----------------------------------------------------------------------------------

    pub(super) fn cancel(&mut self, id: u64, mut reply: Pending<()>) {
        if self.consumers.contains_key(&id) {
            let until = reply.deadline;
            self.consumer_event(id, Happened::Cancel(reply, until));
            return;
        }
        // It may still wait for the connection.
        let is_it =
            |command: &mut Command| matches!(command, Command::Consume { incoming, .. } if incoming.id == id);
        if let Some(place) = self.deferred.iter_mut().position(is_it)
            && let Some(command) = self.deferred.remove(place)
        {
            command.fail(super::closed());
        }
        reply.answer(Ok(()));
    }

    pub(super) fn set_prefetch(&mut self, id: u64, prefetch: u16, mut reply: Pending<()>) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            let error = has_ended(&reply.name);
            reply.answer(Err(error));
            return;
        };
        // The queue may have been declared since the consumer started.
        let recorded = self.record.queue(&consumer.incoming.queue());
        let terms = &mut consumer.machine.terms;
        terms.change = prefetch::Change::of(&consumer.incoming.request, terms.stream, recorded);
        self.consumer_event(id, Happened::SetPrefetch(prefetch, reply));
    }

    /// Ends a consumer with an error: one of its messages must not be taken.
    pub(super) fn fail_consumer(&mut self, id: u64, error: Error) {
        let until = Instant::now() + self.options.operation_timeout;
        self.consumer_event(id, Happened::Fail(error, until));
    }

    /// `basic.recover`: everything unsettled goes back to the queue.
    pub(super) fn recover(&mut self, id: u64, mut reply: Pending<()>) {
        let number =
            self.consumers.get(&id).and_then(|consumer| consumer.machine.channel()).unwrap_or_default();
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
        let kind = self.live.channels.get(number).map(|channel| &channel.kind);
        // The consumer may have been cancelled meanwhile.
        if let Some(acks) = kind.and_then(ChannelKind::acks) {
            acks.forget_unsettled();
        }
        if let Some(ChannelKind::Consume { incoming, .. }) = kind {
            drop(incoming.take_undelivered());
        }
        reply.answer(Ok(()));
    }

    /// Whether a cancel waits for its answer.
    pub(super) fn is_cancelling(&self) -> bool {
        // The clock is read once at most, and not at all without consumers.
        let mut now = None;
        self.consumers
            .values()
            .any(|consumer| consumer.machine.is_ending(*now.get_or_insert_with(Instant::now)))
    }

    fn send_cancel(&mut self, id: u64, on: OnWire) {
        let Some(consumer) = self.consumers.get(&id) else { return };
        let consumer_tag = start::wire_tag(&consumer.incoming, on);
        let cancel = basic::AMQPMethod::Cancel(basic::Cancel { consumer_tag, nowait: false });
        self.request(on.channel, AMQPClass::Basic(cancel), ExpectedReply::Cancel(id));
    }
}
