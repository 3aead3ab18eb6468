//! Bodies: JSON in an envelope (`oslo.version`, `oslo.message`), compressed or not.

use std::io::Read;

use serde_json::{Map, Value, json};

use super::{Error, Result, lenient, version};
use crate::{Delivery, Message};

const VERSION: &str = "oslo.version";
const MESSAGE: &str = "oslo.message";
/// The version of the envelope that is written, and the highest that is read.
const ENVELOPE: &str = "2.0";
/// The header in which kombu says how a body is compressed.
const COMPRESSION: &str = "compression";

/// How bodies are compressed (`kombu_compression`). Receivers decode all of them, whatever they send themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// `gzip`, which on the wire is a zlib stream.
    Gzip,
    /// `bz2`.
    Bzip2,
}

impl Compression {
    /// The compression of an option's value; `None` for one that is not known.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "gzip" | "zlib" | "application/x-gzip" => Some(Self::Gzip),
            "bzip2" | "bzip" | "bz2" | "application/x-bz2" => Some(Self::Bzip2),
            _ => None,
        }
    }

    fn header(self) -> &'static str {
        match self {
            Self::Gzip => "application/x-gzip",
            Self::Bzip2 => "application/x-bz2",
        }
    }

    fn compress(self, body: &[u8]) -> Vec<u8> {
        let mut compressed = Vec::new();
        let read = match self {
            Self::Gzip => flate2::read::ZlibEncoder::new(body, flate2::Compression::default())
                .read_to_end(&mut compressed),
            Self::Bzip2 => {
                bzip2::read::BzEncoder::new(body, bzip2::Compression::default()).read_to_end(&mut compressed)
            }
        };
        // Reading from memory and writing to it cannot fail.
        read.map_or_else(|_| body.to_vec(), |_| compressed)
    }

    /// Decodes a body, up to `limit` bytes: a few kilobytes can decode to gigabytes.
    fn decompress(self, body: &[u8], limit: u64) -> Result<Vec<u8>> {
        let mut decoded = Vec::new();
        let read = match self {
            Self::Gzip => flate2::read::ZlibDecoder::new(body).take(limit + 1).read_to_end(&mut decoded),
            Self::Bzip2 => bzip2::read::BzDecoder::new(body).take(limit + 1).read_to_end(&mut decoded),
        };
        read.map_err(|error| Error::Malformed(format!("a body that is not {}: {error}", self.header())))?;
        if decoded.len() as u64 > limit {
            return Err(Error::Malformed(format!(
                "a compressed body decodes to more than {limit} bytes (max_body_size)"
            )));
        }
        Ok(decoded)
    }
}

/// The message with these fields. Without `envelope`, as notifications of version 1.0 are sent.
pub(super) fn encode(
    fields: &Map<String, Value>,
    envelope: bool,
    compression: Option<Compression>,
) -> Result<Message> {
    let text = to_json(fields)?;
    let body =
        if envelope { to_json(&json!({VERSION: ENVELOPE, MESSAGE: text}))? } else { text }.into_bytes();
    let message = match compression {
        Some(compression) => {
            Message::new(compression.compress(&body)).header(COMPRESSION, compression.header())
        }
        None => Message::new(body),
    };
    Ok(message.content_type("application/json").content_encoding("utf-8").priority(0))
}

fn to_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::Malformed(format!("a message that is no JSON: {error}")))
}

/// The fields of a message, out of its envelope if it has one.
pub(super) fn decode(delivery: &Delivery, limit: u64) -> Result<Map<String, Value>> {
    decode_by(delivery, limit, from_json)
}

/// The fields of a message that cannot be decoded, as far as they can be guessed: to tell who waits for an answer.
pub(super) fn decode_leniently(delivery: &Delivery, limit: u64) -> Option<Map<String, Value>> {
    let parse =
        |body: &[u8]| lenient::from_json(body).ok_or_else(|| Error::Malformed("no JSON at all".into()));
    decode_by(delivery, limit, parse).ok()
}

fn decode_by(
    delivery: &Delivery,
    limit: u64,
    parse: impl Fn(&[u8]) -> Result<Value>,
) -> Result<Map<String, Value>> {
    let header =
        delivery.properties().headers().as_ref().and_then(|headers| headers.inner().get(COMPRESSION));
    let fields = match header {
        None => parse(delivery.body())?,
        Some(crate::Value::LongString(name)) => {
            let name = String::from_utf8_lossy(name.as_bytes()).into_owned();
            let compression = Compression::from_name(&name).ok_or_else(|| {
                Error::Malformed(format!("a body compressed with {name:?}; gzip and bz2 are known"))
            })?;
            parse(&compression.decompress(delivery.body(), limit)?)?
        }
        Some(_) => return Err(Error::Malformed("the header 'compression' is no string".into())),
    };
    let Value::Object(fields) = fields else {
        return Err(Error::Malformed("a body that is no JSON object".into()));
    };
    open(fields, parse)
}

fn open(
    mut fields: Map<String, Value>,
    parse: impl Fn(&[u8]) -> Result<Value>,
) -> Result<Map<String, Value>> {
    if !(fields.contains_key(VERSION) && fields.contains_key(MESSAGE)) {
        return Ok(fields);
    }
    let version = fields.get(VERSION).and_then(Value::as_str).unwrap_or_default();
    if version::is_compatible(ENVELOPE, version) != Some(true) {
        return Err(Error::Malformed(format!("an envelope of version {version:?}; {ENVELOPE} is known")));
    }
    let inner = match fields.remove(MESSAGE) {
        Some(Value::String(text)) => parse(text.as_bytes())?,
        _ => Value::Null,
    };
    match inner {
        Value::Object(fields) => Ok(fields),
        _ => Err(Error::Malformed("an envelope whose message is no JSON object".into())),
    }
}

fn from_json(body: &[u8]) -> Result<Value> {
    serde_json::from_slice(body).map_err(|error| Error::Malformed(format!("a body that is no JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 1 << 20;

    #[test]
    fn compression_is_what_kombu_understands() {
        let zlib = Compression::Gzip.compress(b"text");
        assert_eq!(zlib[..2], [0x78, 0x9c]);
        assert_eq!(&Compression::Bzip2.compress(b"text")[..3], b"BZh");
        for compression in [Compression::Gzip, Compression::Bzip2] {
            assert_eq!(compression.decompress(&compression.compress(b"text"), LIMIT).unwrap(), b"text");
            assert!(compression.decompress(b"text", LIMIT).is_err());
        }
    }

    #[test]
    fn a_small_body_does_not_decode_to_gigabytes() {
        let zeros = vec![0; 4 << 20];
        for compression in [Compression::Gzip, Compression::Bzip2] {
            let error = compression.decompress(&compression.compress(&zeros), LIMIT).unwrap_err();
            assert!(error.to_string().contains("max_body_size"), "{error}");
        }
    }

    #[test]
    fn an_envelope_is_opened_and_one_of_the_future_is_refused() {
        let object = |value: Value| value.as_object().cloned().unwrap();
        let inner = object(json!({"method": "add"}));
        let opened = open(object(json!({VERSION: "2.0", MESSAGE: "{\"method\": \"add\"}"})), from_json);
        assert_eq!(opened.unwrap(), inner);
        assert_eq!(open(inner.clone(), from_json).unwrap(), inner);
        for odd in [
            json!({VERSION: "3.0", MESSAGE: "{}"}),
            json!({VERSION: "2.1", MESSAGE: "{}"}),
            json!({VERSION: 2, MESSAGE: "{}"}),
            json!({VERSION: "2.0", MESSAGE: "[]"}),
            json!({VERSION: "2.0", MESSAGE: {"method": "add"}}),
            json!({VERSION: "2.0", MESSAGE: "{"}),
        ] {
            assert!(open(object(odd.clone()), from_json).is_err(), "{odd}");
        }
    }
}
