//! Errors of calls and notifications as exceptions.

use murano_messaging::oslo::{self, Failure};
use pyo3::{prelude::*, types::PyTuple};

use super::json;
use crate::{errors, outcome::IntoPython};

/// The exception for an error.
pub fn to_py(py: Python<'_>, error: oslo::Error) -> PyErr {
    match error {
        oslo::Error::Remote(failure) => remote(py, *failure).unwrap_or_else(|error| error),
        oslo::Error::Messaging(error) | oslo::Error::Undeliverable(error) => errors::to_py(py, &error),
        oslo::Error::Invalid(text) => errors::invalid(text),
        oslo::Error::Malformed(text) => errors::json(py, &text),
        error => errors::timed_out(py, &error.to_string()),
    }
}

fn remote(py: Python<'_>, failure: Failure) -> PyResult<PyErr> {
    let args = failure.args.iter().map(|value| json::to_python(py, value)).collect::<PyResult<Vec<_>>>()?;
    let value = errors::class(py, "RemoteError")?.call1(PyTuple::new(py, args)?)?;
    value.setattr("class_name", failure.class)?;
    value.setattr("module", failure.module)?;
    value.setattr("message", failure.message)?;
    value.setattr("kwargs", json::map_to_python(py, &failure.kwargs)?)?;
    value.setattr("traceback", failure.traceback)?;
    Ok(PyErr::from_value(value))
}

/// A result, or an error of this part of the core.
pub struct Outcome<T>(pub oslo::Result<T>);

impl<T: IntoPython> IntoPython for Outcome<T> {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        self.0.map_err(|error| to_py(py, error))?.into_python(py)
    }
}
