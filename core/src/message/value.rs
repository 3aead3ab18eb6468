//! Rust values as fields of header and argument tables (AMQP 0-9-1 section 4.2.5.5, with `RabbitMQ`'s errata).

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::{ByteArray, DecimalValue, FieldArray, FieldTable, LongString, Value, check};
use crate::{Error, Result};

/// What can be a header or an argument.
///
/// | Rust | field |
/// |---|---|
/// | `bool` | `t` |
/// | `i8`, `i16`, `i32`, `i64` | `b`, `s`, `I`, `l` |
/// | `u8`, `u16`, `u32` | `B`, `u`, `i` |
/// | `u64`, `usize` | `l` if it fits an `i64`, otherwise an error: `RabbitMQ` has no unsigned 64-bit field |
/// | `f32`, `f64` | `f`, `d`; finite |
/// | `&str`, `String`, [`LongString`] | `S` |
/// | `&[u8]`, `Vec<u8>`, [`Bytes`], [`ByteArray`] | `x` |
/// | [`SystemTime`] | `T`, whole seconds, not before 1970 |
/// | [`DecimalValue`] | `D` |
/// | `Vec<Value>`, [`FieldArray`] | `A` |
/// | [`FieldTable`] | `F` |
/// | `()`, `None` | `V` |
/// | `Some(value)`, [`Value`] | as it is |
pub trait IntoValue {
    /// The field. Fails with [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if there is none for
    /// this value.
    fn into_value(self) -> Result<Value>;
}

macro_rules! into_value {
    ($($rust:ty => $variant:ident),* $(,)?) => {$(
        impl IntoValue for $rust {
            fn into_value(self) -> Result<Value> {
                Ok(Value::$variant(self.into()))
            }
        }
    )*};
}

into_value! {
    bool => Boolean,
    i8 => ShortShortInt,
    i16 => ShortInt,
    i32 => LongInt,
    i64 => LongLongInt,
    u8 => ShortShortUInt,
    u16 => ShortUInt,
    u32 => LongUInt,
    &str => LongString,
    String => LongString,
    LongString => LongString,
    &[u8] => ByteArray,
    Vec<u8> => ByteArray,
    ByteArray => ByteArray,
    DecimalValue => DecimalValue,
    Vec<Value> => FieldArray,
    FieldArray => FieldArray,
    FieldTable => FieldTable,
}

macro_rules! finite_into_value {
    ($($rust:ty => $variant:ident),* $(,)?) => {$(
        impl IntoValue for $rust {
            fn into_value(self) -> Result<Value> {
                if self.is_finite() {
                    Ok(Value::$variant(self))
                } else {
                    Err(Error::invalid(format!("RabbitMQ cannot read the number {self}")))
                }
            }
        }
    )*};
}

finite_into_value! { f32 => Float, f64 => Double }

impl IntoValue for u64 {
    fn into_value(self) -> Result<Value> {
        i64::try_from(self).map(Value::LongLongInt).map_err(|_| {
            Error::invalid(format!(
                "{self} does not fit a signed 64-bit integer, and RabbitMQ has no unsigned one; send it as text"
            ))
        })
    }
}

impl IntoValue for usize {
    fn into_value(self) -> Result<Value> {
        // No platform has a `usize` wider than 64 bits.
        (self as u64).into_value()
    }
}

impl IntoValue for &String {
    fn into_value(self) -> Result<Value> {
        self.as_str().into_value()
    }
}

impl<const N: usize> IntoValue for &[u8; N] {
    fn into_value(self) -> Result<Value> {
        self.as_slice().into_value()
    }
}

impl IntoValue for Bytes {
    fn into_value(self) -> Result<Value> {
        Vec::from(self).into_value()
    }
}

impl IntoValue for SystemTime {
    fn into_value(self) -> Result<Value> {
        unix_seconds(self).map(Value::Timestamp)
    }
}

impl IntoValue for () {
    fn into_value(self) -> Result<Value> {
        Ok(Value::Void)
    }
}

impl IntoValue for Value {
    fn into_value(self) -> Result<Value> {
        Ok(self)
    }
}

impl<T: IntoValue> IntoValue for Option<T> {
    fn into_value(self) -> Result<Value> {
        self.map_or(Ok(Value::Void), T::into_value)
    }
}

/// Seconds since 1970, rounded down.
pub(super) fn unix_seconds(time: SystemTime) -> Result<u64> {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Ok(since.as_secs()),
        Err(_) => Err(Error::invalid("AMQP timestamps start at 1970; this time is earlier")),
    }
}

/// Sets `key` of `table`; `what` an entry is called in errors.
pub(crate) fn with_entry(
    table: &mut FieldTable,
    what: &str,
    key: String,
    value: impl IntoValue,
) -> Result<()> {
    let key = check::short(&format!("{what} key"), key)?;
    match value.into_value() {
        Ok(value) => {
            table.insert(key, value);
            Ok(())
        }
        Err(error) => Err(Error::invalid(format!("{what} {:?}: {error}", key.as_str()))),
    }
}
