//! The embedded broker and a client that knows the protocol: it opens channels, declares with arguments that mean something,
//! binds, publishes whole contents, consumes and settles, and spoils some of that. What it does, the bytes decide. Time goes
//! on in between, so that what expires does.

use std::time::Duration;

use murano_messaging::Broker;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    Rng,
    broker_bytes::{is_alive, login},
    bytes::*,
    converse,
    mutate::{Spoiler, fields, number, random_bytes, random_frame},
};

/// Every method that a client may send after the login, with the kinds of its fields.
const METHODS: [(Id, &str); 30] = [
    (CLOSE, "hnhh"),
    (CLOSE_OK, ""),
    ((10, 70), "Sn"),
    (CHANNEL_OPEN, "n"),
    (FLOW, "b"),
    ((20, 21), "b"),
    (CHANNEL_CLOSE, "hnhh"),
    (CHANNEL_CLOSE_OK, ""),
    ((40, 10), "hnnbt"),
    ((40, 20), "hnb"),
    ((40, 30), "hnnnbt"),
    ((40, 40), "hnnnbt"),
    (DECLARE, "hnbt"),
    ((50, 20), "hnnnbt"),
    ((50, 30), "hnb"),
    ((50, 40), "hnb"),
    ((50, 50), "hnnnt"),
    (QOS, "whb"),
    (CONSUME, "hnnbt"),
    (CANCEL, "nb"),
    (PUBLISH, "hnnb"),
    (GET, "hnb"),
    (ACK, "lb"),
    ((60, 90), "lb"),
    ((60, 100), "b"),
    ((60, 110), "b"),
    (NACK, "lb"),
    (SELECT, "b"),
    ((90, 10), ""),
    ((10, 50), "hnhh"),
];

const QUEUES: [&str; 5] = ["", "q", "r", "s", "amq.gen"];
const EXCHANGES: [&str; 8] =
    ["", "x", "y", "amq.topic", "amq.fanout", "amq.direct", "amq.headers", "amq.match"];
const KINDS: [&str; 5] = ["direct", "fanout", "topic", "headers", "x-delayed-message"];
const KEYS: [&str; 7] = ["", "q", "r", "a.b", "a.*", "#.b", "*.*.#"];
const ARGUMENTS: [&str; 16] = [
    "x-message-ttl",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-priority",
    "x-queue-type",
    "x-overflow",
    "x-single-active-consumer",
    "x-delivery-limit",
    "x-dead-letter-strategy",
    "alternate-exchange",
    "x-match",
    "x-priority",
    "x-queue-mode",
];
const TEXTS: [&str; 10] = [
    "q",
    "x",
    "quorum",
    "classic",
    "stream",
    "reject-publish",
    "drop-head",
    "reject-publish-dlx",
    "any",
    "lazy",
];

fn one_of(rng: &mut Rng, texts: &[&str]) -> Vec<u8> {
    short(texts[rng.usize(..texts.len())])
}

/// A table of arguments that the broker knows.
fn arguments(rng: &mut Rng) -> Vec<u8> {
    let mut entries = Vec::new();
    for _ in 0..rng.u8(..4) {
        entries.extend(one_of(rng, &ARGUMENTS));
        match rng.u8(..4) {
            0 => {
                entries.push(b'S');
                entries.extend(long(TEXTS[rng.usize(..TEXTS.len())]));
            }
            1 => {
                entries.push(b'l');
                entries.extend(number(rng).to_be_bytes());
            }
            2 => entries.extend([b'I', 0, 0, 0, rng.u8(..20)]),
            _ => entries.extend([b't', rng.u8(..2)]),
        }
    }
    long(entries)
}

/// Frames of one step that makes sense, on `channel`.
fn step(rng: &mut Rng, channel: u16) -> Vec<Vec<u8>> {
    let zero = [0, 0];
    match rng.u8(..14) {
        0 => vec![method(channel, CHANNEL_OPEN, &[0])],
        1 => {
            let bits = [rng.u8(..32) & !1];
            let fields = [&zero[..], &one_of(rng, &QUEUES), &bits, &arguments(rng)].concat();
            vec![method(channel, DECLARE, &fields)]
        }
        2 => {
            let (name, kind) = (one_of(rng, &EXCHANGES), one_of(rng, &KINDS));
            let bits = [rng.u8(..32) & !1];
            vec![method(channel, (40, 10), &[&zero[..], &name, &kind, &bits, &arguments(rng)].concat())]
        }
        3 => {
            let (queue, exchange, key) = (one_of(rng, &QUEUES), one_of(rng, &EXCHANGES), one_of(rng, &KEYS));
            vec![method(
                channel,
                (50, 20),
                &[&zero[..], &queue, &exchange, &key, &[0], &arguments(rng)].concat(),
            )]
        }
        4 => {
            let (to, from, key) = (one_of(rng, &EXCHANGES), one_of(rng, &EXCHANGES), one_of(rng, &KEYS));
            vec![method(channel, (40, 30), &[&zero[..], &to, &from, &key, &[0], &arguments(rng)].concat())]
        }
        5..=7 => {
            let (exchange, key) = (one_of(rng, &EXCHANGES), one_of(rng, &KEYS));
            let publish = method(channel, PUBLISH, &[&zero[..], &exchange, &key, &[rng.u8(..2)]].concat());
            let text = random_bytes(rng, 12);
            let properties = match rng.u8(..4) {
                0 => [&[0x20, 0][..], &arguments(rng)].concat(),
                // An expiration.
                1 => [&[0x01, 0][..], &short(rng.u8(..20).to_string())].concat(),
                2 => [&[0x18, 0][..], &[2, rng.u8(..)]].concat(),
                _ => BARE.to_vec(),
            };
            let mut frames = vec![publish, header(channel, text.len() as u64, &properties)];
            frames.extend(text.chunks(5).map(|chunk| body(channel, chunk)));
            frames
        }
        8 => {
            let (queue, tag) = (one_of(rng, &QUEUES), short(["c", "d", ""][rng.usize(..3)]));
            let bits = [rng.u8(..16) & !8];
            vec![method(channel, CONSUME, &[&zero[..], &queue, &tag, &bits, &arguments(rng)].concat())]
        }
        9 => vec![method(channel, GET, &[&zero[..], &one_of(rng, &QUEUES), &[rng.u8(..2)]].concat())],
        10 => {
            let id = [ACK, NACK, (60, 90)][rng.usize(..3)];
            vec![method(channel, id, &[&rng.u64(..6).to_be_bytes()[..], &[rng.u8(..4)]].concat())]
        }
        11 => vec![method(channel, QOS, &[&[0; 4][..], &[0, rng.u8(..4)], &[rng.u8(..2)]].concat())],
        12 => vec![method(channel, SELECT, &[0])],
        _ => {
            let (id, kinds) = METHODS[rng.usize(..METHODS.len())];
            let channel = if id.0 == 10 { 0 } else { channel };
            vec![method(channel, id, &fields(rng, kinds))]
        }
    }
}

pub fn run(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let mut rng = Rng::of(rest);
    let spoilt = [0, 0, 0, 30, 8][usize::from(*first) % 5];
    converse(async move {
        let broker = Broker::seeded(1);
        broker.deny_deprecated(rng.u8(..8) == 1);
        // Two clients, whose steps alternate as the bytes have it.
        let mut clients = Vec::new();
        for _ in 0..2 {
            let Ok(mut stream) = broker.connect() else { return };
            let opening =
                [login(4096), method(1, CHANNEL_OPEN, &[0]), method(2, CHANNEL_OPEN, &[0])].concat();
            if stream.write_all(&opening).await.is_err() {
                return;
            }
            clients.push(stream);
        }
        let mut spoiler = Spoiler::new(rng.fork(), spoilt);
        let mut heard = vec![0; 65_536];
        while !rng.is_used_up() {
            let client = rng.usize(..4) % 2;
            let channel = u16::from(rng.u8(..8)) % 3 + u16::from(rng.u8(..32) != 1);
            let frames =
                if rng.u8(..32) == 1 { vec![random_frame(&mut rng)] } else { step(&mut rng, channel) };
            for frame in frames {
                let frame = spoiler.pass(frame);
                // The broker may have ended the connection, or wait for somebody to read.
                let sent = tokio::time::timeout(Duration::from_millis(1), clients[client].write_all(&frame));
                let _ = sent.await;
            }
            // One that never reads, at times.
            if rng.u8(..8) > 0 {
                let wait = Duration::from_millis(rng.u64(..3));
                let _ = tokio::time::timeout(wait, clients[client].read(&mut heard)).await;
            }
        }
        for client in &mut clients {
            let _ = tokio::time::timeout(Duration::from_secs(1), client.read(&mut heard)).await;
        }
        drop(clients);
        is_alive(&broker).await;
    });
}
