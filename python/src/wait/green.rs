//! Waiting in a green thread: `murano_messaging/_green.py` has what is written in eventlet's and gevent's own terms.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pyo3::{prelude::*, sync::PyOnceLock, types::PyDict};

use super::{completions::Completions, turns};
use crate::{errors, process::generation, runtime};

/// The hub to wait in: `None` when nothing is monkey-patched, or this thread has no hub.
pub fn hub(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    static HUB: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let modules = MODULES
        .get_or_try_init(py, || {
            Ok::<_, PyErr>(py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?.unbind())
        })?
        .bind(py);
    if !modules.contains(pyo3::intern!(py, "eventlet"))? && !modules.contains(pyo3::intern!(py, "gevent"))? {
        return Ok(None);
    }
    let hub = HUB.import(py, "murano_messaging._green", "hub")?.call0()?;
    Ok((!hub.is_none()).then_some(hub))
}

/// The hub of eventlet that a module imported with green modules waits in.
pub fn imported_hub(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    static HUB: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let hub = HUB.import(py, "murano_messaging._green", "imported_hub")?.call0()?;
    Ok((!hub.is_none()).then_some(hub))
}

/// Waits in `hub`, a `_green.Hub`.
pub fn wait<F: Future>(
    hub: &Bound<'_, PyAny>,
    mut future: Pin<&mut F>,
    background: bool,
) -> PyResult<F::Output> {
    let py = hub.py();
    let completions = hub.getattr(pyo3::intern!(py, "completions"))?.cast_into::<Completions>()?;
    let number = completions.get().number();
    let waker = completions.get().waker(number);
    let mut context = Context::from_waker(&waker);
    let began = generation();
    loop {
        if generation() != began {
            // Forked, or nobody would wake this.
            return Err(errors::forked(began));
        }
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
        runtime::call_back_for_waiter(py);
        hub.call_method1(pyo3::intern!(py, "wait"), (number, background))?;
        turns::given();
    }
}
