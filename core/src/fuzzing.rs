//! A way to what is private, for `core/fuzz` and the tests that compare our codec with others (feature `fuzzing`). No part
//! of the interface.
#![allow(missing_docs, reason = "no part of the interface")]

use amq_protocol::{
    frame::{AMQPContentHeader, AMQPFrame, WriteContext},
    protocol::{AMQPClass, basic, channel, connection},
    types::{FieldTable, ShortString, generation::gen_field_table, parsing::parse_field_table},
};
use bytes::Bytes;

use crate::{
    Delivery, Value,
    message::Properties,
    wire::{
        encode,
        frame::{Deliver, Frame, FrameReader, GetOk},
        guard,
        properties::{ContentHeader, HeadersDefect, parse_header},
    },
};

/// The largest frame that [`frames`] takes.
const FRAME_MAX: u32 = 128 * 1024;

/// How a frame relates to what other codecs make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    Plain,
    /// Names or texts that are not UTF-8 are kept as bytes.
    NotUtf8,
    /// A content header whose properties could not be read as they are.
    Defect,
}

/// A frame that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub kind: FrameKind,
    /// What [`describe`] says of it.
    pub text: String,
    /// Its bytes, with the eight around its payload.
    pub length: usize,
}

/// What became of a stream of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    pub frames: Vec<Read>,
    pub violation: Option<(u16, String)>,
}

/// Reads frames off `bytes`, which come in two parts.
pub fn frames(bytes: &[u8], split: usize) -> Stream {
    let mut reader = FrameReader::new(FRAME_MAX);
    let mut stream = Stream { frames: Vec::new(), violation: None };
    for part in [&bytes[..split], &bytes[split..]] {
        reader.buffer().extend_from_slice(part);
        loop {
            let before = reader.unread();
            match reader.next() {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    let (kind, text) = describe_ours(&frame);
                    let length = before - reader.unread();
                    stream.frames.push(Read { kind, text, length });
                }
                Err(fault) => {
                    stream.violation = Some((fault.code, fault.text));
                    return stream;
                }
            }
        }
    }
    stream
}

fn describe_ours(frame: &Frame<'_>) -> (FrameKind, String) {
    let short = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(ShortString::from);
    let mut kind = FrameKind::Plain;
    let theirs = match frame {
        Frame::Method(channel, method) => {
            let text = match method {
                AMQPClass::Connection(connection::AMQPMethod::Close(close)) => close.reply_text.as_str(),
                AMQPClass::Channel(channel::AMQPMethod::Close(close)) => close.reply_text.as_str(),
                _ => "",
            };
            if text.contains('\u{fffd}') {
                kind = FrameKind::NotUtf8;
            }
            AMQPFrame::Method(*channel, method.clone())
        }
        Frame::Deliver(channel, deliver) => {
            let names = (short(deliver.consumer_tag), short(deliver.exchange), short(deliver.routing_key));
            let (Some(consumer_tag), Some(exchange), Some(routing_key)) = names else {
                return (FrameKind::NotUtf8, format!("{frame:?}"));
            };
            let Deliver { delivery_tag, redelivered, .. } = *deliver;
            let deliver = basic::Deliver { consumer_tag, delivery_tag, redelivered, exchange, routing_key };
            AMQPFrame::Method(*channel, AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver)))
        }
        Frame::GetOk(channel, got) => {
            let (Some(exchange), Some(routing_key)) = (short(got.exchange), short(got.routing_key)) else {
                return (FrameKind::NotUtf8, format!("{frame:?}"));
            };
            let GetOk { delivery_tag, redelivered, message_count, .. } = *got;
            let got = basic::GetOk { delivery_tag, redelivered, exchange, routing_key, message_count };
            AMQPFrame::Method(*channel, AMQPClass::Basic(basic::AMQPMethod::GetOk(got)))
        }
        Frame::Header(channel, header) => {
            let ContentHeader { class_id, body_size, properties, defect, .. } = (**header).clone();
            if defect.is_some() {
                kind = FrameKind::Defect;
            }
            AMQPFrame::Header(*channel, AMQPContentHeader { class_id, body_size, properties })
        }
        Frame::Body(channel, body) => AMQPFrame::Body(*channel, body.to_vec()),
        Frame::Heartbeat => AMQPFrame::Heartbeat,
    };
    (kind, describe(&theirs))
}

/// All that a frame says, to compare.
pub fn describe(frame: &AMQPFrame) -> String {
    format!("{frame:?}")
}

/// Whether the first frame in `bytes` is one that others take and we do not: see `core/fuzz/targets/frames.rs`.
pub fn is_refused_on_purpose(bytes: &[u8]) -> bool {
    let Some((head, rest)) = bytes.split_first_chunk::<7>() else { return false };
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    let Some(payload) = rest.get(..size) else { return head.starts_with(b"AMQP") };
    match head[0] {
        b'A' => true,
        1 => guard::method(payload).is_err_and(|reason| reason.contains("nest deeper")),
        8 => head[1..3] != [0, 0] || !payload.is_empty(),
        _ => false,
    }
}

/// What the guard says of the table at the start of `bytes`: its length, and the memory it takes.
pub fn table(bytes: &[u8]) -> Result<(usize, usize), &'static str> {
    guard::table(bytes).map(|checked| (checked.length, checked.memory))
}

/// The table at the start of bytes that [`table`] has found fit to be parsed.
pub fn read_table(bytes: &[u8]) -> Option<FieldTable> {
    parse_field_table(bytes).ok().map(|(_, table)| table)
}

pub fn write_table(table: &FieldTable) -> Vec<u8> {
    gen_field_table(table)(WriteContext::from(Vec::new()))
        .map_or_else(|error| panic!("a table cannot be written: {error:?}"), |written| written.into_inner().0)
}

/// A content header that was read.
#[derive(Debug)]
pub struct Header {
    pub body_size: u64,
    pub properties: Properties,
    pub defect: Option<HeadersDefect>,
}

pub fn header(payload: &[u8]) -> Result<Header, &'static str> {
    let ContentHeader { body_size, properties, defect, .. } = parse_header(payload)?;
    Ok(Header { body_size, properties, defect })
}

/// The payload of a content header.
pub fn write_header(properties: &Properties, body_size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    encode::header(&mut out, 1, 60, body_size, properties);
    out[7..out.len() - 1].to_vec()
}

/// A delivery with these headers and this body, that nobody settles.
pub fn delivery(headers: FieldTable, body: &[u8]) -> Delivery {
    Delivery {
        lease: None,
        consumer_tag: "".into(),
        delivery_tag: 1,
        redelivered: false,
        no_ack: true,
        exchange: "".into(),
        routing_key: "".into(),
        properties: Properties::default().with_headers(headers),
        headers_error: None,
        body: Bytes::copy_from_slice(body),
        message_count: None,
        memory: 0,
        handed_out: true,
        settled: true.into(),
    }
}

/// Reads an oslo.messaging body that is compressed as its header says.
#[cfg(feature = "oslo")]
pub fn oslo(compression: Option<&str>, body: &[u8], limit: u64) {
    let mut headers = FieldTable::default();
    if let Some(name) = compression {
        headers.insert("compression".into(), Value::LongString(name.into()));
    }
    crate::oslo::read_and_write_again(&delivery(headers, body), limit);
}
