//! The arguments of queues and of their consumers: their names on the wire, and what the broker takes for each.

use crate::{
    Error, Result,
    message::{FieldTable, LongString, MAX_TTL_MS, Value},
};

pub(super) const EXPIRES: &str = "x-expires";
pub(super) const MESSAGE_TTL: &str = "x-message-ttl";
pub(super) const MAX_LENGTH: &str = "x-max-length";
pub(super) const MAX_LENGTH_BYTES: &str = "x-max-length-bytes";
pub(super) const OVERFLOW: &str = "x-overflow";
pub(super) const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";
pub(super) const DEAD_LETTER_ROUTING_KEY: &str = "x-dead-letter-routing-key";
pub(super) const MAX_PRIORITY: &str = "x-max-priority";
pub(super) const QUEUE_TYPE: &str = "x-queue-type";
pub(super) const DELIVERY_LIMIT: &str = "x-delivery-limit";
pub(super) const SINGLE_ACTIVE_CONSUMER: &str = "x-single-active-consumer";
pub(super) const MAX_AGE: &str = "x-max-age";
const STREAM_OFFSET: &str = "x-stream-offset";

/// What `RabbitMQ` says about a value whatever the type of the queue.
pub(super) fn check_argument(key: &str, value: &Value) -> Result<(), String> {
    let whole = |least: i64, most: i64| match integer(value) {
        Some(number) if (least..=most).contains(&number) => Ok(()),
        _ if most == i64::MAX => Err(format!("{key} must be a whole number from {least}")),
        _ => Err(format!("{key} must be a whole number from {least} to {most}")),
    };
    let longest = MAX_TTL_MS.cast_signed();
    match key {
        EXPIRES => whole(1, longest).map_err(|reason| format!("{reason} (milliseconds)")),
        MESSAGE_TTL => whole(0, longest).map_err(|reason| format!("{reason} (milliseconds)")),
        MAX_LENGTH | MAX_LENGTH_BYTES => whole(0, i64::MAX),
        MAX_PRIORITY => whole(0, 255),
        DEAD_LETTER_EXCHANGE | DEAD_LETTER_ROUTING_KEY => match text(value) {
            Some(name) if name.len() <= 255 => Ok(()),
            Some(name) => Err(format!("{key} is {} bytes long; AMQP takes at most 255", name.len())),
            None => Err(format!("{key} must be text")),
        },
        SINGLE_ACTIVE_CONSUMER if value.as_bool().is_none() => Err(format!("{key} must be a boolean")),
        OVERFLOW => match text(value) {
            Some(b"drop-head" | b"reject-publish" | b"reject-publish-dlx") => Ok(()),
            _ => Err(format!("{key} must be the text drop-head, reject-publish or reject-publish-dlx")),
        },
        MAX_AGE if !text(value).is_some_and(is_age) => {
            Err(format!("{key} must be more than zero and end with its unit: Y, M, D, h, m or s"))
        }
        _ => Ok(()),
    }
}

/// Refuses an offset of which `RabbitMQ` 3.10 says nothing, but ends the connection with an internal error.
pub(crate) fn check_stream_offset(arguments: &FieldTable) -> Result<()> {
    let known = arguments.inner().get(STREAM_OFFSET).is_none_or(|offset| match text(offset) {
        Some(text) => matches!(text, b"first" | b"last" | b"next") || is_age(text),
        None => integer(offset).is_some() || offset.as_timestamp().is_some(),
    });
    if known {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{STREAM_OFFSET} must be first, last or next, an offset, a timestamp, or how long ago: more than zero, with its \
         unit (Y, M, D, h, m or s) at the end"
    )))
}

fn integer(value: &Value) -> Option<i64> {
    match *value {
        Value::ShortShortInt(number) => Some(number.into()),
        Value::ShortShortUInt(number) => Some(number.into()),
        Value::ShortInt(number) => Some(number.into()),
        Value::ShortUInt(number) => Some(number.into()),
        Value::LongInt(number) => Some(number.into()),
        Value::LongUInt(number) => Some(number.into()),
        Value::LongLongInt(number) => Some(number),
        _ => None,
    }
}

pub(super) fn text(value: &Value) -> Option<&[u8]> {
    value.as_long_string().map(LongString::as_bytes)
}

fn is_age(text: &[u8]) -> bool {
    matches!(text, [digits @ .., b'Y' | b'M' | b'D' | b'h' | b'm' | b's']
        if digits.iter().all(u8::is_ascii_digit) && digits.iter().any(|digit| *digit != b'0'))
}
