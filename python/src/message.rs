//! Messages: bodies and properties from Python's arguments, and back.

use bytes::Bytes;
use murano_messaging::{Message, Properties, Returned, message::ShortString};
use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyDict, PyInt, PyList, PyString, PyType},
};

use crate::{
    arguments::{self, flag, number, text, unexpected, utf8},
    errors, time, value,
};

/// A message with `body`, and the properties that were given by keyword.
pub fn build(body: &Bound<'_, PyAny>, properties: Option<&Bound<'_, PyDict>>) -> PyResult<Message> {
    let message = with_body(body)?;
    match properties {
        None => Ok(message),
        Some(properties) => with_properties(message, properties),
    }
}

fn with_body(body: &Bound<'_, PyAny>) -> PyResult<Message> {
    if let Ok(bytes) = body.cast::<PyBytes>() {
        return Ok(Message::new(Bytes::copy_from_slice(bytes.as_bytes())));
    }
    if let Ok(text) = body.cast::<PyString>() {
        return Ok(Message::text(utf8("the body", text)?));
    }
    if body.is_instance_of::<PyDict>() || body.is_instance_of::<PyList>() {
        return Ok(Message::new(to_json(body)?).content_type("application/json"));
    }
    match value::bytes_like(body)? {
        Some(bytes) => Ok(Message::new(bytes)),
        None => Err(errors::wrong_type("the body", "bytes-like, str, dict or list", body)),
    }
}

/// `value` as JSON in UTF-8, without spaces.
fn to_json(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    static ENCODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = value.py();
    let encode = ENCODE.get_or_try_init(py, || {
        let options = PyDict::new(py);
        options.set_item("ensure_ascii", false)?;
        // JSON has no form for NaN and the infinities.
        options.set_item("allow_nan", false)?;
        options.set_item("separators", (",", ":"))?;
        let encoder = py.import("json")?.getattr("JSONEncoder")?.call((), Some(&options))?;
        encoder.getattr("encode").map(Bound::unbind)
    })?;
    let encoded = encode.bind(py).call1((value,)).and_then(|text| {
        // Lone surrogates have no form in UTF-8.
        Ok(Bytes::from(text.cast::<PyString>()?.to_cow()?.into_owned()))
    });
    encoded.map_err(|error| {
        // What JSON has no form for is a TypeError, what contains itself or is too deep others.
        let raised = errors::json(py, &format!("the body cannot be JSON: {}", error.value(py)));
        raised.set_cause(py, Some(error));
        raised
    })
}

/// `bytes` read as JSON, in any of its encodings.
pub fn from_json<'py>(bytes: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = bytes.py();
    let loads = LOADS.import(py, "json", "loads")?;
    loads.call1((bytes,)).map_err(|error| {
        let raised = errors::json(py, &format!("the body is not JSON: {}", error.value(py)));
        raised.set_cause(py, Some(error));
        raised
    })
}

fn with_properties(mut message: Message, properties: &Bound<'_, PyDict>) -> PyResult<Message> {
    for (key, given) in properties {
        let key = key.cast::<PyString>()?.to_cow()?;
        if given.is_none() {
            continue;
        }
        if key == "kind" {
            arguments::deprecated(given.py(), c"publish(kind=...) is called type now")?;
            if properties.contains("type")? {
                return Err(errors::invalid("type and kind are both given: they are the same"));
            }
        }
        message = match &*key {
            "persistent" => message.persistent(flag(&key, &given)?),
            "headers" => message.headers(value::table("headers", &given)?),
            "content_type" => message.content_type(text(&key, &given)?),
            "content_encoding" => message.content_encoding(text(&key, &given)?),
            "correlation_id" => message.correlation_id(text(&key, &given)?),
            "reply_to" => message.reply_to(text(&key, &given)?),
            "message_id" => message.message_id(text(&key, &given)?),
            "type" | "kind" => message.kind(text(&key, &given)?),
            "user_id" => message.user_id(text(&key, &given)?),
            "app_id" => message.app_id(text(&key, &given)?),
            "cluster_id" => message.cluster_id(text(&key, &given)?),
            "expiration" => message.expiration(time::duration(&key, &given)?),
            "priority" if !given.is_instance_of::<PyInt>() => {
                return Err(errors::wrong_type(&key, "an int", &given));
            }
            "priority" => message.priority(given.extract().map_err(|_| {
                errors::invalid(format!("priority is {given}; it must be a number from 0 to 255"))
            })?),
            "timestamp" if given.is_instance_of::<PyInt>() => message.timestamp_secs(number(&key, &given)?),
            "timestamp" => {
                if !given.is_instance(time::datetime(given.py())?)? {
                    return Err(errors::wrong_type(&key, "a datetime, or seconds since 1970 as int", &given));
                }
                message.timestamp_secs(time::unix_seconds(&key, &given)?)
            }
            _ => return Err(unexpected("publish", &key)),
        };
    }
    Ok(message)
}

/// A short string property.
#[allow(clippy::ref_option, reason = "what the protocol crate hands out")]
pub fn short<'py>(py: Python<'py>, property: &Option<ShortString>) -> Option<Bound<'py, PyString>> {
    property.as_ref().map(|text| PyString::new(py, text.as_str()))
}

/// The header table; empty if there is none.
pub fn headers<'py>(py: Python<'py>, properties: &Properties) -> PyResult<Bound<'py, PyDict>> {
    match properties.headers() {
        Some(headers) => value::table_to_python(py, headers),
        None => Ok(PyDict::new(py)),
    }
}

/// The per-message TTL in seconds; `None` when there is none, or it is not a number.
pub fn expiration(properties: &Properties) -> Option<f64> {
    let millis = properties.expiration().as_ref()?.as_str().parse::<u64>().ok()?;
    Some(millis as f64 / 1000.0)
}

/// The properties that are there, under the names that `publish` takes them by.
pub fn properties<'py>(py: Python<'py>, properties: &Properties) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let shorts = [
        ("content_type", properties.content_type()),
        ("content_encoding", properties.content_encoding()),
        ("correlation_id", properties.correlation_id()),
        ("reply_to", properties.reply_to()),
        ("message_id", properties.message_id()),
        ("type", properties.kind()),
        ("user_id", properties.user_id()),
        ("app_id", properties.app_id()),
        ("cluster_id", properties.cluster_id()),
    ];
    for (name, property) in shorts {
        if let Some(text) = property {
            dict.set_item(name, text.as_str())?;
        }
    }
    if properties.headers().is_some() {
        dict.set_item("headers", headers(py, properties)?)?;
    }
    if let Some(mode) = properties.delivery_mode() {
        dict.set_item("persistent", *mode == 2)?;
    }
    if let Some(priority) = properties.priority() {
        dict.set_item("priority", priority)?;
    }
    if let Some(seconds) = expiration(properties) {
        dict.set_item("expiration", seconds)?;
    }
    if let Some(seconds) = properties.timestamp() {
        dict.set_item("timestamp", time::from_unix_seconds(py, *seconds)?)?;
    }
    Ok(dict)
}

/// A message that came back, as a `murano_messaging.Returned`.
pub fn returned<'py>(py: Python<'py>, message: &Returned) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "murano_messaging._types", "Returned")?.call1((
        message.reply_code,
        &message.reply_text,
        &message.exchange,
        &message.routing_key,
        PyBytes::new(py, message.message.body()),
        properties(py, message.message.properties())?,
    ))
}
