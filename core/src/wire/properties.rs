//! Content headers (AMQP 0-9-1 section 4.2.6.1), and what is saved of one that cannot be parsed.
//!
//! The broker relays content headers unread, so a defect in one is a publisher's doing: the connection must live and
//! the message must reach the application (see [`HeadersDefect`]).

use amq_protocol::{
    protocol::basic::parse_properties,
    types::{FieldTable, ShortString, parsing::parse_field_table},
};
use bytes::Bytes;

use super::guard;
use crate::message::Properties;

/// Why the properties of a message could not be read as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadersDefect {
    /// What is wrong with them.
    pub reason: String,
    /// The property flags and property list as they came, undecoded (AMQP 0-9-1 section 4.2.6.1).
    pub raw: Bytes,
}

/// The payload of a content header frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ContentHeader {
    pub class_id: u16,
    pub body_size: u64,
    /// With a defect: those properties that could be read.
    pub properties: Properties,
    pub defect: Option<HeadersDefect>,
    /// Bytes of memory, at most, that all of this takes.
    pub memory: usize,
}

/// Parses a content header payload. Only a payload too short for its fixed fields and property flags is the peer's
/// fault.
pub(crate) fn parse_header(payload: &[u8]) -> Result<ContentHeader, &'static str> {
    let Some((fixed, list)) = payload.split_first_chunk::<12>() else {
        return Err("a content header is shorter than its fixed fields");
    };
    if list.len() < 2 {
        return Err("a content header has no property flags");
    }
    let class_id = u16::from_be_bytes([fixed[0], fixed[1]]);
    let [_, _, _, _, size @ ..] = fixed;
    let body_size = u64::from_be_bytes(*size);
    let (properties, defect, tables) = match parse_list(list) {
        Ok((properties, tables)) => (properties, None, tables),
        Err(reason) => {
            let defect = HeadersDefect { reason: reason.into(), raw: Bytes::copy_from_slice(list) };
            let (properties, tables) = salvage(list);
            (properties, Some(defect), tables)
        }
    };
    // The strings, of the properties and of the defect, take no more than the list did, twice.
    Ok(ContentHeader { class_id, body_size, properties, defect, memory: tables + 2 * list.len() })
}

/// The properties of flags and list, and the memory that their headers take beside that of the strings.
pub(crate) fn parse_list(list: &[u8]) -> Result<(Properties, usize), &'static str> {
    let tables = guard_headers(list)?;
    match parse_properties(list) {
        Ok(([], properties)) => Ok((properties, tables)),
        Ok(_) => Err("bytes are left over after the last property"),
        Err(_) => Err("a property or a header cannot be parsed (not UTF-8, or cut short)"),
    }
}

/// Checks the header table, which is behind two optional short strings, and returns the memory that it takes.
fn guard_headers(list: &[u8]) -> Result<usize, &'static str> {
    const CUT: &str = "a property passes the end of its frame";
    if list[0] & 0x20 == 0 {
        return Ok(0);
    }
    let mut at = 2;
    for flag in [0x80, 0x40] {
        if list[0] & flag != 0 {
            at += 1 + usize::from(*list.get(at).ok_or(CUT)?);
        }
    }
    guard::table(list.get(at..).ok_or(CUT)?).map(|table| table.memory)
}

/// Reads property by property what can be read, up to the first length that does not fit; and the memory that the
/// headers take.
fn salvage(list: &[u8]) -> (Properties, usize) {
    let mut reader = Salvage { rest: &list[2..], memory: 0 };
    let flags = u16::from_be_bytes([list[0], list[1]]);
    let mut properties = Properties::default();
    for bit in (2..16).rev() {
        if flags & (1 << bit) == 0 {
            continue;
        }
        let read = match bit {
            13 => reader.table().map(|value| {
                properties = std::mem::take(&mut properties).with_headers(value.unwrap_or_default());
            }),
            12 | 11 => reader.take(1).map(|value| {
                let properties_so_far = std::mem::take(&mut properties);
                properties = if bit == 12 {
                    properties_so_far.with_delivery_mode(value[0])
                } else {
                    properties_so_far.with_priority(value[0])
                };
            }),
            6 => reader.take(8).map(|value| {
                let seconds = u64::from_be_bytes(value.try_into().unwrap_or_default());
                properties = std::mem::take(&mut properties).with_timestamp(seconds);
            }),
            _ => reader.short_string().map(|value| {
                if let Some(value) = value {
                    properties = with_short_string(std::mem::take(&mut properties), bit, value);
                }
            }),
        };
        if read.is_none() {
            break;
        }
    }
    (properties, reader.memory)
}

fn with_short_string(properties: Properties, bit: u16, value: ShortString) -> Properties {
    match bit {
        15 => properties.with_content_type(value),
        14 => properties.with_content_encoding(value),
        10 => properties.with_correlation_id(value),
        9 => properties.with_reply_to(value),
        8 => properties.with_expiration(value),
        7 => properties.with_message_id(value),
        5 => properties.with_type(value),
        4 => properties.with_user_id(value),
        3 => properties.with_app_id(value),
        2 => properties.with_cluster_id(value),
        _ => properties,
    }
}

struct Salvage<'a> {
    rest: &'a [u8],
    memory: usize,
}

impl<'a> Salvage<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    /// `None`: the length does not fit. `Some(None)`: it does, and the bytes are not UTF-8.
    fn short_string(&mut self) -> Option<Option<ShortString>> {
        let length = self.take(1)?[0];
        let bytes = self.take(length.into())?;
        Some(std::str::from_utf8(bytes).ok().and_then(|text| ShortString::try_new(text).ok()))
    }

    fn table(&mut self) -> Option<Option<FieldTable>> {
        let length = self.rest.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes) as usize)?;
        let bytes = self.take(length.checked_add(4)?)?;
        let Ok(checked) = guard::table(bytes) else {
            return Some(None);
        };
        self.memory = checked.memory;
        Some(parse_field_table(bytes).ok().map(|(_, table)| table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;
    use amq_protocol::types::AMQPValue;

    fn payload(properties: &Properties) -> Vec<u8> {
        let mut out = Vec::new();
        encode::header(&mut out, 1, 60, 5, properties);
        out[7..out.len() - 1].to_vec()
    }

    #[test]
    fn sound_properties_come_back() {
        let mut headers = FieldTable::default();
        headers.insert("k".into(), AMQPValue::LongLongInt(-1));
        let properties =
            Properties::default().with_headers(headers).with_timestamp(7).with_cluster_id("c".into());
        let header = parse_header(&payload(&properties)).unwrap();
        assert_eq!((header.class_id, header.body_size), (60, 5));
        assert_eq!(header.properties, properties);
        assert_eq!(header.defect, None);
    }

    #[test]
    fn a_bad_message_id_leaves_the_rest_readable() {
        let properties = Properties::default()
            .with_content_type("text/plain".into())
            .with_message_id("abc".into())
            .with_app_id("app".into());
        let mut bytes = payload(&properties);
        let at = bytes.windows(3).position(|window| window == b"abc").unwrap();
        bytes[at] = 0xff;
        let header = parse_header(&bytes).unwrap();
        assert!(header.defect.is_some());
        assert_eq!(header.properties.message_id(), &None);
        assert_eq!(header.properties.content_type().as_ref().unwrap().as_str(), "text/plain");
        assert_eq!(header.properties.app_id().as_ref().unwrap().as_str(), "app");
    }

    #[test]
    fn every_truncation_is_survived() {
        let mut headers = FieldTable::default();
        headers.insert("k".into(), AMQPValue::LongString("v".into()));
        let bytes = payload(&Properties::default().with_headers(headers).with_priority(3));
        for cut in 0..bytes.len() {
            match parse_header(&bytes[..cut]) {
                Ok(header) => assert!(header.defect.is_some(), "cut at {cut}"),
                Err(_) => assert!(cut < 14),
            }
        }
    }
}
