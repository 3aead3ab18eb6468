//! Frames into a buffer.
//!
//! Rare methods and the properties of a content go through `amq-protocol`'s generators. `basic.publish`,
//! `basic.deliver`, `basic.ack`, `basic.nack`, `basic.reject` and the rest of a content are written by hand, because
//! they make up nearly all traffic and the generator allocates a map of flag names for each method.

use amq_protocol::protocol::{AMQPClass, basic::gen_properties, gen_class};

use crate::message::Properties;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
pub(super) const FRAME_END: u8 = 0xCE;

/// What a client sends first (AMQP 0-9-1 section 4.2.2).
pub(crate) const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\0\0\x09\x01";

/// The bytes a frame has around its payload.
pub(crate) const FRAME_OVERHEAD: usize = 8;

/// Starts a frame; returns where its payload begins, for [`end`].
fn begin(out: &mut Vec<u8>, kind: u8, channel: u16) -> usize {
    let [high, low] = channel.to_be_bytes();
    out.extend_from_slice(&[kind, high, low, 0, 0, 0, 0]);
    out.len()
}

fn end(out: &mut Vec<u8>, payload: usize) {
    let length = (out.len() - payload) as u32;
    out[payload - 4..payload].copy_from_slice(&length.to_be_bytes());
    out.push(FRAME_END);
}

/// Writes a short string. The callers have checked its length, or got it from a [`ShortString`].
///
/// [`ShortString`]: amq_protocol::types::ShortString
fn short_string(out: &mut Vec<u8>, value: &[u8]) {
    debug_assert!(value.len() <= 255);
    out.push(value.len() as u8);
    out.extend_from_slice(value);
}

/// A method frame.
pub(crate) fn method(out: &mut Vec<u8>, channel: u16, method: &AMQPClass) {
    let payload = begin(out, METHOD, channel);
    generate(out, |buffer| gen_class(method)(buffer));
    end(out, payload);
}

/// Runs one of `amq-protocol`'s generators at the end of `out`.
fn generate(
    out: &mut Vec<u8>,
    generator: impl FnOnce(amq_protocol::frame::WriteContext<Vec<u8>>) -> amq_protocol::frame::GenResult<Vec<u8>>,
) {
    let written = generator(std::mem::take(out).into());
    // Writing to a `Vec` cannot fail, and lengths are checked before a value gets here.
    *out = written.expect("a generator writing to memory succeeds").into_inner().0;
}

/// `basic.publish` (AMQP 0-9-1 section 1.8.3.7) without its content.
pub(crate) fn publish(out: &mut Vec<u8>, channel: u16, exchange: &str, routing_key: &str, mandatory: bool) {
    let payload = begin(out, METHOD, channel);
    out.extend_from_slice(&[0, 60, 0, 40, 0, 0]);
    short_string(out, exchange.as_bytes());
    short_string(out, routing_key.as_bytes());
    out.push(u8::from(mandatory));
    end(out, payload);
}

/// `basic.deliver` (AMQP 0-9-1 section 1.8.3.9) without its content.
#[cfg(feature = "broker")]
pub(crate) fn deliver(
    out: &mut Vec<u8>,
    channel: u16,
    consumer_tag: &str,
    delivery_tag: u64,
    redelivered: bool,
    exchange: &[u8],
    routing_key: &[u8],
) {
    let payload = begin(out, METHOD, channel);
    out.extend_from_slice(&[0, 60, 0, 60]);
    short_string(out, consumer_tag.as_bytes());
    out.extend_from_slice(&delivery_tag.to_be_bytes());
    out.push(u8::from(redelivered));
    short_string(out, exchange);
    short_string(out, routing_key);
    end(out, payload);
}

/// `basic.ack` (AMQP 0-9-1 section 1.8.3.13).
pub(crate) fn ack(out: &mut Vec<u8>, channel: u16, delivery_tag: u64, multiple: bool) {
    let payload = begin(out, METHOD, channel);
    out.extend_from_slice(&[0, 60, 0, 80]);
    out.extend_from_slice(&delivery_tag.to_be_bytes());
    out.push(u8::from(multiple));
    end(out, payload);
}

/// `basic.reject`.
pub(crate) fn reject(out: &mut Vec<u8>, channel: u16, delivery_tag: u64, requeue: bool) {
    let payload = begin(out, METHOD, channel);
    out.extend_from_slice(&[0, 60, 0, 90]);
    out.extend_from_slice(&delivery_tag.to_be_bytes());
    out.push(u8::from(requeue));
    end(out, payload);
}

/// `basic.nack` (RabbitMQ extension).
pub(crate) fn nack(out: &mut Vec<u8>, channel: u16, delivery_tag: u64, multiple: bool, requeue: bool) {
    let payload = begin(out, METHOD, channel);
    out.extend_from_slice(&[0, 60, 0, 120]);
    out.extend_from_slice(&delivery_tag.to_be_bytes());
    out.push(u8::from(multiple) | u8::from(requeue) << 1);
    end(out, payload);
}

/// A content header frame.
pub(crate) fn header(
    out: &mut Vec<u8>,
    channel: u16,
    class_id: u16,
    body_size: u64,
    properties: &Properties,
) {
    let payload = begin_header(out, channel, class_id, body_size);
    generate(out, |buffer| gen_properties(properties)(buffer));
    end(out, payload);
}

/// Property flags and list alone.
#[cfg(feature = "broker")]
pub(crate) fn property_list(properties: &Properties) -> bytes::Bytes {
    let mut out = Vec::new();
    generate(&mut out, |buffer| gen_properties(properties)(buffer));
    out.into()
}

/// A content header frame whose property flags and list are passed on as they came.
#[cfg(feature = "broker")]
pub(crate) fn raw_header(out: &mut Vec<u8>, channel: u16, class_id: u16, body_size: u64, list: &[u8]) {
    let payload = begin_header(out, channel, class_id, body_size);
    out.extend_from_slice(list);
    end(out, payload);
}

fn begin_header(out: &mut Vec<u8>, channel: u16, class_id: u16, body_size: u64) -> usize {
    let payload = begin(out, HEADER, channel);
    out.extend_from_slice(&class_id.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&body_size.to_be_bytes());
    payload
}

/// One body frame; the caller keeps it within `frame_max`.
pub(crate) fn body_frame(out: &mut Vec<u8>, channel: u16, chunk: &[u8]) {
    let payload = begin(out, BODY, channel);
    out.extend_from_slice(chunk);
    end(out, payload);
}

/// A whole body in as many frames as `frame_max` asks for; an empty body has none.
#[cfg(any(test, feature = "broker"))]
pub(crate) fn body(out: &mut Vec<u8>, channel: u16, body: &[u8], frame_max: u32) {
    for chunk in body.chunks(frame_max as usize - FRAME_OVERHEAD) {
        body_frame(out, channel, chunk);
    }
}

/// A heartbeat frame (AMQP 0-9-1 section 4.2.7).
pub(crate) fn heartbeat(out: &mut Vec<u8>) {
    out.extend_from_slice(&[HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END]);
}
