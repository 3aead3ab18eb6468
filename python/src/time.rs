//! Durations as seconds or `timedelta`, moments as `datetime`.

use std::time::Duration;

use pyo3::{
    exceptions::PyOverflowError,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBool, PyType},
};

use crate::errors;

/// The class `datetime.datetime`.
pub fn datetime(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "datetime", "datetime")
}

/// The class `datetime.timedelta`.
pub fn timedelta(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "datetime", "timedelta")
}

fn utc(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("datetime")?.getattr("timezone")?.getattr("utc")
}

/// A duration given in seconds (`int` or `float`) or as a `timedelta`; `what` it is called in errors.
pub fn duration(what: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let py = value.py();
    let seconds = if value.is_instance(timedelta(py)?)? {
        value.call_method0("total_seconds")?.extract::<f64>()?
    } else if value.is_instance_of::<PyBool>() {
        return Err(errors::wrong_type(what, "seconds (a number) or a timedelta", value));
    } else {
        match value.extract::<f64>() {
            Ok(seconds) => seconds,
            // An int beyond all floats.
            Err(error) if error.is_instance_of::<PyOverflowError>(py) => {
                if value.lt(0)? {
                    f64::MIN
                } else {
                    f64::MAX
                }
            }
            Err(_) => return Err(errors::wrong_type(what, "seconds (a number) or a timedelta", value)),
        }
    };
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) => Ok(duration),
        // Where there is a bound, it is far below.
        Err(_) if seconds > 0.0 && seconds.is_finite() => Ok(Duration::MAX),
        Err(_) => Err(errors::invalid(format!(
            "{what} is {seconds:?} seconds; it must be a finite number, zero or more"
        ))),
    }
}

/// As [`duration`], for arguments that may be missing.
pub fn optional_duration(what: &str, value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Duration>> {
    value.map(|value| duration(what, value)).transpose()
}

/// Seconds since 1970 of a `datetime`, rounded down; one without a time zone is taken to be in UTC.
pub fn unix_seconds(what: &str, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    let py = value.py();
    let aware = if value.getattr("tzinfo")?.is_none() {
        let arguments = pyo3::types::PyDict::new(py);
        arguments.set_item("tzinfo", utc(py)?)?;
        value.call_method("replace", (), Some(&arguments))?
    } else {
        value.clone()
    };
    // Whole numbers all the way: the last microsecond of the year 9999 is the next second as a float.
    let epoch = datetime(py)?.call_method1("fromtimestamp", (0, utc(py)?))?;
    let second = timedelta(py)?.call1((0, 1))?;
    let seconds = aware.call_method1("__sub__", (epoch,))?.call_method1("__floordiv__", (second,))?;
    seconds
        .extract::<u64>()
        .map_err(|_| errors::invalid(format!("{what}: AMQP timestamps start at 1970; {value} is earlier")))
}

/// An aware `datetime` in UTC; the plain number when `datetime` ends before that moment.
pub fn from_unix_seconds(py: Python<'_>, seconds: u64) -> PyResult<Bound<'_, PyAny>> {
    match datetime(py)?.call_method1("fromtimestamp", (seconds, utc(py)?)) {
        Ok(moment) => Ok(moment),
        Err(_) => Ok(seconds.into_pyobject(py)?.into_any()),
    }
}
