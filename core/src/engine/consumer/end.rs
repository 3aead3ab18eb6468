//! The end of a consumer: what becomes of its channel, of its messages and of its handle.

use std::sync::Arc;

use super::machine::Event as Happened;
use crate::{
    Error, ErrorKind,
    engine::{
        Engine,
        channel::ChannelKind,
        rpc::{ExpectedReply, Rpc},
    },
    error::Reply,
};

impl Engine {
    /// The broker closed the consumer's channel.
    pub(in crate::engine) fn consumer_channel_closed(
        &mut self,
        id: u64,
        number: u16,
        rpcs: impl Iterator<Item = Rpc>,
        reply: &Reply,
    ) {
        for rpc in rpcs {
            if matches!(rpc.expected, ExpectedReply::Recovered(_)) {
                self.fail_waiter(rpc, Some(reply));
            }
        }
        let what = match self.consumers.get(&id) {
            // The answer to its start, and the event that it was not restored, name the consumer themselves.
            Some(consumer) if consumer.machine.is_starting() => String::new(),
            Some(consumer) => format!("consumer of queue '{}'", consumer.incoming.queue()),
            None => "consumer".into(),
        };
        let error = Error::from_reply(&what, reply.clone());
        self.consumer_event(id, Happened::ChannelClosed(number, error));
    }

    /// Leaves a consumer's channel to the deliveries that are still with the application.
    pub(super) fn drain_channel(&mut self, number: u16) {
        let Some(channel) = self.live.channels.get(number) else {
            return;
        };
        let ChannelKind::Consume { lease, .. } = &channel.kind else {
            return;
        };
        let acks = lease.acks.clone();
        acks.consumer_is_over();
        channel.publishing = None;
        // Drops the engine's share of the lease: when no delivery holds it either, the channel is released.
        channel.kind = ChannelKind::Draining(acks);
    }

    /// Acks leave before anything that ends their channel.
    pub(super) fn flush_channel_acks(&mut self, number: u16) {
        if let Some(acks) = self.live.channels.get(number).and_then(|channel| channel.kind.acks()).cloned() {
            acks.flush(&mut self.live.out);
        }
    }

    /// Gives what was never handed out back to the queue.
    pub(super) fn put_back(&mut self, id: u64) {
        let Some(consumer) = self.consumers.get(&id) else {
            return;
        };
        // Without acks the broker has forgotten them, so the application still gets them.
        if !consumer.incoming.request.no_ack {
            for delivery in consumer.incoming.take_undelivered() {
                delivery.put_back();
            }
        }
    }

    /// The broker has requeued what the application never saw.
    pub(super) fn drop_requeued(&mut self, id: u64) {
        if let Some(consumer) = self.consumers.get(&id)
            && !consumer.incoming.request.no_ack
            && !consumer.machine.terms.stream
        {
            drop(consumer.incoming.take_undelivered());
        }
    }

    pub(super) fn end_consumer(&mut self, id: u64, reason: Option<Error>) {
        let Some(consumer) = self.consumers.remove(&id) else {
            return;
        };
        self.broken_by.remove(&id);
        self.record.stop_consuming(&consumer.incoming.queue());
        if let Some(requests) = &consumer.incoming.requests {
            let error = reason.clone().unwrap_or_else(|| {
                Error::new(ErrorKind::Closed, "the consumer that waited for the answers was cancelled")
            });
            requests.with(|window| window.close(&error));
            self.requests.retain(|known| !Arc::ptr_eq(known, requests));
        }
        consumer.incoming.end(reason);
        self.consumer_settled(id, false);
        // One that was under suspicion makes way for the next.
        self.start_next_suspect(id);
    }

    /// The connection is gone: consumers wait for the next one.
    pub(in crate::engine) fn suspend_consumers(&mut self) {
        let ids: Vec<u64> = self.consumers.keys().copied().collect();
        for id in ids {
            self.consumer_event(id, Happened::Lost);
        }
    }

    /// The engine ends: so do all consumers.
    pub(in crate::engine) fn end_consumers(&mut self, error: &Error, reason: Option<&Error>) {
        let ids: Vec<u64> = self.consumers.keys().copied().collect();
        for id in ids {
            self.consumer_event(id, Happened::Closed(error.clone(), reason.cloned()));
        }
    }
}

/// The error for something that is asked of a consumer that is over.
pub(in crate::engine) fn has_ended(name: &str) -> Error {
    Error::new(ErrorKind::ConsumerCancelled, format!("{name}: it has ended"))
}

pub(super) fn cancelled_by_broker(queue: &str) -> Error {
    Error::new(
        ErrorKind::ConsumerCancelled,
        format!(
            "the broker cancelled the consumer of queue '{queue}': the queue was deleted or its node failed; consume it \
             again when it is there, or with resume, which does that by itself"
        ),
    )
}
