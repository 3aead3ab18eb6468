//! The two ways to run an operation of the core. What its result is in Python, the type of the result knows.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use murano_messaging::Error;
use pyo3::{exceptions::PyStopAsyncIteration, prelude::*, types::PyType};

use crate::{
    errors::OrPyErr,
    wait::{self, Api, operation::Operation},
};

/// A result of the core that has a form in Python.
pub trait IntoPython {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>>;
}

impl IntoPython for () {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(py.None().into_bound(py))
    }
}

impl IntoPython for u32 {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(self.into_pyobject(py)?.into_any())
    }
}

impl IntoPython for Py<PyAny> {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(self.into_bound(py))
    }
}

impl<T: IntoPython> IntoPython for Option<T> {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        self.map_or_else(|| Ok(py.None().into_bound(py)), |value| value.into_python(py))
    }
}

/// A step of an asynchronous iteration; `None` is its end.
pub struct Iterated<T>(pub Option<T>);

impl<T: IntoPython> IntoPython for Iterated<T> {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        match self.0 {
            Some(value) => value.into_python(py),
            None => Err(PyStopAsyncIteration::new_err(())),
        }
    }
}

/// An operation with its result in Python, whatever that is in the core.
pub trait Work: Send {
    fn step<'py>(
        self: Pin<&mut Self>,
        py: Python<'py>,
        cx: &mut Context<'_>,
    ) -> Poll<PyResult<Bound<'py, PyAny>>>;
}

impl<F, T> Work for F
where
    F: Future<Output = Result<T, Error>> + Send,
    T: IntoPython,
{
    fn step<'py>(
        self: Pin<&mut Self>,
        py: Python<'py>,
        cx: &mut Context<'_>,
    ) -> Poll<PyResult<Bound<'py, PyAny>>> {
        self.poll(cx).map(|result| result.or_py(py)?.into_python(py))
    }
}

/// Does `work` in the way of `api`: waits for it, or returns what to await.
pub fn run<F, T>(py: Python<'_>, api: Api, work: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = Result<T, Error>> + Send + 'static,
    T: IntoPython,
{
    match api {
        Api::Blocking => block(py, work),
        Api::Asyncio => Ok(Bound::new(py, Operation::new(Box::pin(work)))?.into_any()),
    }
}

/// As [`run`], for work that takes something that is often there already: other tasks have their turns all the same.
pub fn run_fair<F, T>(py: Python<'_>, api: Api, work: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = Result<T, Error>> + Send + 'static,
    T: IntoPython,
{
    match api {
        Api::Blocking => block(py, work),
        Api::Asyncio => Ok(Bound::new(py, Operation::fair(Box::pin(work)))?.into_any()),
    }
}

fn block<F, T>(py: Python<'_>, work: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = Result<T, Error>>,
    T: IntoPython,
{
    // Not on the stack: greenlet copies stacks away and back, and what waits in a list of tokio's must stay where it is.
    let mut work = Box::pin(work);
    wait::block(py, work.as_mut())?.or_py(py)?.into_python(py)
}

/// Does the `work` that ends a block. An error of it does not replace what led out of the block, if anything did.
pub fn leave<'py, F>(
    py: Python<'py>,
    api: Api,
    led_out: Option<&Bound<'py, PyType>>,
    work: PyResult<F>,
) -> PyResult<Bound<'py, PyAny>>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let by_exception = led_out.is_some();
    let work = match work {
        Err(_) if by_exception => return run(py, api, async { Ok(()) }),
        work => work?,
    };
    run(py, api, async move {
        match work.await {
            Err(error) if by_exception => {
                tracing::warn!(target: "murano_messaging::client", "left by an exception, and not in order: {error}");
                Ok(())
            }
            result => result,
        }
    })
}
