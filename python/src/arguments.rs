//! Keyword arguments of simple types: what is wrong with one is said under its name.

use std::{ffi::CStr, fmt::Display};

use pyo3::{
    exceptions::{PyDeprecationWarning, PyOverflowError, PyTypeError},
    prelude::*,
    types::{PyDict, PyFloat, PyIterator, PyString},
};

use crate::{errors, hints};

/// The keyword arguments that were given and are not `None`.
pub fn given<'a, 'py>(
    options: Option<&'a Bound<'py, PyDict>>,
) -> impl Iterator<Item = PyResult<(String, Bound<'py, PyAny>)>> + use<'a, 'py> {
    options
        .into_iter()
        .flat_map(PyDictMethods::iter)
        .filter(|(_, value)| !value.is_none())
        .map(|(key, value)| Ok((key.cast::<PyString>()?.to_cow()?.into_owned(), value)))
}

/// The error for an argument that a method does not have.
pub fn unexpected(method: &str, key: &str) -> PyErr {
    let hint = hints::of(method, key).map(|hint| format!("; {hint}")).unwrap_or_default();
    PyTypeError::new_err(format!("{method}() got an unexpected keyword argument '{key}'{hint}"))
}

/// Warns of the use of a name that has a better one.
pub fn deprecated(py: Python<'_>, text: &CStr) -> PyResult<()> {
    PyErr::warn(py, &py.get_type::<PyDeprecationWarning>(), text, 1)
}

/// What was given, `None` too; nothing where the argument was left out.
pub struct Given<'py>(pub Option<Bound<'py, PyAny>>);

impl<'a, 'py> FromPyObject<'a, 'py> for Given<'py> {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(Some(given.to_owned())))
    }
}

impl Given<'_> {
    pub fn text(&self, what: &str, default: &str) -> PyResult<String> {
        self.0.as_ref().map_or_else(|| Ok(default.to_owned()), |given| text(what, given))
    }

    pub fn flag(&self, what: &str, default: bool) -> PyResult<bool> {
        self.0.as_ref().map_or(Ok(default), |given| flag(what, given))
    }
}

pub fn flag(what: &str, given: &Bound<'_, PyAny>) -> PyResult<bool> {
    given.extract().map_err(|_| errors::wrong_type(what, "a bool", given))
}

pub fn text(what: &str, given: &Bound<'_, PyAny>) -> PyResult<String> {
    match given.cast::<PyString>() {
        Ok(text) => utf8(what, text),
        Err(_) => Err(errors::wrong_type(what, "a str", given)),
    }
}

/// A `str` in UTF-8. Python's own error would quote all of it, and it may be a password.
pub fn utf8(what: &str, text: &Bound<'_, PyString>) -> PyResult<String> {
    match text.to_cow() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(errors::invalid(format!("{what} has a lone surrogate, which UTF-8 cannot have"))),
    }
}

/// What is iterated over.
pub fn items<'py>(what: &str, expected: &str, given: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyIterator>> {
    given.try_iter().map_err(|_| errors::wrong_type(what, expected, given))
}

/// The numbers that an argument takes.
pub trait Whole: Display {
    const LEAST: Self;
    const MOST: Self;
}

macro_rules! whole {
    ($($number:ty),*) => {
        $(impl Whole for $number {
            const LEAST: Self = Self::MIN;
            const MOST: Self = Self::MAX;
        })*
    };
}

whole!(u8, u16, u32, u64, usize, i32);

/// A whole number that fits.
pub fn number<'py, T>(what: &str, given: &Bound<'py, PyAny>) -> PyResult<T>
where
    T: Whole + for<'a> FromPyObject<'a, 'py, Error = PyErr>,
{
    given.extract::<T>().map_err(|error| {
        if error.is_instance_of::<PyOverflowError>(given.py()) {
            errors::invalid(format!("{what} is {given}; it must be from {} to {}", T::LEAST, T::MOST))
        } else if given.is_instance_of::<PyFloat>() || error.is_instance_of::<PyTypeError>(given.py()) {
            errors::wrong_type(what, "an int", given)
        } else {
            error
        }
    })
}

/// The value that goes with one of the known texts.
pub fn one_of<T: Copy>(what: &str, given: &Bound<'_, PyAny>, known: &[(&str, T)]) -> PyResult<T> {
    let given = text(what, given)?;
    known.iter().find(|(name, _)| *name == given).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|(name, _)| format!("'{name}'")).collect();
        errors::invalid(format!("{what} is '{given}'; it must be one of {}", names.join(", ")))
    })
}

/// A path: a str, or anything that `os.fspath` makes one of.
pub fn path(what: &str, given: &Bound<'_, PyAny>) -> PyResult<String> {
    let path = given.py().import("os")?.call_method1("fspath", (given,)).ok();
    let path = path.and_then(|path| path.extract().ok());
    path.ok_or_else(|| errors::wrong_type(what, "a path as str or os.PathLike", given))
}
