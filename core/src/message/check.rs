//! What is refused before it is sent, because the broker would close the channel or the whole connection over it.

use std::time::Duration;

use super::{FieldTable, Message, PERSISTENT, Properties, ShortString, TRANSIENT, Value};
use crate::{Error, Result, error::PRECONDITION_FAILED, wire::guard::MAX_DEPTH};

/// The longest TTL `RabbitMQ` takes, of a message or of a queue: 3,650 days.
pub(crate) const MAX_TTL_MS: u64 = 315_360_000_000;

const MAX_SHORT: usize = 255;

/// Whole milliseconds, rounded up so that a wait is never shorter than asked for; saturates far beyond
/// [`MAX_TTL_MS`].
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Refuses a `value` that does not fit an AMQP short string, naming `what` it is.
pub(crate) fn check_short(what: &str, value: &str) -> Result<()> {
    if value.len() > MAX_SHORT {
        return Err(Error::invalid(format!(
            "{what} is {} bytes long; AMQP takes at most {MAX_SHORT}",
            value.len()
        )));
    }
    Ok(())
}

/// `value` as an AMQP short string.
pub(super) fn short(what: &str, value: String) -> Result<ShortString> {
    check_short(what, &value)?;
    ShortString::try_new(value).map_err(|error| Error::invalid(format!("{what}: {error}")))
}

/// What `RabbitMQ` would refuse, although it can be sent.
fn refused(what: impl Into<String>) -> Error {
    Error::foreseen(PRECONDITION_FAILED, what)
}

pub(super) fn check_message(message: &Message) -> Result<()> {
    if let Some(defect) = &message.defect {
        return Err(Error::invalid(defect.to_string()));
    }
    let properties = &message.properties;
    check_shorts(properties)?;
    match *properties.delivery_mode() {
        None | Some(TRANSIENT | PERSISTENT) => {}
        Some(mode) => {
            return Err(refused(format!(
                "delivery_mode is {mode}; RabbitMQ knows 1 (transient) and 2 (persistent)"
            )));
        }
    }
    if let Some(expiration) = properties.expiration() {
        check_expiration(expiration.as_str())?;
    }
    if let Some(headers) = properties.headers() {
        check_table("header", headers)?;
        check_extra_routes(headers)?;
    }
    Ok(())
}

/// A [`ShortString`] that was deserialized may be longer than one that was constructed.
fn check_shorts(properties: &Properties) -> Result<()> {
    let check = |what: &str, value: &Option<ShortString>| match value {
        Some(value) => check_short(what, value.as_str()),
        None => Ok(()),
    };
    check("content_type", properties.content_type())?;
    check("content_encoding", properties.content_encoding())?;
    check("correlation_id", properties.correlation_id())?;
    check("reply_to", properties.reply_to())?;
    check("expiration", properties.expiration())?;
    check("message_id", properties.message_id())?;
    check("kind", properties.kind())?;
    check("user_id", properties.user_id())?;
    check("app_id", properties.app_id())?;
    check("cluster_id", properties.cluster_id())
}

/// `RabbitMQ` closes the channel over an `expiration` that is not a number of milliseconds it can wait.
fn check_expiration(text: &str) -> Result<()> {
    match text.parse::<i64>() {
        Ok(millis) if u64::try_from(millis).is_ok_and(|millis| millis <= MAX_TTL_MS) => Ok(()),
        _ => Err(refused(format!(
            "expiration is {text:?}; RabbitMQ takes a number of milliseconds from 0 to {MAX_TTL_MS}"
        ))),
    }
}

/// `CC` and `BCC` are extra routing keys (sender-selected distribution); `RabbitMQ` closes the channel over one that
/// is not an array.
fn check_extra_routes(headers: &FieldTable) -> Result<()> {
    for key in ["CC", "BCC"] {
        match headers.inner().get(key) {
            None | Some(Value::FieldArray(_)) => {}
            Some(_) => {
                return Err(refused(format!(
                    "header {key} is reserved for an array of further routing keys; give it an array"
                )));
            }
        }
    }
    Ok(())
}

/// Refuses a table that the broker cannot read, or that nests deeper than this library would read it back; `what` an
/// entry is called in errors.
pub(crate) fn check_table(what: &str, table: &FieldTable) -> Result<()> {
    for (key, value) in table {
        check_short(what, key.as_str())?;
        check_value(value, 1).map_err(|error| error.within(&format!("{what} {:?}", key.as_str())))?;
    }
    Ok(())
}

/// `depth` is that of the table or array that `value` is in; the outermost table counts as one.
fn check_value(value: &Value, depth: usize) -> Result<()> {
    match value {
        // RabbitMQ closes the connection over both.
        Value::Float(number) if !number.is_finite() => {
            Err(refused(format!("RabbitMQ cannot read the number {number}")))
        }
        Value::Double(number) if !number.is_finite() => {
            Err(refused(format!("RabbitMQ cannot read the number {number}")))
        }
        Value::ShortString(_) => Err(refused("RabbitMQ has no short string fields; use a long string")),
        Value::FieldArray(_) | Value::FieldTable(_) if depth == MAX_DEPTH => {
            Err(Error::invalid(format!("tables and arrays are nested more than {MAX_DEPTH} deep")))
        }
        Value::FieldArray(array) => {
            array.as_slice().iter().try_for_each(|value| check_value(value, depth + 1))
        }
        Value::FieldTable(table) => table.into_iter().try_for_each(|(key, value)| {
            check_short("key", key.as_str())?;
            check_value(value, depth + 1)
        }),
        _ => Ok(()),
    }
}
