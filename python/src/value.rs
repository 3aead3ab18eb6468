//! Python values as fields of header and argument tables, and back.
//!
//! | Python | field | back |
//! |---|---|---|
//! | `None`, `bool`, `float` | `V`, `t`, `d` | the same |
//! | `int` | `l` (64 bits) | `int` |
//! | `str` | `S` | `str`; `bytes` if it is not UTF-8 |
//! | `bytes`, `bytearray`, `memoryview` | `x` | `bytes` |
//! | `datetime` (naive: UTC) | `T`, whole seconds | aware `datetime` in UTC |
//! | `Decimal` | `D`: 32 bits, 255 places | `Decimal` |
//! | `list`, `tuple` | `A` | `list` |
//! | `dict` | `F` | `dict` |

use murano_messaging::{
    FieldTable, Value,
    message::{ByteArray, DecimalValue, FieldArray, ShortString},
};
use pyo3::{
    exceptions::PyOverflowError,
    prelude::*,
    sync::PyOnceLock,
    types::{
        PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMapping, PyMemoryView, PyString,
        PyTuple, PyType,
    },
};

use crate::{arguments, errors, time};

/// Deeper tables are refused, like the core would; it also ends a list that contains itself.
const MAX_DEPTH: usize = 32;

fn decimal(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "decimal", "Decimal")
}

/// A mapping as a table; `what` an entry is called in errors.
pub fn table(what: &str, mapping: &Bound<'_, PyAny>) -> PyResult<FieldTable> {
    table_at(what, mapping, 1)
}

fn table_at(what: &str, mapping: &Bound<'_, PyAny>, depth: usize) -> PyResult<FieldTable> {
    let Ok(mapping) = mapping.cast::<PyMapping>() else {
        return Err(errors::wrong_type(what, "a dict", mapping));
    };
    let mut table = FieldTable::default();
    for item in mapping.items()?.iter() {
        let (key, value) = item.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
        let Ok(name) = key.cast::<PyString>() else {
            return Err(errors::wrong_type(&format!("a key of {what}"), "a str", &key));
        };
        let name = arguments::utf8(&format!("a key of {what}"), name)?;
        let value = from_python_at(&format!("{what}[{name:?}]"), &value, depth)?;
        let length = name.len();
        let key = ShortString::try_new(name).map_err(|_| {
            errors::invalid(format!("a key of {what} is {length} bytes long; AMQP takes at most 255"))
        })?;
        table.insert(key, value);
    }
    Ok(table)
}

/// A value as a field; `what` it is called in errors.
pub fn from_python(what: &str, value: &Bound<'_, PyAny>) -> PyResult<Value> {
    from_python_at(what, value, 1)
}

fn from_python_at(what: &str, value: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    let py = value.py();
    if value.is_none() {
        return Ok(Value::Void);
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Value::LongString(arguments::utf8(what, text)?.into()));
    }
    // Before int, whose subclass it is.
    if let Ok(flag) = value.cast::<PyBool>() {
        return Ok(Value::Boolean(flag.is_true()));
    }
    if value.is_instance_of::<PyInt>() {
        return value.extract::<i64>().map(Value::LongLongInt).map_err(|error| {
            if error.is_instance_of::<PyOverflowError>(py) {
                errors::invalid(format!(
                    "{what}: {value} does not fit a signed 64-bit integer; send it as text"
                ))
            } else {
                error
            }
        });
    }
    if value.is_instance_of::<PyFloat>() {
        let number = value.extract::<f64>()?;
        if !number.is_finite() {
            return Err(errors::invalid(format!("{what}: RabbitMQ cannot read the number {number}")));
        }
        return Ok(Value::Double(number));
    }
    if let Some(bytes) = bytes_like(value)? {
        return Ok(Value::ByteArray(ByteArray::from(bytes)));
    }
    if value.is_instance(time::datetime(py)?)? {
        return time::unix_seconds(what, value).map(Value::Timestamp);
    }
    if value.is_instance(decimal(py)?)? {
        return decimal_value(what, value).map(Value::DecimalValue);
    }
    if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        check_depth(what, depth)?;
        let mut array = FieldArray::default();
        for item in value.try_iter()? {
            array.push(from_python_at(what, &item?, depth + 1)?);
        }
        return Ok(Value::FieldArray(array));
    }
    if value.cast::<PyMapping>().is_ok() {
        check_depth(what, depth)?;
        return table_at(what, value, depth + 1).map(Value::FieldTable);
    }
    Err(errors::wrong_type(
        what,
        "None, bool, int, float, Decimal, str, bytes, datetime, list or dict",
        value,
    ))
}

fn check_depth(what: &str, depth: usize) -> PyResult<()> {
    if depth >= MAX_DEPTH {
        return Err(errors::invalid(format!(
            "{what}: tables and arrays are nested more than {MAX_DEPTH} deep"
        )));
    }
    Ok(())
}

/// A copy of the content of bytes, a bytearray, or anything that a memoryview can be made of; `None` for other values, and for
/// one number, as those of NumPy and ctypes: that it has a buffer does not mean that its bytes are meant.
pub fn bytes_like(value: &Bound<'_, PyAny>) -> PyResult<Option<Vec<u8>>> {
    let py = value.py();
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Some(bytes.as_bytes().to_vec()));
    }
    if let Ok(array) = value.cast::<PyByteArray>() {
        return Ok(Some(array.to_vec()));
    }
    // The stable ABI of Python 3.9 has no buffers; Python itself does.
    let Ok(view) = PyMemoryView::from(value) else {
        return Ok(None);
    };
    // NumPy's moments have no dimension, but their buffers, which are of bytes, do.
    let ndim = pyo3::intern!(py, "ndim");
    for of in [view.as_any(), value] {
        if of.getattr(ndim).is_ok_and(|dimensions| dimensions.eq(0).unwrap_or(false)) {
            return Ok(None);
        }
    }
    let bytes = view.call_method0(pyo3::intern!(py, "tobytes"))?;
    Ok(Some(bytes.cast::<PyBytes>()?.as_bytes().to_vec()))
}

/// The scale is unsigned; the value is signed, as in the Java, Go and Python clients.
fn decimal_value(what: &str, value: &Bound<'_, PyAny>) -> PyResult<DecimalValue> {
    let unfit = || {
        errors::invalid(format!(
            "{what}: AMQP cannot carry the decimal {value}: it takes 32 bits and at most 255 decimal places; send it as text"
        ))
    };
    let (sign, digits, exponent) =
        value.call_method0("as_tuple")?.extract::<(u8, Bound<'_, PyTuple>, Bound<'_, PyAny>)>()?;
    // Infinity and NaN have a letter here.
    let exponent = exponent.extract::<i32>().map_err(|_| unfit())?;
    let mut number: i64 = 0;
    let zeros = std::iter::repeat_n(0, usize::try_from(exponent).unwrap_or(0).min(12));
    let digits = digits.iter().map(|digit| digit.extract::<i64>()).collect::<PyResult<Vec<_>>>()?;
    for digit in digits.into_iter().chain(zeros) {
        number = number.checked_mul(10).and_then(|number| number.checked_add(digit)).ok_or_else(unfit)?;
    }
    if exponent > 12 && number != 0 {
        return Err(unfit());
    }
    let number = if sign == 1 { -number } else { number };
    let number = i32::try_from(number).map_err(|_| unfit())?;
    let scale = u8::try_from(exponent.min(0).unsigned_abs()).map_err(|_| unfit())?;
    Ok(DecimalValue { scale, value: number.cast_unsigned() })
}

/// A table as a dict.
pub fn table_to_python<'py>(py: Python<'py>, table: &FieldTable) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (key, value) in table {
        dict.set_item(key.as_str(), to_python(py, value)?)?;
    }
    Ok(dict)
}

/// A field as a Python value.
pub fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Boolean(flag) => flag.into_pyobject(py)?.to_owned().into_any(),
        Value::ShortShortInt(number) => number.into_pyobject(py)?.into_any(),
        Value::ShortShortUInt(number) => number.into_pyobject(py)?.into_any(),
        Value::ShortInt(number) => number.into_pyobject(py)?.into_any(),
        Value::ShortUInt(number) => number.into_pyobject(py)?.into_any(),
        Value::LongInt(number) => number.into_pyobject(py)?.into_any(),
        Value::LongUInt(number) => number.into_pyobject(py)?.into_any(),
        Value::LongLongInt(number) => number.into_pyobject(py)?.into_any(),
        Value::Float(number) => f64::from(*number).into_pyobject(py)?.into_any(),
        Value::Double(number) => number.into_pyobject(py)?.into_any(),
        Value::DecimalValue(number) => {
            let exponent = format!("{}E-{}", number.value.cast_signed(), number.scale);
            decimal(py)?.call1((exponent,))?
        }
        Value::ShortString(text) => PyString::new(py, text.as_str()).into_any(),
        Value::LongString(text) => match std::str::from_utf8(text.as_bytes()) {
            Ok(text) => PyString::new(py, text).into_any(),
            Err(_) => PyBytes::new(py, text.as_bytes()).into_any(),
        },
        Value::FieldArray(array) => {
            let list = PyList::empty(py);
            for value in array.as_slice() {
                list.append(to_python(py, value)?)?;
            }
            list.into_any()
        }
        Value::Timestamp(seconds) => time::from_unix_seconds(py, *seconds)?,
        Value::FieldTable(table) => table_to_python(py, table)?.into_any(),
        Value::ByteArray(bytes) => PyBytes::new(py, bytes.as_slice()).into_any(),
        Value::Void => py.None().into_bound(py),
    })
}
