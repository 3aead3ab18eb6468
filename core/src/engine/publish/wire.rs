//! Publishes on the wire: their frames, and the broker's confirms and returns.

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Outgoing,
    slots::Place,
    window::{Copies, Route, Window},
};
use crate::{
    Error, ErrorKind,
    message::Returned,
    wire::encode::{self, FRAME_OVERHEAD},
};

/// The rest of a body whose first frames are out.
pub(super) struct Partial {
    body: Bytes,
    at: usize,
}

impl Window {
    /// Whether [`Self::pump`] would write something.
    pub fn has_work(&self) -> bool {
        matches!(self.route, Route::Open { .. })
            && (self.partial.is_some() || (!self.queue.is_empty() && self.may_send_next()))
    }

    fn may_send_next(&self) -> bool {
        !self.blocked
            && !self.stopped
            && !self.nacks.is_worn_out()
            && (self.singly == 0 || self.sent.is_empty())
    }

    /// Encodes publishes behind `buffer` until it holds `limit` bytes or nothing may be sent.
    pub fn pump(&mut self, buffer: &mut Vec<u8>, limit: usize, frame_max: u32) {
        let Route::Open { channel } = self.route else {
            return;
        };
        let chunk_max = frame_max as usize - FRAME_OVERHEAD;
        while buffer.len() < limit {
            if let Some(partial) = &mut self.partial {
                let end = partial.body.len().min(partial.at + chunk_max);
                encode::body_frame(buffer, channel, &partial.body[partial.at..end]);
                partial.at = end;
                if end == partial.body.len() {
                    self.partial = None;
                }
                continue;
            }
            if !self.may_send_next() {
                return;
            }
            let Some(index) = self.queue.pop_front() else {
                return;
            };
            let slot = &mut self.slots[index];
            // What was given up has left the queue.
            let Some(out) = &slot.publish else { continue };
            if let Err(error) = encode_head(buffer, channel, out, frame_max) {
                self.fail(index, error, Copies::AsSent);
                continue;
            }
            let body = &out.message.body;
            if body.len() > chunk_max {
                self.partial = Some(Partial { body: body.clone(), at: 0 });
            } else if !body.is_empty() {
                encode::body_frame(buffer, channel, body);
            }
            if slot.doubt {
                self.counters.republished += 1;
            }
            slot.place = Place::OnWire(self.sent.push_back(index));
        }
    }

    /// `basic.ack` or `basic.nack` for our publishes. An unknown tag is the peer's fault.
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

/// `basic.publish` and the content header. A content header cannot be split (AMQP 0-9-1 section 4.2.6.1).
fn encode_head(buffer: &mut Vec<u8>, channel: u16, out: &Outgoing, frame_max: u32) -> Result<(), Error> {
    let message = &out.message;
    let start = buffer.len();
    encode::publish(buffer, channel, &out.exchange, &out.routing_key, out.mandatory);
    let header = buffer.len();
    encode::header(buffer, channel, 60, message.body.len() as u64, &message.properties);
    let header = buffer.len() - header;
    if header <= frame_max as usize {
        return Ok(());
    }
    buffer.truncate(start);
    Err(Error::invalid(format!(
        "publish{}: properties and headers take {header} bytes; the frame size agreed on is {frame_max}",
        out.describe()
    )))
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
