//! Complete messages on their way to the application, and those that it cannot have.

use std::sync::{Arc, atomic::Ordering};

use amq_protocol::types::AMQPValue;
use tokio::time::Instant;

use super::{
    Engine,
    acks::{ChannelAcks, Lease, Settle},
    channel::ChannelKind,
    content::Arrival,
    delivery_queue::DeliveryQueue,
    rpc::{ExpectedReply, Rpc},
};
use crate::{Error, ErrorKind, events::Event, wire::frame::Violation};

/// The least time between two [`Event::DeliveryBufferFull`] of a connection, whichever consumer they name.
const TOLD_FOR: std::time::Duration = std::time::Duration::from_secs(60);

/// Deliveries that arrived while the delivery buffer was full, for consumers that are not read: they stay with the broker,
/// unsettled, and go back to their queues when there is room.
#[derive(Default)]
pub(super) struct Overflow {
    /// Reading goes on although the buffer is full, because somebody waits for something else.
    pub reading: bool,
    held: Vec<(Arc<ChannelAcks>, u64)>,
    told_until: Option<Instant>,
}

impl Engine {
    pub(super) fn on_delivery(
        &mut self,
        queue: Arc<DeliveryQueue>,
        lease: Arc<Lease>,
        returning: bool,
        arrival: Arrival,
    ) -> Result<(), Violation> {
        let no_ack = queue.request.no_ack;
        let tag = arrival.envelope.delivery_tag;
        if !no_ack {
            lease.acks.arrived(tag).map_err(Violation::command)?;
            if returning {
                give_back(&lease.acks, tag);
                return Ok(());
            }
            if self.overflow.reading && !lease.acks.stream && queue.undelivered() > 0 {
                self.overflow.held.push((lease.acks.clone(), tag));
                return Ok(());
            }
        }
        if let Some(size) = arrival.oversize
            && self.refuse_oversize(&queue, &lease.acks, tag, size)
        {
            return Ok(());
        }
        if lease.acks.stream
            && let Some(offset) = stream_offset(&arrival)
            && let Some(consumer) = self.consumers.get_mut(&queue.id)
        {
            consumer.arrived_at(offset);
        }
        if arrival.oversize.is_some() {
            return Ok(());
        }
        self.count_delivered(&arrival);
        let delivery = arrival.into_delivery(Some(lease), queue.request.tag.clone(), no_ack, None);
        if let Some(defect) = delivery.headers_error() {
            self.events.send(Event::HeadersDefect { queue: queue.queue(), defect: defect.clone() });
        }
        queue.push(delivery);
        if !self.live.to_wake.last().is_some_and(|last| Arc::ptr_eq(last, &queue)) {
            self.live.to_wake.push(queue);
        }
        Ok(())
    }

    pub(super) fn on_got(
        &mut self,
        number: u16,
        arrival: Arrival,
        message_count: u32,
    ) -> Result<(), Violation> {
        let Some(channel) = self.live.channels.get(number) else {
            return Ok(());
        };
        let Some(Rpc { expected: ExpectedReply::Get(_), .. }) = channel.rpcs.front() else {
            return Err(Violation::command("basic.get-ok that nobody asked for"));
        };
        let tag = arrival.envelope.delivery_tag;
        let lease = match &channel.kind {
            // While the get is still in the queue: if the tag is a violation, it is sent again on the next connection.
            ChannelKind::Get(acks) => {
                acks.arrived(tag).map_err(Violation::command)?;
                // It goes with the delivery: when that is dropped, the channel is free again.
                Some(Arc::new(Lease { acks: acks.clone() }))
            }
            _ => None,
        };
        let Some(Rpc { expected: ExpectedReply::Get(mut get), .. }) = channel.rpcs.pop_front() else {
            return Ok(());
        };
        self.control_answered(number);
        if let Some(size) = arrival.oversize {
            let limit = self.options.max_body_size;
            let became = match &lease {
                Some(lease) if self.options.discard_oversize => {
                    discard(&lease.acks, tag);
                    "it was rejected"
                }
                Some(lease) => {
                    give_back(&lease.acks, tag);
                    "it stays on the queue: raise max_body_size to get it"
                }
                None => "it is gone, because it was got without acks: raise max_body_size",
            };
            if lease.is_none() || self.options.discard_oversize {
                self.events.send(Event::OversizeRejected { queue: get.queue.clone(), size, limit });
            }
            let text = format!(
                "{}: the message has {size} bytes, over max_body_size ({limit}); {became}",
                get.reply.name
            );
            get.reply.answer(Err(Error::new(ErrorKind::InvalidArgument, text)));
            return Ok(());
        }
        self.count_delivered(&arrival);
        let delivery = arrival.into_delivery(lease, "".into(), get.no_ack, Some(message_count));
        get.reply.answer(Ok(Some(delivery)));
        Ok(())
    }

    fn count_delivered(&self, arrival: &Arrival) {
        self.counters.delivered.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes_delivered.fetch_add(arrival.body_length(), Ordering::Relaxed);
    }

    /// A body that was over the bound was not kept. By default the message stays on its queue, and its consumer ends with
    /// an error; returns whether it did.
    fn refuse_oversize(
        &mut self,
        queue: &Arc<DeliveryQueue>,
        acks: &Arc<ChannelAcks>,
        tag: u64,
        size: u64,
    ) -> bool {
        let limit = self.options.max_body_size;
        if queue.request.no_ack || self.options.discard_oversize {
            if !queue.request.no_ack {
                discard(acks, tag);
            }
            self.events.send(Event::OversizeRejected { queue: queue.queue(), size, limit });
            return false;
        }
        let text = format!(
            "consumer of queue '{}': a message has {size} bytes, over max_body_size ({limit}); it stays on the queue: raise \
             max_body_size to get it, or set discard_oversize to have such messages rejected",
            queue.queue()
        );
        tracing::warn!(consumer_tag = %queue.request.tag, "{text}");
        // The cancel first: the broker would deliver it again at once.
        self.fail_consumer(queue.id, Error::protocol(text));
        give_back(acks, tag);
        true
    }

    // ---- messages that break the protocol --------------------------------------------------------------------

    /// The connection ends over something on this channel. A message that does so twice ends its own consumer, and a get
    /// fails at once: the message is still on its queue, and would end the next connection too.
    pub(super) fn blame_message(&mut self, number: u16, fault: &Violation) {
        let Some(channel) = self.live.channels.get(number) else {
            return;
        };
        let Some(message) = channel.content.as_ref().map(super::content::Content::describe) else {
            return;
        };
        match &channel.kind {
            ChannelKind::Consume { incoming, .. } => {
                let (id, queue) = (incoming.id, incoming.queue());
                let before = self.broken_by.insert(id, message.clone());
                if before.as_ref() == Some(&message) {
                    let text = format!(
                        "consumer of queue '{queue}': a message ({message}) ended the connection twice and stays on the \
                         queue: {}",
                        fault.text
                    );
                    self.fail_consumer(id, Error::protocol(text));
                }
            }
            _ => {
                if matches!(channel.rpcs.front(), Some(Rpc { expected: ExpectedReply::Get(_), .. }))
                    && let Some(Rpc { expected: ExpectedReply::Get(mut get), .. }) = channel.rpcs.pop_front()
                {
                    let text = format!(
                        "{}: its message ({message}) ended the connection: {}",
                        get.reply.name, fault.text
                    );
                    get.reply.answer(Err(Error::protocol(text)));
                }
            }
        }
    }

    // ---- a full delivery buffer ------------------------------------------------------------------------------

    /// Whether to read although the delivery buffer is full: only if a caller waits for a reply, or a consumer whose
    /// queue is empty waits for a delivery.
    pub(super) fn reads_when_full(&mut self) -> bool {
        self.tell_of_full_buffer();
        let waits = !self.live.secrets.is_empty()
            || self.live.channels.iter_mut().any(|(_, channel)| !channel.rpcs.is_empty())
            || self.consumers.values().any(|consumer| consumer.incoming.is_awaited());
        // Deliveries without acks cannot be given back: they are kept, up to twice the budget.
        self.overflow.reading = waits && !self.link.budget.is_overdrawn();
        self.overflow.reading
    }

    fn tell_of_full_buffer(&mut self) {
        let now = Instant::now();
        if self.overflow.told_until.is_some_and(|until| until > now) {
            return;
        }
        let fullest = self.consumers.values().max_by_key(|consumer| consumer.incoming.undelivered());
        if let Some(consumer) = fullest {
            self.overflow.told_until = Some(now + TOLD_FOR);
            let (consumer_tag, queue) = consumer.incoming.names();
            let undelivered = consumer.incoming.undelivered();
            self.events.send(Event::DeliveryBufferFull { consumer_tag, queue, undelivered });
        }
    }

    /// There is room again, or nobody will read any more: what was held goes back to its queue.
    pub(super) fn release_held(&mut self) {
        self.overflow.reading = false;
        for (acks, tag) in std::mem::take(&mut self.overflow.held) {
            give_back(&acks, tag);
        }
    }
}

fn stream_offset(arrival: &Arrival) -> Option<i64> {
    let headers = arrival.properties.headers().as_ref()?;
    headers.inner().get("x-stream-offset").and_then(AMQPValue::as_long_long_int)
}

/// Puts a message back that was not handed out, so that nobody can have settled it.
fn give_back(acks: &Arc<ChannelAcks>, tag: u64) {
    if !acks.is_stale(tag) {
        let _ = acks.settle(tag, Settle::Nack { requeue: true });
    }
}

/// Rejects a message that was not handed out.
fn discard(acks: &Arc<ChannelAcks>, tag: u64) {
    if !acks.is_stale(tag) {
        let _ = acks.settle(tag, Settle::Nack { requeue: false });
    }
}
