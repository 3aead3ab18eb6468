//! Puka's flat headers, and its tables.
//!
//! On the wire they are what Puka made of them: numbers of 32 bits where they fit, `str` and `bytes` alike as long
//! strings, naive times in UTC. What cannot be sent is an `AssertionError`, as it was.

use murano_messaging::{
    FieldTable, Message, Properties, Value,
    message::{DecimalValue, FieldArray, ShortString},
};
use pyo3::{
    exceptions::{PyAssertionError, PyTypeError},
    prelude::*,
    sync::PyOnceLock,
    types::{PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple, PyType},
};

use crate::{errors, value};

/// Deeper tables are refused, like the core would; it also ends a list that contains itself.
const MAX_DEPTH: usize = 32;

/// How bodies are handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyType {
    /// `str` where it is UTF-8, `bytes` where it is not.
    #[default]
    Either,
    Bytes,
    /// Always `str`; bytes that are not UTF-8 as lone surrogates (`surrogateescape`).
    Str,
}

fn short(what: &str, given: &Bound<'_, PyAny>) -> PyResult<ShortString> {
    let super::arguments::Text(text) = given.extract()?;
    let length = text.len();
    ShortString::try_new(text)
        .map_err(|_| errors::invalid(format!("{what} is {length} bytes long; AMQP takes at most 255")))
}

/// A message with Puka's flat headers: the keys that are properties, and the header table of the others.
pub fn message(body: &Bound<'_, PyAny>, headers: Option<&Bound<'_, PyAny>>) -> PyResult<Message> {
    let message = with_body(body)?;
    let properties = match headers {
        None => Properties::default(),
        Some(headers) => properties(headers)?,
    };
    Ok(message.with_properties(properties))
}

fn with_body(body: &Bound<'_, PyAny>) -> PyResult<Message> {
    if let Ok(text) = body.cast::<PyString>() {
        return Ok(Message::new(text.to_cow()?.into_owned()));
    }
    match value::bytes_like(body)? {
        Some(bytes) => Ok(Message::new(bytes)),
        None => Err(errors::wrong_type("the body", "a str or bytes", body)),
    }
}

fn properties(headers: &Bound<'_, PyAny>) -> PyResult<Properties> {
    let mut properties = Properties::default();
    let mut table = FieldTable::default();
    let copy;
    let headers = if let Ok(headers) = headers.cast::<PyDict>() {
        headers
    } else {
        copy = PyDict::new(headers.py());
        copy.call_method1("update", (headers,))?;
        &copy
    };
    for (key, given) in headers.iter() {
        let name = short("a header's name", &key)?;
        properties = match name.as_str() {
            "headers" => return Err(PyAssertionError::new_err("'headers' cannot be the name of a header")),
            "content_type" => properties.with_content_type(short("content_type", &given)?),
            "content_encoding" => properties.with_content_encoding(short("content_encoding", &given)?),
            "delivery_mode" => properties.with_delivery_mode(given.extract()?),
            "priority" => properties.with_priority(given.extract()?),
            "correlation_id" => properties.with_correlation_id(short("correlation_id", &given)?),
            "reply_to" => properties.with_reply_to(short("reply_to", &given)?),
            "expiration" => properties.with_expiration(short("expiration", &given)?),
            "message_id" => properties.with_message_id(short("message_id", &given)?),
            "timestamp" => properties.with_timestamp(given.extract()?),
            "type_" => properties.with_type(short("type_", &given)?),
            "user_id" => properties.with_user_id(short("user_id", &given)?),
            "app_id" => properties.with_app_id(short("app_id", &given)?),
            "cluster_id" => properties.with_cluster_id(short("cluster_id", &given)?),
            _ => {
                table.insert(name, from_python(&given, 1)?);
                properties
            }
        };
    }
    if !table.inner().is_empty() {
        properties = properties.with_headers(table);
    }
    Ok(properties)
}

/// Arguments of a declare, a bind or a consume.
pub fn arguments(given: Option<&Bound<'_, PyAny>>) -> PyResult<FieldTable> {
    match given {
        Some(given) if !given.is_none() => table(given, 1),
        _ => Ok(FieldTable::default()),
    }
}

fn table(given: &Bound<'_, PyAny>, depth: usize) -> PyResult<FieldTable> {
    let Ok(given) = given.cast::<PyDict>() else {
        return Err(errors::wrong_type("a table", "a dict", given));
    };
    let mut table = FieldTable::default();
    for (key, value) in given.iter() {
        table.insert(short("a key of a table", &key)?, from_python(&value, depth)?);
    }
    Ok(table)
}

fn unsupported(given: &Bound<'_, PyAny>, why: &str) -> PyErr {
    let class = given.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
    PyAssertionError::new_err(format!("a {class} cannot be sent in a table: {why}"))
}

fn class<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyType>>,
    module: &str,
    name: &str,
) -> PyResult<&'py Bound<'py, PyType>> {
    cell.import(py, module, name)
}

fn decimal(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    class(py, &CLASS, "decimal", "Decimal")
}

fn datetime(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    class(py, &CLASS, "datetime", "datetime")
}

fn from_python(given: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    let py = given.py();
    if depth > MAX_DEPTH {
        return Err(unsupported(given, "tables and arrays are nested more than 32 deep"));
    }
    if let Ok(text) = given.cast::<PyString>() {
        return Ok(Value::LongString(text.to_cow()?.into_owned().into()));
    }
    if given.is_none() {
        return Ok(Value::Void);
    }
    // Before int, whose subclass it is.
    if let Ok(flag) = given.cast::<PyBool>() {
        return Ok(Value::Boolean(flag.is_true()));
    }
    if given.is_instance_of::<PyInt>() {
        let number: i64 = given.extract().map_err(|_| unsupported(given, "it needs more than 64 bits"))?;
        return Ok(i32::try_from(number).map_or(Value::LongLongInt(number), Value::LongInt));
    }
    if let Ok(bytes) = given.cast::<PyBytes>() {
        return Ok(Value::LongString(bytes.as_bytes().to_vec().into()));
    }
    if let Ok(bytes) = given.cast::<PyByteArray>() {
        return Ok(Value::LongString(bytes.to_vec().into()));
    }
    if given.is_instance_of::<PyFloat>() {
        return Ok(Value::Double(given.extract()?));
    }
    if given.is_instance(decimal(py)?)? {
        let (scale, number) =
            fields_module(py)?.call_method1("decimal_parts", (given,))?.extract::<(u8, i32)>()?;
        return Ok(Value::DecimalValue(DecimalValue { scale, value: number.cast_unsigned() }));
    }
    if given.is_instance(datetime(py)?)? {
        return Ok(Value::Timestamp(fields_module(py)?.call_method1("timestamp", (given,))?.extract()?));
    }
    if given.is_instance_of::<PyDict>() {
        return table(given, depth + 1).map(Value::FieldTable);
    }
    if given.is_instance_of::<PyList>() || given.is_instance_of::<PyTuple>() {
        let mut array = FieldArray::default();
        for item in given.try_iter()? {
            array.push(from_python(&item?, depth + 1)?);
        }
        return Ok(Value::FieldArray(array));
    }
    Err(unsupported(given, "AMQP has no such type"))
}

fn fields_module(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static MODULE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("murano_messaging.compat.puka._fields")?.into_any().unbind())
    })?;
    Ok(module.bind(py))
}

// ---- and back ------------------------------------------------------------------------------------------------

/// Text where it is UTF-8, bytes where it is not.
pub fn text_or_bytes<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyAny> {
    match std::str::from_utf8(bytes) {
        Ok(text) => PyString::new(py, text).into_any(),
        Err(_) => PyBytes::new(py, bytes).into_any(),
    }
}

pub fn body<'py>(py: Python<'py>, bytes: &[u8], kind: BodyType) -> PyResult<Bound<'py, PyAny>> {
    Ok(match kind {
        BodyType::Either => text_or_bytes(py, bytes),
        BodyType::Bytes => PyBytes::new(py, bytes).into_any(),
        BodyType::Str => match std::str::from_utf8(bytes) {
            Ok(text) => PyString::new(py, text).into_any(),
            Err(_) => PyBytes::new(py, bytes).call_method1("decode", ("utf-8", "surrogateescape"))?,
        },
    })
}

/// Header table and properties as one dict.
pub fn headers<'py>(py: Python<'py>, properties: &Properties) -> PyResult<Bound<'py, PyDict>> {
    let dict = match properties.headers() {
        Some(table) => to_dict(py, table)?,
        None => PyDict::new(py),
    };
    let shorts = |name: &Bound<'py, PyString>, property: &Option<ShortString>| match property {
        Some(text) => dict.set_item(name, text.as_str()),
        None => Ok(()),
    };
    shorts(pyo3::intern!(py, "content_type"), properties.content_type())?;
    shorts(pyo3::intern!(py, "content_encoding"), properties.content_encoding())?;
    shorts(pyo3::intern!(py, "correlation_id"), properties.correlation_id())?;
    shorts(pyo3::intern!(py, "reply_to"), properties.reply_to())?;
    shorts(pyo3::intern!(py, "expiration"), properties.expiration())?;
    shorts(pyo3::intern!(py, "message_id"), properties.message_id())?;
    shorts(pyo3::intern!(py, "type_"), properties.kind())?;
    shorts(pyo3::intern!(py, "user_id"), properties.user_id())?;
    shorts(pyo3::intern!(py, "app_id"), properties.app_id())?;
    shorts(pyo3::intern!(py, "cluster_id"), properties.cluster_id())?;
    if let Some(mode) = properties.delivery_mode() {
        dict.set_item(pyo3::intern!(py, "delivery_mode"), mode)?;
    }
    if let Some(priority) = properties.priority() {
        dict.set_item(pyo3::intern!(py, "priority"), priority)?;
    }
    if let Some(seconds) = properties.timestamp() {
        dict.set_item(pyo3::intern!(py, "timestamp"), seconds)?;
    }
    Ok(dict)
}

/// A table as a dict.
pub fn to_dict<'py>(py: Python<'py>, table: &FieldTable) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (key, value) in table {
        dict.set_item(key.as_str(), to_python(py, value)?)?;
    }
    Ok(dict)
}

fn to_python<'py>(py: Python<'py>, field: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match field {
        Value::LongString(text) => text_or_bytes(py, text.as_bytes()),
        Value::ByteArray(bytes) => text_or_bytes(py, bytes.as_slice()),
        Value::Timestamp(seconds) => fields_module(py)?.call_method1("naive", (*seconds,))?,
        Value::FieldTable(table) => to_dict(py, table)?.into_any(),
        Value::FieldArray(array) => {
            let list = PyList::empty(py);
            for item in array.as_slice() {
                list.append(to_python(py, item)?)?;
            }
            list.into_any()
        }
        other => value::to_python(py, other)?,
    })
}

/// `bytes`, `str` or `None` as the type of bodies.
pub fn body_type(given: Option<&Bound<'_, PyAny>>) -> PyResult<BodyType> {
    let Some(given) = given.filter(|given| !given.is_none()) else {
        return Ok(BodyType::Either);
    };
    let py = given.py();
    if given.is(py.get_type::<PyBytes>()) {
        Ok(BodyType::Bytes)
    } else if given.is(py.get_type::<PyString>()) {
        Ok(BodyType::Str)
    } else {
        Err(PyTypeError::new_err("body_type must be bytes, str or None"))
    }
}
