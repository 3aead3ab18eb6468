//! The completions of the running asyncio loop.

use std::cell::RefCell;

use pyo3::{exceptions::PyNotImplementedError, prelude::*, sync::PyOnceLock};

use super::completions::Completions;

thread_local! {
    /// The loop that was used last on this thread: nearly always the one that is used next.
    static LAST: RefCell<Option<(Py<PyAny>, Py<Completions>)>> = const { RefCell::new(None) };
}

/// The running loop.
pub fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static GET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    GET.import(py, "asyncio", "get_running_loop")?.call0()
}

/// The completions of `event_loop`, made at first use.
pub fn completions(event_loop: &Bound<'_, PyAny>) -> PyResult<Py<Completions>> {
    let py = event_loop.py();
    let cached = LAST.with_borrow(|last| match last {
        Some((known, completions)) if known.is(event_loop) && !completions.get().is_inherited() => {
            Some(completions.clone_ref(py))
        }
        _ => None,
    });
    if let Some(completions) = cached {
        return Ok(completions);
    }
    let completions = look_up(event_loop)?;
    let last = (event_loop.clone().unbind(), completions.clone_ref(py));
    // Dropped outside of the borrow: it may run Python code.
    let before = LAST.with_borrow_mut(|slot| slot.replace(last));
    drop(before);
    Ok(completions)
}

/// The completions live as long as their loop.
fn look_up(event_loop: &Bound<'_, PyAny>) -> PyResult<Py<Completions>> {
    static KNOWN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = event_loop.py();
    let known = KNOWN
        .get_or_try_init(py, || {
            py.import("weakref")?.getattr("WeakKeyDictionary")?.call0().map(Bound::unbind)
        })?
        .bind(py);
    let found = known.call_method1("get", (event_loop,))?;
    if let Ok(completions) = found.cast_into::<Completions>()
        && !completions.get().is_inherited()
    {
        return Ok(completions.unbind());
    }
    let completions = Bound::new(py, Completions::new()?)?;
    let number = completions.get().fileno();
    event_loop.call_method1("add_reader", (number, &completions)).map_err(|error| {
        if error.is_instance_of::<PyNotImplementedError>(py) {
            PyNotImplementedError::new_err(
                "this event loop cannot watch descriptors (add_reader): use asyncio.SelectorEventLoop or uvloop",
            )
        } else {
            error
        }
    })?;
    known.set_item(event_loop, &completions)?;
    Ok(completions.unbind())
}
