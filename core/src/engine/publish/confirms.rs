//! The broker's confirms and returns, each matched to the publish that it is for (RabbitMQ, publisher confirms).

use tokio::time::Instant;

use super::{
    Outgoing,
    window::{Copies, Window},
};
use crate::{Error, ErrorKind, message::Returned};

impl Window {
    /// `basic.ack` or `basic.nack` for our publishes. A tag that was never sent is the peer's fault; one that was
    /// confirmed before is ignored.
    pub fn confirm(&mut self, tag: u64, multiple: bool, nacked: bool) -> Result<(), String> {
        let next = self.sent.end();
        // Tag 0 with `multiple` means everything so far (AMQP 0-9-1 section 1.8.3.13).
        let tag = if tag == 0 && multiple { next - 1 } else { tag };
        if tag >= next || tag == 0 {
            return Err(format!("a confirm for delivery tag {tag}; {} publishes are out", next - 1));
        }
        if multiple {
            while let Some(index) = self.sent.pop_through(tag) {
                self.confirm_slot(index, nacked);
            }
        } else if let Some(index) = self.sent.take(tag) {
            self.confirm_slot(index, nacked);
        }
        if self.singly > 0 && self.sent.is_empty() {
            self.singly -= 1;
        }
        if nacked {
            self.nacks.on_nack(Instant::now());
        } else {
            self.nacks.on_ack();
        }
        Ok(())
    }

    fn confirm_slot(&mut self, index: u32, nacked: bool) {
        let slot = &mut self.slots[index];
        if let Some(returned) = slot.returned.take() {
            self.fail(index, returned, Copies::Refused);
        } else if nacked {
            self.counters.nacked += 1;
            let to = slot.publish.as_ref().map(Outgoing::describe).unwrap_or_default();
            let text = format!(
                "publish{to}: the broker refused the message (basic.nack): its queue is full and rejects publishes, or its \
                 node failed"
            );
            self.fail(index, Error::new(ErrorKind::Nacked, text), Copies::Refused);
        } else {
            self.counters.confirmed += 1;
            self.confirmed(index);
        }
    }

    /// `basic.return`: attaches the message to its own publish. Returns come in publish order and before the confirm. The
    /// body of an `oversize` one was not kept, only its length.
    pub fn returned(&mut self, mut returned: Returned, oversize: Option<u64>) {
        self.counters.returned += 1;
        let (first, end) = (self.sent.first(), self.sent.end());
        let start = self.return_cursor.max(first);
        let found = (start..end).chain(first..start.min(end)).find_map(|tag| {
            let index = self.sent.get(tag)?;
            let slot = &self.slots[index];
            let publish = slot.publish.as_ref().filter(|_| slot.returned.is_none())?;
            is_copy(publish, &returned, oversize).then_some((tag, index))
        });
        let Some((tag, index)) = found else {
            tracing::debug!(exchange = %returned.exchange, "a returned message whose publish is not waited for");
            return;
        };
        self.return_cursor = tag + 1;
        let slot = &mut self.slots[index];
        if let Some(out) = slot.publish.as_ref().filter(|_| oversize.is_some()) {
            returned.message.body = out.message.body.clone();
        }
        slot.returned = Some(unroutable(returned));
    }
}

fn is_copy(out: &Outgoing, returned: &Returned, oversize: Option<u64>) -> bool {
    out.mandatory
        && out.message.properties.message_id() == returned.message.properties.message_id()
        && *out.routing_key == *returned.routing_key
        && *out.exchange == *returned.exchange
        && match oversize {
            Some(size) => out.message.body.len() as u64 == size,
            None => out.message.body == returned.message.body,
        }
}

fn unroutable(returned: Returned) -> Error {
    let hint = if returned.exchange.is_empty() {
        "is the queue declared, or has it expired?"
    } else {
        "is a queue bound with a matching key?"
    };
    let text = format!(
        "publish to exchange '{}' with routing key '{}': the broker answered {} {}; {hint}",
        returned.exchange, returned.routing_key, returned.reply_code, returned.reply_text
    );
    Error::new(ErrorKind::Unroutable, text).with_returned(returned)
}
