//! A broker that is a byte stream: what is written to it is answered at once, into what is read from it.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use murano_messaging::{Connecting, Connector, Host, Stream, TlsOptions};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub const PREFETCH: u16 = 500;

/// Connects clients to peers that deliver `messages` messages to a consumer.
pub struct Peer {
    messages: u64,
}

impl Peer {
    pub fn new(messages: u64) -> Self {
        Self { messages }
    }
}

impl Connector for Peer {
    fn connect<'a>(&'a self, _: &'a Host, _: Option<&'a TlsOptions>) -> Connecting<'a> {
        let line = Line::new(self.messages);
        Box::pin(async move { Ok(Stream::new(line, "peer".to_owned())) })
    }
}

struct Line(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    heard: Vec<u8>,
    /// What the client is to read, from `read` on.
    said: Vec<u8>,
    read: usize,
    reader: Option<Waker>,
    greeted: bool,
    published: u64,
    /// The channel of publishes that were not confirmed yet.
    unconfirmed: Option<u16>,
    /// A delivery as it is sent, but for its tag; empty without a consumer.
    delivery: Vec<u8>,
    delivered: u64,
    acked: u64,
    messages: u64,
}

impl Line {
    fn new(messages: u64) -> Self {
        Self(Arc::new(Mutex::new(State { messages, ..State::default() })))
    }
}

impl State {
    fn hear(&mut self, bytes: &[u8]) {
        self.heard.extend_from_slice(bytes);
        let heard = std::mem::take(&mut self.heard);
        let mut rest = &heard[..];
        if !self.greeted && rest.len() >= 8 {
            rest = &rest[8..];
            self.greeted = true;
            // Version 0-9, no properties.
            let start = [&[0, 9, 0, 0, 0, 0][..], &long(b"PLAIN"), &long(b"en_US")].concat();
            self.say(0, (10, 10), &start);
        }
        while rest.len() >= 7 {
            let size = u32::from_be_bytes([rest[3], rest[4], rest[5], rest[6]]) as usize;
            if rest.len() < size + 8 {
                break;
            }
            let (kind, channel) = (rest[0], u16::from_be_bytes([rest[1], rest[2]]));
            match kind {
                1 => self.answer(channel, &rest[7..7 + size]),
                3 => {
                    self.published += 1;
                    self.unconfirmed = Some(channel);
                }
                _ => {}
            }
            rest = &rest[size + 8..];
        }
        self.heard = rest.to_vec();
        if let Some(channel) = self.unconfirmed.take() {
            let ack = [&self.published.to_be_bytes()[..], &[1]].concat();
            self.say(channel, (60, 80), &ack);
        }
        if !self.delivery.is_empty() {
            while self.delivered < self.messages && self.delivered - self.acked < u64::from(PREFETCH) {
                self.delivered += 1;
                // Behind the frame's head, the method's ids and the consumer tag "c".
                self.delivery[13..21].copy_from_slice(&self.delivered.to_be_bytes());
                self.said.extend_from_slice(&self.delivery);
            }
        }
        if let Some(reader) = self.reader.take_if(|_| self.read < self.said.len()) {
            reader.wake();
        }
    }

    fn answer(&mut self, channel: u16, method: &[u8]) {
        let id = (u16::from_be_bytes([method[0], method[1]]), u16::from_be_bytes([method[2], method[3]]));
        match id {
            // tune: 2047 channels, frames of 128 KiB, no heartbeat.
            (10, 11) => self.say(0, (10, 30), &[7, 255, 0, 2, 0, 0, 0, 0]),
            (10, 40) => self.say(0, (10, 41), &[0]),
            (10, 50) => self.say(0, (10, 51), &[]),
            (20, 10) => self.say(channel, (20, 11), &[0, 0, 0, 0]),
            (20, 40) => self.say(channel, (20, 41), &[]),
            (60, 10) => self.say(channel, (60, 11), &[]),
            (60, 20) => {
                // Behind ids and ticket come the queue and the tag.
                let queue = usize::from(method[6]);
                let tag = &method[7 + queue..][..=usize::from(method[7 + queue])];
                self.say(channel, (60, 21), tag);
                let head = [tag, &[0; 8], &[0], &[0], &[5], b"queue"].concat();
                let header = [&[0, 60, 0, 0][..], &256u64.to_be_bytes(), &[0x10, 0, 2]].concat();
                self.delivery = frame(1, channel, &[&[0, 60, 0, 60][..], &head].concat());
                self.delivery.extend(frame(2, channel, &header));
                self.delivery.extend(frame(3, channel, &[b'x'; 256]));
                assert_eq!(tag.len(), 2, "the consumer's tag is one byte");
            }
            (60, 30) => {
                let tag = method[4..].split_last().map_or(&[][..], |(_, tag)| tag).to_vec();
                self.say(channel, (60, 31), &tag);
            }
            (60, 80) => {
                let tag = method[4..12].try_into().map_or(0, u64::from_be_bytes);
                self.acked = self.acked.max(tag);
            }
            (85, 10) => self.say(channel, (85, 11), &[]),
            _ => {}
        }
    }

    fn say(&mut self, channel: u16, (class, id): (u16, u16), fields: &[u8]) {
        let payload = [&class.to_be_bytes()[..], &id.to_be_bytes(), fields].concat();
        self.said.extend(frame(1, channel, &payload));
    }
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).expect("a frame of the peer is small");
    [&[kind][..], &channel.to_be_bytes(), &size.to_be_bytes(), payload, &[0xCE]].concat()
}

fn long(text: &[u8]) -> Vec<u8> {
    let size = u32::try_from(text.len()).expect("a text of the peer is short");
    [&size.to_be_bytes()[..], text].concat()
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        if state.read == state.said.len() {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = buf.remaining().min(state.said.len() - state.read);
        buf.put_slice(&state.said[state.read..state.read + count]);
        state.read += count;
        if state.read == state.said.len() {
            state.said.clear();
            state.read = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).hear(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
