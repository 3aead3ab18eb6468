//! Strings and flags as Puka took them: text or bytes, anything that is true or false.

use pyo3::{
    prelude::*,
    types::{PyBytes, PyString},
};

pub use crate::arguments::Given;
use crate::errors;

/// A `str`, or `bytes` in UTF-8.
pub struct Text(pub String);

impl<'a, 'py> FromPyObject<'a, 'py> for Text {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(text) = given.cast::<PyString>() {
            return Ok(Self(text.to_cow()?.into_owned()));
        }
        if let Ok(bytes) = given.cast::<PyBytes>() {
            let text = bytes.call_method0("decode")?;
            return Ok(Self(text.extract()?));
        }
        Err(errors::wrong_type("a name", "a str or bytes", &given))
    }
}

/// Anything that is true or false.
pub struct Flag(pub bool);

impl<'a, 'py> FromPyObject<'a, 'py> for Flag {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        given.is_truthy().map(Self)
    }
}

/// A callback, or `None`.
pub fn callback(given: Option<Bound<'_, PyAny>>) -> Option<Py<PyAny>> {
    given.filter(|given| !given.is_none()).map(Bound::unbind)
}
