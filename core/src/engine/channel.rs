//! Channels of one connection: what each is for, and the content that is arriving on it.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};

use super::{
    acks::{ChannelAcks, Lease},
    delivery_queue::DeliveryQueue,
    publish::Publishing,
    rpc::Rpc,
};
use crate::{
    message::{Properties, Returned},
    wire::{
        frame::{Deliver, GetOk, Violation},
        properties::{ContentHeader, HeadersDefect},
    },
};

/// What a channel is for.
pub(crate) enum ChannelKind {
    /// Declarations and everything else that leaves nothing to be settled.
    Control,
    Publish,
    Consume {
        incoming: Arc<DeliveryQueue>,
        lease: Arc<Lease>,
        names: Names,
        /// `basic.cancel` was sent: what still comes goes back to the queue.
        returning: bool,
    },
    /// One `basic.get` with acks at a time; its delivery keeps the channel until it is settled.
    Get(Arc<ChannelAcks>),
    /// Its consumer is gone, some deliveries are still with the application.
    Draining(Arc<ChannelAcks>),
    /// Closed by us; the broker's close-ok is to come and everything before it is ignored.
    Closing,
}

impl ChannelKind {
    /// The deliveries on the channel, if they are to be settled. They also tell which channel it is: another that has got
    /// its number has others.
    pub fn acks(&self) -> Option<&Arc<ChannelAcks>> {
        match self {
            ChannelKind::Consume { lease, .. } => Some(&lease.acks),
            ChannelKind::Get(acks) | ChannelKind::Draining(acks) => Some(acks),
            ChannelKind::Control | ChannelKind::Publish | ChannelKind::Closing => None,
        }
    }
}

/// The names that come with deliveries.
#[derive(Default)]
pub(crate) struct Names {
    /// The consumer's tag; a restart puts a number behind it.
    tag: Arc<str>,
    /// Those of the last delivery: nearly always the same as those of the next.
    exchange: Arc<str>,
    routing_key: Arc<str>,
}

impl Names {
    pub fn of(tag: Arc<str>) -> Self {
        Self { tag, ..Self::default() }
    }

    /// Whether a delivery with this tag is for the consumer, also from before or after a restart.
    pub fn is_for(&self, consumer_tag: &[u8]) -> bool {
        consumer_tag.strip_prefix(self.tag.as_bytes()).is_some_and(|rest| matches!(rest, [] | [b'.', ..]))
    }

    /// Both names, and whether they are the UTF-8 that was sent.
    pub fn decode(&mut self, exchange: &[u8], routing_key: &[u8]) -> (Arc<str>, Arc<str>, bool) {
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

/// A content that is arriving (AMQP 0-9-1 section 4.2.6): what announced it, then its header, then its body.
pub(crate) struct Content {
    pub kind: ContentKind,
    pub header: Option<ContentHeader>,
    body: BytesMut,
    received: u64,
    /// The body is over the bound: it is counted, not kept.
    pub oversize: bool,
}

pub(crate) enum ContentKind {
    Deliver(Envelope),
    Got { envelope: Envelope, message_count: u32 },
    Return { reply_code: u16, reply_text: String, exchange: String, routing_key: String },
}

/// The fields of a delivery that come before its content.
pub(crate) struct Envelope {
    pub delivery_tag: u64,
    pub redelivered: bool,
    pub exchange: Arc<str>,
    pub routing_key: Arc<str>,
    /// The names are the bytes that were sent.
    pub exact: bool,
}

impl Envelope {
    pub fn deliver(deliver: &Deliver<'_>, names: &mut Names) -> Self {
        let (exchange, routing_key, exact) = names.decode(deliver.exchange, deliver.routing_key);
        Self {
            delivery_tag: deliver.delivery_tag,
            redelivered: deliver.redelivered,
            exchange,
            routing_key,
            exact,
        }
    }

    pub fn got(got: &GetOk<'_>) -> Self {
        let (exchange, routing_key, exact) = Names::default().decode(got.exchange, got.routing_key);
        Self { delivery_tag: got.delivery_tag, redelivered: got.redelivered, exchange, routing_key, exact }
    }
}

/// So much is set aside for a body before its bytes have come; a header may claim any size.
const FIRST_ALLOCATION: u64 = 1024 * 1024;

/// Content whose last byte has come.
pub(crate) struct Complete {
    pub kind: ContentKind,
    pub properties: Properties,
    pub defect: Option<HeadersDefect>,
    pub body: Bytes,
    /// The size of a body that was over the bound and was not kept.
    pub oversize: Option<u64>,
    /// Bytes of memory that properties, headers and body take.
    pub memory: usize,
}

impl Content {
    pub fn new(kind: ContentKind) -> Self {
        Self { kind, header: None, body: BytesMut::new(), received: 0, oversize: false }
    }

    /// Takes the header; true when there is no body to come.
    pub fn on_header(&mut self, header: ContentHeader, max_body: u64) -> Result<bool, Violation> {
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

    pub fn finish(self) -> Complete {
        let (properties, defect, size, memory) = self
            .header
            .map(|header| (header.properties, header.defect, header.body_size, header.memory))
            .unwrap_or_default();
        Complete {
            kind: self.kind,
            properties,
            defect,
            memory: memory + self.body.len(),
            body: self.body.freeze(),
            oversize: self.oversize.then_some(size),
        }
    }
}

impl Complete {
    /// The returned message, for a `basic.return`.
    pub fn into_returned(self) -> Option<Returned> {
        let ContentKind::Return { reply_code, reply_text, exchange, routing_key } = self.kind else {
            return None;
        };
        let message = crate::Message::new(self.body).with_properties(self.properties);
        Some(Returned { reply_code, reply_text, exchange, routing_key, message })
    }
}

pub(crate) struct Channel {
    pub kind: ChannelKind,
    /// The window of the publishes on it: those of a publish channel, or those a direct reply consumer's answers
    /// come back for.
    pub publishing: Option<Arc<Publishing>>,
    pub rpcs: VecDeque<Rpc>,
    pub content: Option<Content>,
}

impl Channel {
    /// Whether confirms and returns may come on it. Those of requests may still be on their way when the consumer of
    /// their answers is gone, and with it their window.
    pub fn may_publish(&self) -> bool {
        self.publishing.is_some() || matches!(self.kind, ChannelKind::Draining(_))
    }
}

/// The channels of a connection by number; 0 is the connection itself and never in here.
#[derive(Default)]
pub(crate) struct Channels {
    slots: Vec<Option<Box<Channel>>>,
    free: Vec<u16>,
    max: u16,
}

impl Channels {
    pub fn new(max: u16) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), max }
    }

    /// Opens a channel: its `channel.open` is the first method in its queue. `None` at the negotiated limit.
    pub fn open(&mut self, kind: impl FnOnce(u16) -> ChannelKind) -> Option<u16> {
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.slots.len() < usize::from(self.max) => {
                self.slots.push(None);
                self.slots.len() as u16
            }
            None => return None,
        };
        let channel = Channel { kind: kind(number), publishing: None, rpcs: VecDeque::new(), content: None };
        self.slots[usize::from(number) - 1] = Some(Box::new(channel));
        Some(number)
    }

    pub fn get(&mut self, number: u16) -> Option<&mut Channel> {
        self.slots.get_mut(usize::from(number).checked_sub(1)?)?.as_deref_mut()
    }

    pub fn remove(&mut self, number: u16) -> Option<Channel> {
        let channel = self.slots.get_mut(usize::from(number).checked_sub(1)?)?.take()?;
        self.free.push(number);
        Some(*channel)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u16, &mut Channel)> {
        self.slots
            .iter_mut()
            .enumerate()
            .filter_map(|(place, slot)| Some((place as u16 + 1, slot.as_deref_mut()?)))
    }

    /// All channels, front to back, leaving none.
    pub fn drain(&mut self) -> impl Iterator<Item = Channel> {
        self.free.clear();
        std::mem::take(&mut self.slots).into_iter().flatten().map(|channel| *channel)
    }
}
