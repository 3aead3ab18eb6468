//! Python values as JSON, and back.

use murano_messaging::oslo::Context;
use pyo3::{
    exceptions::PyOverflowError,
    prelude::*,
    types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple},
};
use serde_json::{Map, Number, Value};

use crate::{arguments::utf8, errors, outcome::IntoPython};

/// As deep as `serde_json` reads; it also ends a list that contains itself.
const MAX_DEPTH: usize = 120;

/// A value of JSON; `what` it is called in errors.
pub fn from_python(what: &str, value: &Bound<'_, PyAny>) -> PyResult<Value> {
    from_python_at(what, value, 0)
}

fn from_python_at(what: &str, value: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    if depth > MAX_DEPTH {
        return Err(errors::invalid(format!("{what} is nested more than {MAX_DEPTH} deep")));
    }
    if value.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Value::String(utf8(what, text)?));
    }
    // Before int, whose subclass it is.
    if let Ok(flag) = value.cast::<PyBool>() {
        return Ok(Value::Bool(flag.is_true()));
    }
    if value.is_instance_of::<PyInt>() {
        return whole(what, value);
    }
    if value.is_instance_of::<PyFloat>() {
        let number = value.extract::<f64>()?;
        return Number::from_f64(number)
            .map(Value::Number)
            .ok_or_else(|| errors::invalid(format!("{what}: JSON has no form for the number {number}")));
    }
    if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        let items = value.try_iter()?.map(|item| from_python_at(what, &item?, depth + 1));
        return items.collect::<PyResult<Vec<_>>>().map(Value::Array);
    }
    if value.cast::<PyMapping>().is_ok() {
        return map_at(what, value, depth).map(Value::Object);
    }
    Err(errors::wrong_type(what, "None, bool, int, float, str, list or dict, as JSON has them", value))
}

fn whole(what: &str, value: &Bound<'_, PyAny>) -> PyResult<Value> {
    if let Ok(number) = value.extract::<i64>() {
        return Ok(number.into());
    }
    value.extract::<u64>().map(Value::from).map_err(|error| {
        if error.is_instance_of::<PyOverflowError>(value.py()) {
            errors::invalid(format!("{what}: {value} has more than 64 bits; send it as text"))
        } else {
            error
        }
    })
}

/// An object of JSON.
pub fn map(what: &str, mapping: &Bound<'_, PyAny>) -> PyResult<Map<String, Value>> {
    map_at(what, mapping, 0)
}

fn map_at(what: &str, mapping: &Bound<'_, PyAny>, depth: usize) -> PyResult<Map<String, Value>> {
    let Ok(pairs) = mapping.cast::<PyMapping>() else {
        return Err(errors::wrong_type(what, "a dict", mapping));
    };
    let mut map = Map::new();
    for pair in pairs.items()?.iter() {
        let (key, value) = pair.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
        let Ok(name) = key.cast::<PyString>() else {
            return Err(errors::wrong_type(&format!("a key of {what}"), "a str", &key));
        };
        let name = utf8(&format!("a key of {what}"), name)?;
        let value = from_python_at(what, &value, depth + 1)?;
        map.insert(name, value);
    }
    Ok(map)
}

/// The context of a request or a notification.
pub fn context(given: Option<&Bound<'_, PyAny>>) -> PyResult<Context> {
    given.map_or_else(|| Ok(Context::new()), |given| Ok(map("context", given)?.into()))
}

pub fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(flag) => PyBool::new(py, *flag).to_owned().into_any(),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into_pyobject(py)?.into_any(),
            (None, Some(number)) => number.into_pyobject(py)?.into_any(),
            (None, None) => number.as_f64().into_pyobject(py)?.into_any(),
        },
        Value::String(text) => PyString::new(py, text).into_any(),
        Value::Array(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(to_python(py, item)?)?;
            }
            list.into_any()
        }
        Value::Object(map) => map_to_python(py, map)?.into_any(),
    })
}

pub fn map_to_python<'py>(py: Python<'py>, map: &Map<String, Value>) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (key, value) in map {
        dict.set_item(key, to_python(py, value)?)?;
    }
    Ok(dict)
}

/// A value of JSON as the result of an operation.
pub struct Json(pub Value);

impl IntoPython for Json {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        to_python(py, &self.0)
    }
}
