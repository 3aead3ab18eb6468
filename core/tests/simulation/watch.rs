//! What a trace shows besides the ledger's own notes: the frames on every connection.

use std::{fmt::Write as _, sync::OnceLock};

use crate::ledger::Ledger;

/// Whether this process shows a trace (`TRACE=1`). Frames are decoded only then: it takes longer than the run itself.
pub fn is_tracing() -> bool {
    static TRACING: OnceLock<bool> = OnceLock::new();
    *TRACING.get_or_init(|| std::env::var("TRACE").is_ok_and(|value| value == "1"))
}

/// Cuts one direction of a connection into frames and says what they are.
#[derive(Default)]
pub struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    /// Notes every frame that these bytes complete. `towards` is `->` for the broker and `<-` for the client.
    pub fn note(&mut self, passed: &[u8], connection: u64, towards: &str, ledger: &Ledger) {
        self.bytes.extend_from_slice(passed);
        loop {
            if self.bytes.starts_with(b"AMQP") && self.bytes.len() >= 8 {
                self.bytes.drain(..8);
                ledger.note(&format!("{connection} {towards} protocol header"));
                continue;
            }
            let Some(&[kind, c1, c2, s1, s2, s3, s4]) = self.bytes.first_chunk::<7>() else { return };
            let end = 7 + u32::from_be_bytes([s1, s2, s3, s4]) as usize + 1;
            let Some(payload) = self.bytes.get(7..end) else { return };
            let channel = u16::from_be_bytes([c1, c2]);
            let text = describe(kind, &payload[..payload.len() - 1]);
            ledger.note(&format!("{connection} {towards} channel {channel}: {text}"));
            self.bytes.drain(..end);
        }
    }
}

fn describe(kind: u8, payload: &[u8]) -> String {
    match (kind, payload) {
        (1, [0, class, 0, id, fields @ ..]) => method(*class, *id, fields),
        (2, [0, 60, 0, 0, size @ ..]) => {
            let size = size.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
            format!("header of a body of {} bytes", size.unwrap_or_default())
        }
        (3, body) => format!("body frame of {} bytes", body.len()),
        (8, _) => "heartbeat".into(),
        _ => format!("frame of unknown type {kind}"),
    }
}

/// The name of a method with the fields that tell one from another.
fn method(class: u8, id: u8, fields: &[u8]) -> String {
    let class_name = match class {
        10 => "connection",
        20 => "channel",
        40 => "exchange",
        50 => "queue",
        60 => "basic",
        85 => "confirm",
        _ => "unknown class",
    };
    let name = match (class, id) {
        (10, 10) => "start",
        (10, 11) => "start-ok",
        (10, 30) => "tune",
        (10, 31) => "tune-ok",
        (10, 40) | (20, 10) => "open",
        (10, 41) | (20, 11) => "open-ok",
        (10, 50) | (20, 40) => "close",
        (10, 51) | (20, 41) => "close-ok",
        (10, 60) => "blocked",
        (10, 61) => "unblocked",
        (40 | 50, 10) => "declare",
        (40 | 50, 11) => "declare-ok",
        (40, 20) | (50, 40) => "delete",
        (40, 21) | (50, 41) => "delete-ok",
        (50, 20) | (40, 30) => "bind",
        (50, 21) | (40, 31) => "bind-ok",
        (50, 30) => "purge",
        (50, 31) => "purge-ok",
        (50, 50) | (40, 40) => "unbind",
        (50 | 40, 51) => "unbind-ok",
        (60, 10) => "qos",
        (60, 11) => "qos-ok",
        (85, 11) => "select-ok",
        (60, 20) => "consume",
        (60, 21) => "consume-ok",
        (60, 30) => "cancel",
        (60, 31) => "cancel-ok",
        (60, 40) => "publish",
        (60, 50) => "return",
        (60, 60) => "deliver",
        (60, 70) => "get",
        (60, 71) => "get-ok",
        (60, 72) => "get-empty",
        (60, 80) => "ack",
        (60, 90) => "reject",
        (60, 110) => "recover",
        (60, 111) => "recover-ok",
        (60, 120) => "nack",
        (85, 10) => "select",
        _ => return format!("{class_name} method {id}"),
    };
    let mut text = format!("{class_name}.{name}");
    let written = match (class, id) {
        (60, 80 | 90 | 120) => tag(fields).map(|tag| write!(text, " {tag}")),
        (60, 60) => short(fields)
            .and_then(|(consumer, rest)| tag(rest).map(|tag| write!(text, " {tag} to consumer {consumer}"))),
        (60, 40) => fields.get(2..).and_then(short).and_then(|(exchange, rest)| {
            short(rest).map(|(key, _)| write!(text, " to '{exchange}' with routing key '{key}'"))
        }),
        (50, 10 | 40) | (60, 20) | (40, 10 | 20) => {
            fields.get(2..).and_then(short).map(|(name, _)| write!(text, " '{name}'"))
        }
        (10, 50) | (20, 40) => fields
            .get(2..)
            .and_then(short)
            .map(|(reason, _)| write!(text, " {} '{reason}'", u16::from_be_bytes([fields[0], fields[1]]))),
        _ => None,
    };
    written.unwrap_or(Ok(())).expect("writing to a String succeeds");
    text
}

fn tag(fields: &[u8]) -> Option<u64> {
    fields.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

fn short(fields: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = fields.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((String::from_utf8_lossy(text).into_owned(), rest))
}
