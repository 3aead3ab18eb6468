//! The completions of the running asyncio loop.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use pyo3::{
    exceptions::{PyNotImplementedError, PyRuntimeError},
    prelude::*,
    sync::PyOnceLock,
    types::{PyWeakrefMethods, PyWeakrefReference},
};

use super::completions::Completions;

/// A loop and its completions. Weakly: what waits in the completions holds the loop, and a loop that was closed with
/// something waiting in it must be found by Python's collector.
struct Known {
    event_loop: Py<PyWeakrefReference>,
    completions: Py<PyWeakrefReference>,
}

/// The loop that was used last on each thread: nearly always the one that is used next. Threads share the places if there
/// are many. (No thread-locals: they would be dropped without the interpreter.)
static LAST: [Mutex<Option<Known>>; 16] = [const { Mutex::new(None) }; 16];

fn last() -> MutexGuard<'static, Option<Known>> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static PLACE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % LAST.len();
    }
    LAST[PLACE.with(|place| *place)].lock().unwrap_or_else(PoisonError::into_inner)
}

fn upgraded(py: Python<'_>, completions: &Py<PyWeakrefReference>) -> Option<Py<Completions>> {
    let completions = completions.bind(py).upgrade_as::<Completions>().ok()??;
    (!completions.get().is_inherited()).then(|| completions.unbind())
}

/// The running loop.
pub fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static GET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    GET.import(py, "asyncio", "get_running_loop")?.call0().map_err(|error| {
        if !error.is_instance_of::<PyRuntimeError>(py) {
            return error;
        }
        let raised = PyRuntimeError::new_err(
            "murano_messaging.aio needs asyncio, and no event loop of asyncio runs here. Under trio, call the blocking \
             client in threads (trio.to_thread.run_sync), or run this in a loop of trio-asyncio",
        );
        raised.set_cause(py, Some(error));
        raised
    })
}

/// The completions of `event_loop`, made at first use.
pub fn completions(event_loop: &Bound<'_, PyAny>) -> PyResult<Py<Completions>> {
    let py = event_loop.py();
    let cached = last()
        .as_ref()
        .filter(|known| known.event_loop.bind(py).upgrade().is_some_and(|known| known.is(event_loop)))
        .and_then(|known| upgraded(py, &known.completions));
    if let Some(completions) = cached {
        return Ok(completions);
    }
    let (completions, reference) = look_up(event_loop)?;
    let event_loop = PyWeakrefReference::new(event_loop)?.unbind();
    let before = last().replace(Known { event_loop, completions: reference });
    // Without the lock: it may run Python code.
    drop(before);
    Ok(completions)
}

/// The completions live as long as their loop watches them, or something waits in them.
fn look_up(event_loop: &Bound<'_, PyAny>) -> PyResult<(Py<Completions>, Py<PyWeakrefReference>)> {
    static KNOWN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = event_loop.py();
    let known = KNOWN
        .get_or_try_init(py, || {
            py.import("weakref")?.getattr("WeakKeyDictionary")?.call0().map(Bound::unbind)
        })?
        .bind(py);
    let found = known.call_method1("get", (event_loop,))?;
    if let Ok(reference) = found.cast_into::<PyWeakrefReference>().map(Bound::unbind)
        && let Some(completions) = upgraded(py, &reference)
    {
        return Ok((completions, reference));
    }
    let completions = Bound::new(py, Completions::new()?)?;
    let number = completions.get().fileno();
    if let Err(error) = event_loop.call_method1("add_reader", (number, &completions)) {
        if !error.is_instance_of::<PyNotImplementedError>(py) {
            return Err(error);
        }
        // As Windows' proactor loop.
        py.import("murano_messaging._watcher")?.call_method1("watch", (event_loop, &completions))?;
    }
    let reference = PyWeakrefReference::new(&completions)?.unbind();
    known.set_item(event_loop, &reference)?;
    Ok((completions.unbind(), reference))
}
