//! One frame at a time off the read buffer, with the bounds on framing.
//!
//! A [`Violation`] is the peer's fault and ends the connection. Defects in the *content* of a message are not: they
//! travel inside [`ContentHeader`] and [`Deliver`].

use amq_protocol::{
    protocol::{AMQPClass, channel, connection, parse_class},
    types::ShortString,
};
use bytes::{Buf, BytesMut};

use super::{
    encode::{FRAME_END, FRAME_OVERHEAD},
    guard,
    properties::{ContentHeader, parse_header},
};

/// The peer broke the protocol: the AMQP reply code to close with, and what it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub code: u16,
    pub text: String,
    /// The channel of the frame, where the reader of frames found it; 0 otherwise.
    pub channel: u16,
}

impl Violation {
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), channel: 0 }
    }

    /// 501 FRAME_ERROR.
    pub fn frame(text: impl Into<String>) -> Self {
        Self::new(501, text)
    }

    /// 502 SYNTAX_ERROR.
    pub fn syntax(text: impl Into<String>) -> Self {
        Self::new(502, text)
    }

    /// 503 COMMAND_INVALID.
    pub fn command(text: impl Into<String>) -> Self {
        Self::new(503, text)
    }

    /// 505 UNEXPECTED_FRAME.
    pub fn unexpected(text: impl Into<String>) -> Self {
        Self::new(505, text)
    }
}

/// A frame, borrowing from the read buffer where that saves a copy.
#[derive(Debug)]
pub(crate) enum Frame<'a> {
    Method(u16, AMQPClass),
    /// `basic.deliver` and `basic.get-ok`, undecoded: they carry a publisher's bytes, which may not be UTF-8.
    Deliver(u16, Deliver<'a>),
    GetOk(u16, GetOk<'a>),
    /// In a box, although that is an allocation per message: it is several times as large as the others, and every frame
    /// is moved several times.
    Header(u16, Box<ContentHeader>),
    Body(u16, &'a [u8]),
    Heartbeat,
}

/// `basic.deliver` (AMQP 0-9-1 section 1.8.3.9).
#[derive(Debug)]
pub(crate) struct Deliver<'a> {
    pub consumer_tag: &'a [u8],
    pub delivery_tag: u64,
    pub redelivered: bool,
    pub exchange: &'a [u8],
    pub routing_key: &'a [u8],
}

/// `basic.get-ok` (AMQP 0-9-1 section 1.8.3.11).
#[derive(Debug)]
pub(crate) struct GetOk<'a> {
    pub delivery_tag: u64,
    pub redelivered: bool,
    pub exchange: &'a [u8],
    pub routing_key: &'a [u8],
    pub message_count: u32,
}

impl Frame<'_> {
    /// The channel that it is on; 0 is the connection itself.
    pub fn channel(&self) -> u16 {
        match self {
            Frame::Method(number, _)
            | Frame::Deliver(number, _)
            | Frame::GetOk(number, _)
            | Frame::Header(number, _)
            | Frame::Body(number, _) => *number,
            Frame::Heartbeat => 0,
        }
    }
}

/// The type of a content header's frame.
const HEADER: u8 = 2;

/// How far a content header may pass `frame_max`. RabbitMQ sends it in one frame whatever its size, and it grows on the
/// way: each dead-lettering adds to `x-death`, some 200 bytes for a queue.
const HEADER_EXCESS: usize = 1024 * 1024;

/// Frames off a buffer that the owner fills.
#[derive(Debug)]
pub(crate) struct FrameReader {
    buffer: BytesMut,
    /// Bytes of the frame handed out last; they are dropped at the next call.
    used: usize,
    frame_max: usize,
}

impl FrameReader {
    /// `frame_max` in bytes, the eight bytes around a payload included.
    pub fn new(frame_max: u32) -> Self {
        Self { buffer: BytesMut::new(), used: 0, frame_max: frame_max as usize }
    }

    pub fn set_frame_max(&mut self, frame_max: u32) {
        self.frame_max = frame_max as usize;
    }

    /// The buffer to read into, without the bytes that were handed out.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.buffer.advance(std::mem::take(&mut self.used));
        &mut self.buffer
    }

    /// Bytes behind the frame that was handed out last.
    #[cfg(feature = "fuzzing")]
    pub fn unread(&self) -> usize {
        self.buffer.len() - self.used
    }

    /// The next whole frame; `None` when more bytes are needed.
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, Violation> {
        self.buffer.advance(std::mem::take(&mut self.used));
        let Some(head) = self.buffer.first_chunk::<7>() else {
            return match self.buffer.first() {
                // `A` may open a protocol header; the rest of it will tell.
                Some(b'A') | None => Ok(None),
                Some(kind) => check_kind(*kind).map(|()| None),
            };
        };
        let kind = head[0];
        if head[..4] == *b"AMQP" {
            let version = &head[4..7];
            return Err(Violation::frame(format!(
                "the peer answered with a protocol header (AMQP {version:?}), not with a frame: it does not speak \
                 AMQP 0-9-1, or did not understand what it was sent"
            )));
        }
        check_kind(kind)?;
        let channel = u16::from_be_bytes([head[1], head[2]]);
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let max = self.frame_max;
        if kind == HEADER && size > max + HEADER_EXCESS {
            let bound = max + HEADER_EXCESS;
            let text = format!("a content header of {size} bytes passes the bound of {bound}");
            return Err(Violation { channel, ..Violation::frame(text) });
        }
        if kind != HEADER && size > max - FRAME_OVERHEAD {
            let text = format!("a frame of {size} bytes passes frame_max ({max})");
            return Err(Violation { channel, ..Violation::frame(text) });
        }
        let total = size + FRAME_OVERHEAD;
        if self.buffer.len() < total {
            return Ok(None);
        }
        if self.buffer[total - 1] != FRAME_END {
            return Err(Violation::frame("a frame does not end with the frame-end octet 0xCE"));
        }
        self.used = total;
        match parse(kind, channel, &self.buffer[7..total - 1]) {
            Ok(frame) => Ok(Some(frame)),
            Err(fault) => Err(Violation { channel, ..fault }),
        }
    }
}

fn check_kind(kind: u8) -> Result<(), Violation> {
    match kind {
        1 | 2 | 3 | 8 => Ok(()),
        _ => Err(unknown_kind(kind)),
    }
}

fn unknown_kind(kind: u8) -> Violation {
    Violation::frame(format!("unknown frame type {kind}: the peer does not speak AMQP 0-9-1"))
}

fn parse(kind: u8, channel: u16, payload: &[u8]) -> Result<Frame<'_>, Violation> {
    match kind {
        1 => parse_method(channel, payload),
        2 => parse_header(payload)
            .map(|header| Frame::Header(channel, Box::new(header)))
            .map_err(Violation::frame),
        3 => Ok(Frame::Body(channel, payload)),
        8 if channel == 0 && payload.is_empty() => Ok(Frame::Heartbeat),
        8 => Err(Violation::frame("a heartbeat frame has a payload or a channel")),
        _ => Err(unknown_kind(kind)),
    }
}

fn parse_method(number: u16, payload: &[u8]) -> Result<Frame<'_>, Violation> {
    match payload {
        [0, 60, 0, 60, fields @ ..] => Deliver::parse(fields).map(|deliver| Frame::Deliver(number, deliver)),
        [0, 60, 0, 71, fields @ ..] => GetOk::parse(fields).map(|get_ok| Frame::GetOk(number, get_ok)),
        [0, 10, 0, 50, fields @ ..] => {
            let Closed { reply_code, reply_text, class_id, method_id } = Closed::parse(fields)?;
            let close = connection::Close { reply_code, reply_text, class_id, method_id };
            Ok(Frame::Method(number, AMQPClass::Connection(connection::AMQPMethod::Close(close))))
        }
        [0, 20, 0, 40, fields @ ..] => {
            let Closed { reply_code, reply_text, class_id, method_id } = Closed::parse(fields)?;
            let close = channel::Close { reply_code, reply_text, class_id, method_id };
            Ok(Frame::Method(number, AMQPClass::Channel(channel::AMQPMethod::Close(close))))
        }
        _ => {
            guard::method(payload).map_err(Violation::syntax)?;
            match parse_class(payload) {
                Ok(([], method)) => Ok(Frame::Method(number, method)),
                _ => {
                    let ids: Vec<u16> = payload
                        .chunks_exact(2)
                        .take(2)
                        .map(|id| u16::from_be_bytes([id[0], id[1]]))
                        .collect();
                    Err(Violation::syntax(format!(
                        "the fields of method {ids:?} (class, method) do not parse"
                    )))
                }
            }
        }
    }
}

/// Reads the fields of a method front to back.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or_else(cut_short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn short_string(&mut self) -> Result<&'a [u8], Violation> {
        let [length] = self.take()?;
        let (taken, rest) = self.0.split_at_checked(length.into()).ok_or_else(cut_short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn end(self) -> Result<(), Violation> {
        if self.0.is_empty() { Ok(()) } else { Err(Violation::syntax("bytes are left over after a method")) }
    }
}

/// `connection.close` and `channel.close` (AMQP 0-9-1 sections 1.4.2.9 and 1.5.2.5). RabbitMQ cuts a text that is too
/// long without a look at its characters.
struct Closed {
    reply_code: u16,
    reply_text: ShortString,
    class_id: u16,
    method_id: u16,
}

impl Closed {
    fn parse(fields: &[u8]) -> Result<Self, Violation> {
        let mut fields = Fields(fields);
        let closed = Self {
            reply_code: u16::from_be_bytes(fields.take()?),
            reply_text: cut_to_fit(String::from_utf8_lossy(fields.short_string()?).into_owned()),
            class_id: u16::from_be_bytes(fields.take()?),
            method_id: u16::from_be_bytes(fields.take()?),
        };
        fields.end()?;
        Ok(closed)
    }
}

/// As much of a text as a short string holds.
pub(crate) fn cut_to_fit(mut text: String) -> ShortString {
    text.truncate((0..=255).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0));
    ShortString::try_new(text).unwrap_or_default()
}

fn cut_short() -> Violation {
    Violation::syntax("a method ends inside its fields")
}

impl<'a> Deliver<'a> {
    fn parse(fields: &'a [u8]) -> Result<Self, Violation> {
        let mut fields = Fields(fields);
        let deliver = Self {
            consumer_tag: fields.short_string()?,
            delivery_tag: u64::from_be_bytes(fields.take()?),
            redelivered: fields.take::<1>()?[0] & 1 != 0,
            exchange: fields.short_string()?,
            routing_key: fields.short_string()?,
        };
        fields.end()?;
        Ok(deliver)
    }
}

impl<'a> GetOk<'a> {
    fn parse(fields: &'a [u8]) -> Result<Self, Violation> {
        let mut fields = Fields(fields);
        let get_ok = Self {
            delivery_tag: u64::from_be_bytes(fields.take()?),
            redelivered: fields.take::<1>()?[0] & 1 != 0,
            exchange: fields.short_string()?,
            routing_key: fields.short_string()?,
            message_count: u32::from_be_bytes(fields.take()?),
        };
        fields.end()?;
        Ok(get_ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{message::Properties, wire::encode};
    use amq_protocol::protocol::queue;

    fn reader(bytes: &[u8]) -> FrameReader {
        let mut reader = FrameReader::new(4096);
        reader.buffer().extend_from_slice(bytes);
        reader
    }

    #[test]
    fn what_is_written_is_read_at_any_split() {
        let mut bytes = Vec::new();
        let declare = queue::Declare { queue: "q".into(), durable: true, ..queue::Declare::default() };
        encode::method(&mut bytes, 3, &AMQPClass::Queue(queue::AMQPMethod::Declare(declare)));
        encode::header(&mut bytes, 3, 60, 3, &Properties::default().with_priority(1));
        encode::body(&mut bytes, 3, b"abc", 4096);
        encode::heartbeat(&mut bytes);
        for split in 0..bytes.len() {
            let mut reader = FrameReader::new(4096);
            let mut seen = Vec::new();
            for part in [&bytes[..split], &bytes[split..]] {
                reader.buffer().extend_from_slice(part);
                while let Some(frame) = reader.next().unwrap() {
                    seen.push(match frame {
                        Frame::Method(3, AMQPClass::Queue(_)) => 'm',
                        Frame::Header(3, header) if header.body_size == 3 => 'h',
                        Frame::Body(3, b"abc") => 'b',
                        Frame::Heartbeat => 'h',
                        other => panic!("{other:?}"),
                    });
                }
            }
            assert_eq!(seen, ['m', 'h', 'b', 'h'], "split at {split}");
        }
    }

    #[test]
    fn bodies_are_split_at_frame_max() {
        let mut bytes = Vec::new();
        encode::body(&mut bytes, 1, &[7; 10_000], 4096);
        let mut reader = reader(&bytes);
        let mut sizes = Vec::new();
        while let Some(Frame::Body(1, chunk)) = reader.next().unwrap() {
            sizes.push(chunk.len());
        }
        assert_eq!(sizes, [4088, 4088, 1824]);
    }

    #[test]
    fn framing_faults_name_their_bound() {
        let huge = reader(&[3, 0, 1, 0, 0, 0x10, 0]).next().unwrap_err();
        assert_eq!(huge.code, 501);
        assert!(huge.text.contains("4096"));
        assert_eq!(reader(&[9]).next().unwrap_err().code, 501);
        let header = reader(&[2, 0, 7, 0, 0x10, 0x10, 1]).next().unwrap_err();
        assert_eq!((header.code, header.channel), (501, 7));
        assert!(header.text.contains("1052672"), "{}", header.text);
        assert!(reader(&[2, 0, 7, 0, 0x10, 0x10, 0]).next().unwrap().is_none(), "headers may pass frame_max");
        assert_eq!(reader(b"AMQP\0\0\x09\x01").next().unwrap_err().code, 501);
        assert_eq!(reader(b"HTTP/1.1 400 Bad Request").next().unwrap_err().code, 501);
        assert_eq!(reader(&[8, 0, 0, 0, 0, 0, 0, 1]).next().unwrap_err().code, 501);
        assert_eq!(reader(&[1, 0, 1, 0, 0, 0, 2, 0, 60, 0xCE]).next().unwrap_err().code, 502);
        assert_eq!(reader(&[2, 0, 1, 0, 0, 0, 2, 0, 60, 0xCE]).next().unwrap_err().code, 501);
    }

    #[test]
    fn a_channel_method_without_channel_is_for_the_owner_to_judge() {
        let mut bytes = Vec::new();
        encode::method(&mut bytes, 0, &AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})));
        assert!(matches!(reader(&bytes).next(), Ok(Some(Frame::Method(0, _)))));
    }
}
