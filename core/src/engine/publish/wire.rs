//! Publishes on their way out: their frames.

use bytes::Bytes;

use super::{
    Outgoing,
    slots::Place,
    window::{Copies, Route, Window},
};
use crate::{
    Error,
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
