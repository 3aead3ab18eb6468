//! Bytes that are nearly right: frames made up, and frames spoilt.

use super::{Rng, bytes::*};

/// The numbers at which things change.
const EDGES: [u64; 12] =
    [0, 1, 2, 3, 7, 127, 128, 255, 65_535, 131_064, 4_294_967_295, 18_446_744_073_709_551_615];

/// A number that is often small, often at an edge, sometimes anything.
pub fn number(rng: &mut Rng) -> u64 {
    match rng.u8(..4) {
        0 | 1 => rng.u64(..8),
        2 => EDGES[rng.usize(..EDGES.len())],
        _ => rng.u64(..),
    }
}

pub fn random_bytes(rng: &mut Rng, most: usize) -> Vec<u8> {
    let length = rng.usize(..=most);
    (0..length).map(|_| rng.u8(..)).collect()
}

fn name(rng: &mut Rng) -> Vec<u8> {
    match rng.u8(..8) {
        0 => short(random_bytes(rng, 20)),
        1 => short([b'n'; 255]),
        2 => vec![rng.u8(..), b'x'],
        _ => short(["", "q", "amq.rabbitmq.reply-to", "é"][rng.usize(..4)]),
    }
}

/// A table with whatever in it.
fn table(rng: &mut Rng) -> Vec<u8> {
    match rng.u8(..6) {
        0 => nested_table(rng.usize(1..60)),
        1 => long(random_bytes(rng, 40)),
        2 => random_bytes(rng, 8),
        _ => {
            let mut entries = Vec::new();
            for _ in 0..rng.u8(..4) {
                entries.extend(name(rng));
                let kinds = b"tbBsUuIiLlfdDSxTVFA?";
                entries.push(kinds[rng.usize(..kinds.len())]);
                entries.extend(random_bytes(rng, 9));
            }
            long(entries)
        }
    }
}

/// Fields by their kinds: bytes, numbers of 16, 32 and 64 bits, names, long strings, tables.
pub fn fields(rng: &mut Rng, kinds: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for kind in kinds.chars() {
        let number = number(rng);
        match kind {
            'b' => out.push(number as u8),
            'h' => out.extend((number as u16).to_be_bytes()),
            'w' => out.extend((number as u32).to_be_bytes()),
            'l' => out.extend(number.to_be_bytes()),
            'n' => out.extend(name(rng)),
            'S' => out.extend(long(random_bytes(rng, 20))),
            _ => out.extend(table(rng)),
        }
    }
    out
}

/// Every method that a server may send, and some that it may not, with the kinds of its fields.
const METHODS: [(Id, &str); 44] = [
    (START, "bbtSS"),
    ((10, 20), "S"),
    (TUNE, "hwh"),
    (OPEN_OK, "n"),
    (CLOSE, "hnhh"),
    (CLOSE_OK, ""),
    (BLOCKED, "n"),
    ((10, 61), ""),
    ((10, 70), "Sn"),
    (UPDATE_SECRET_OK, ""),
    (CHANNEL_OPEN, "n"),
    (CHANNEL_OPEN_OK, "w"),
    (FLOW, "b"),
    ((20, 21), "b"),
    (CHANNEL_CLOSE, "hnhh"),
    (CHANNEL_CLOSE_OK, ""),
    ((40, 10), "hnnbt"),
    ((40, 11), ""),
    ((40, 21), ""),
    ((40, 31), ""),
    ((40, 51), ""),
    (DECLARE, "hnbt"),
    (DECLARE_OK, "nww"),
    ((50, 21), ""),
    ((50, 31), "w"),
    ((50, 41), "w"),
    ((50, 51), ""),
    (QOS_OK, ""),
    (CONSUME, "hnnbt"),
    (CONSUME_OK, "n"),
    (CANCEL, "nb"),
    (CANCEL_OK, "n"),
    (PUBLISH, "hnnb"),
    (RETURN, "hnnn"),
    (DELIVER, "nlbnn"),
    (GET_OK, "lbnnw"),
    ((60, 72), "n"),
    (ACK, "lb"),
    ((60, 90), "lb"),
    ((60, 110), "b"),
    ((60, 111), ""),
    (NACK, "lb"),
    (SELECT_OK, ""),
    ((90, 11), ""),
];

pub fn channel(rng: &mut Rng) -> u16 {
    match rng.u8(..8) {
        0 => 0,
        1..=5 => rng.u16(1..4),
        _ => number(rng) as u16,
    }
}

/// A frame that parses as one, mostly.
pub fn random_frame(rng: &mut Rng) -> Vec<u8> {
    let channel = channel(rng);
    match rng.u8(..16) {
        0..=8 => {
            let (id, kinds) = METHODS[rng.usize(..METHODS.len())];
            let channel = if id.0 == 10 && rng.u8(..8) > 0 { 0 } else { channel };
            method(channel, id, &fields(rng, kinds))
        }
        9 => header(channel, number(rng), &fields(rng, "ht")),
        10 => {
            let flags = rng.u16(..);
            header(
                channel,
                rng.u64(..4),
                &[&flags.to_be_bytes()[..], &fields(rng, "nntbbnnnnlnnnn")].concat(),
            )
        }
        11 | 12 => body(channel, &random_bytes(rng, 6)),
        13 => HEARTBEAT.to_vec(),
        14 => sized_frame(rng.u8(..10), channel, number(rng) as u32, &random_bytes(rng, 12)),
        _ => random_bytes(rng, 24),
    }
}

/// Spoils frames on their way, some of them.
#[derive(Default)]
pub struct Spoiler {
    pub rng: Rng,
    /// One in this many frames is corrupted; 0 for none.
    pub one_in: u32,
    last: Vec<u8>,
}

impl Spoiler {
    pub fn new(rng: Rng, one_in: u32) -> Self {
        Self { rng, one_in, last: Vec::new() }
    }

    /// The frame as it is sent.
    pub fn pass(&mut self, frame: Vec<u8>) -> Vec<u8> {
        if self.one_in == 0 || self.rng.u32(..self.one_in) > 0 {
            self.last.clone_from(&frame);
            return frame;
        }
        let spoilt = self.spoil(frame.clone());
        self.last = frame;
        spoilt
    }

    fn spoil(&mut self, mut frame: Vec<u8>) -> Vec<u8> {
        let rng = &mut self.rng;
        let place = rng.usize(..frame.len().max(1));
        match rng.u8(..10) {
            // Bit flips.
            0 | 1 => {
                for _ in 0..rng.u8(1..4) {
                    let place = rng.usize(..frame.len().max(1));
                    if let Some(byte) = frame.get_mut(place) {
                        *byte ^= 1 << rng.u8(..8);
                    }
                }
                frame
            }
            // A truncation, and a size that does not fit.
            2 => frame[..place].to_vec(),
            3 => {
                let size = (number(rng) as u32).to_be_bytes();
                if let Some(field) = frame.get_mut(3..7) {
                    field.copy_from_slice(&size);
                }
                frame
            }
            // Twice, not at all, with another in front or behind.
            4 => [frame.clone(), frame].concat(),
            5 => Vec::new(),
            6 => [random_frame(rng), frame].concat(),
            7 => [frame, random_frame(rng)].concat(),
            // A splice of two.
            8 => {
                let other = rng.usize(..=self.last.len());
                [&self.last[..other], &frame[place..]].concat()
            }
            // Another channel.
            _ => {
                let channel = channel(rng).to_be_bytes();
                if let Some(field) = frame.get_mut(1..3) {
                    field.copy_from_slice(&channel);
                }
                frame
            }
        }
    }
}
