//! The content that is arriving on a channel (AMQP 0-9-1 section 4.2.6): a method announces it, its header follows, then its
//! body; and what it is once it is complete.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::acks::Lease;
use crate::{
    delivery::Delivery,
    message::{Properties, Returned},
    wire::{
        frame::{Deliver, GetOk, Violation},
        properties::{ContentHeader, HeadersDefect},
    },
};

/// The names that come with deliveries.
#[derive(Default)]
pub(crate) struct Names {
    /// The consumer's tag; a consumer that replaces it, with another prefetch, has `.` and a number behind it.
    tag: Arc<str>,
    /// Those of the last delivery: nearly always the same as those of the next.
    exchange: Arc<str>,
    routing_key: Arc<str>,
}

impl Names {
    pub fn of(tag: Arc<str>) -> Self {
        Self { tag, ..Self::default() }
    }

    /// Whether a delivery with this tag is for the consumer, or for one that it replaced or that replaces it.
    pub fn is_for(&self, consumer_tag: &[u8]) -> bool {
        consumer_tag.strip_prefix(self.tag.as_bytes()).is_some_and(|rest| matches!(rest, [] | [b'.', ..]))
    }

    /// Both names, and whether they are the UTF-8 that was sent.
    fn decode(&mut self, exchange: &[u8], routing_key: &[u8]) -> (Arc<str>, Arc<str>, bool) {
        let exact = decode(&mut self.exchange, exchange) & decode(&mut self.routing_key, routing_key);
        (self.exchange.clone(), self.routing_key.clone(), exact)
    }
}

fn decode(last: &mut Arc<str>, bytes: &[u8]) -> bool {
    if last.as_bytes() == bytes {
        return true;
    }
    let text = String::from_utf8_lossy(bytes);
    let exact = text.len() == bytes.len() && text.as_bytes() == bytes;
    *last = text.into();
    exact
}

/// The fields of a delivery that come before its content.
pub(crate) struct Envelope {
    pub delivery_tag: u64,
    pub redelivered: bool,
    pub exchange: Arc<str>,
    pub routing_key: Arc<str>,
    /// The names are the bytes that were sent.
    exact: bool,
}

/// What announced a content.
enum Announced {
    Deliver(Envelope),
    Got { envelope: Envelope, message_count: u32 },
    Return { reply_code: u16, reply_text: String, exchange: String, routing_key: String },
}

/// A content that is arriving.
pub(crate) struct Content {
    announced: Announced,
    header: Option<Box<ContentHeader>>,
    body: BytesMut,
    received: u64,
    /// The body is over the bound: it is counted, not kept.
    oversize: bool,
}

/// The bytes of the first allocation for a body, at most, unless its first frame is larger: a header may claim any
/// size.
const FIRST_ALLOCATION: u64 = 1024 * 1024;

/// A content whose last byte has come.
pub(crate) enum Arrived {
    Delivery(Arrival),
    Got {
        arrival: Arrival,
        message_count: u32,
    },
    Returned {
        returned: Returned,
        /// The size of a body that was over the bound and was not kept.
        oversize: Option<u64>,
    },
}

/// A message for the application.
pub(crate) struct Arrival {
    pub envelope: Envelope,
    pub properties: Properties,
    defect: Option<HeadersDefect>,
    body: Bytes,
    /// The size of a body that was over the bound and was not kept.
    pub oversize: Option<u64>,
    /// Bytes of memory that properties, headers and body take.
    memory: usize,
}

impl Content {
    fn new(announced: Announced) -> Self {
        Self { announced, header: None, body: BytesMut::new(), received: 0, oversize: false }
    }

    pub fn deliver(deliver: &Deliver<'_>, names: &mut Names) -> Self {
        let (exchange, routing_key, exact) = names.decode(deliver.exchange, deliver.routing_key);
        let Deliver { delivery_tag, redelivered, .. } = *deliver;
        Self::new(Announced::Deliver(Envelope { delivery_tag, redelivered, exchange, routing_key, exact }))
    }

    pub fn got(got: &GetOk<'_>) -> Self {
        let (exchange, routing_key, exact) = Names::default().decode(got.exchange, got.routing_key);
        let GetOk { delivery_tag, redelivered, message_count, .. } = *got;
        let envelope = Envelope { delivery_tag, redelivered, exchange, routing_key, exact };
        Self::new(Announced::Got { envelope, message_count })
    }

    pub fn returned(returned: &amq_protocol::protocol::basic::Return) -> Self {
        Self::new(Announced::Return {
            reply_code: returned.reply_code,
            reply_text: returned.reply_text.to_string(),
            exchange: returned.exchange.to_string(),
            routing_key: returned.routing_key.to_string(),
        })
    }

    /// The message, for errors.
    pub fn describe(&self) -> String {
        match &self.announced {
            Announced::Deliver(envelope) | Announced::Got { envelope, .. } => {
                format!("exchange '{}', routing key '{}'", envelope.exchange, envelope.routing_key)
            }
            Announced::Return { exchange, routing_key, .. } => {
                format!("returned, exchange '{exchange}', routing key '{routing_key}'")
            }
        }
    }

    /// Takes the header; true when there is no body to come.
    pub fn on_header(&mut self, header: Box<ContentHeader>, max_body: u64) -> Result<bool, Violation> {
        if self.header.is_some() {
            return Err(Violation::unexpected("a second content header where a body was expected"));
        }
        if header.class_id != 60 {
            return Err(Violation::frame(format!(
                "a content header of class {}, not basic",
                header.class_id
            )));
        }
        let done = header.body_size == 0;
        self.oversize = header.body_size > max_body;
        self.header = Some(header);
        Ok(done)
    }

    /// Takes a body frame; true when it was the last.
    pub fn on_body(&mut self, chunk: &[u8]) -> Result<bool, Violation> {
        let Some(header) = &self.header else {
            return Err(Violation::unexpected("a body frame where a content header was expected"));
        };
        self.received += chunk.len() as u64;
        if self.received > header.body_size {
            return Err(Violation::frame(format!(
                "a body of at least {} bytes whose header announced {}",
                self.received, header.body_size
            )));
        }
        if !self.oversize {
            if self.body.capacity() == 0 {
                self.body.reserve(header.body_size.min(FIRST_ALLOCATION).max(chunk.len() as u64) as usize);
            }
            self.body.extend_from_slice(chunk);
        }
        Ok(self.received == header.body_size)
    }

    pub fn finish(self) -> Arrived {
        // The default is never used: a content without a header is not complete. The header stays in its box until its
        // fields are moved to their place, because properties have hundreds of bytes.
        let header = self.header.unwrap_or_default();
        let oversize = self.oversize.then_some(header.body_size);
        let memory = header.memory + self.body.len();
        let body = self.body.freeze();
        let (envelope, message_count) = match self.announced {
            Announced::Return { reply_code, reply_text, exchange, routing_key } => {
                let message = crate::Message::new(body).with_properties(header.properties);
                let returned = Returned { reply_code, reply_text, exchange, routing_key, message };
                return Arrived::Returned { returned, oversize };
            }
            Announced::Deliver(envelope) => (envelope, None),
            Announced::Got { envelope, message_count } => (envelope, Some(message_count)),
        };
        let ContentHeader { properties, defect, .. } = *header;
        let arrival = Arrival { envelope, properties, defect, body, oversize, memory };
        match message_count {
            None => Arrived::Delivery(arrival),
            Some(message_count) => Arrived::Got { arrival, message_count },
        }
    }
}

impl Arrival {
    /// The bytes of the body.
    pub fn body_length(&self) -> u64 {
        self.body.len() as u64
    }

    /// The only way that a delivery is made.
    pub fn into_delivery(
        self,
        lease: Option<Arc<Lease>>,
        consumer_tag: Arc<str>,
        no_ack: bool,
        message_count: Option<u32>,
    ) -> Delivery {
        let headers_error = defect_of(self.defect, self.envelope.exact);
        Delivery {
            lease,
            consumer_tag,
            delivery_tag: self.envelope.delivery_tag,
            redelivered: self.envelope.redelivered,
            no_ack,
            exchange: self.envelope.exchange,
            routing_key: self.envelope.routing_key,
            properties: self.properties,
            headers_error,
            body: self.body,
            message_count,
            memory: self.memory,
            handed_out: false,
            settled: false.into(),
        }
    }
}

fn defect_of(defect: Option<HeadersDefect>, exact: bool) -> Option<Box<HeadersDefect>> {
    match defect {
        Some(defect) => Some(Box::new(defect)),
        None if exact => None,
        None => Some(Box::new(HeadersDefect {
            reason: "the exchange or the routing key is not UTF-8".into(),
            raw: Bytes::new(),
        })),
    }
}
