//! The one way to wait for a future of the core, with three kinds of waiters: a thread, an asyncio task
//! ([`operation`]), a green thread of eventlet or gevent ([`green`]).
//!
//! The futures are polled by whoever waits, not by the engine, so that an operation costs no task and no hand-over.

mod asyncio;
pub use asyncio::running_loop;
pub mod completions;
pub mod descriptor;
mod green;
pub mod operation;
mod ready;
pub mod timeout;
pub mod turns;
pub mod waiters;

/// The locks of the parts that a model checker runs (`core/tests/memory_model` gives them loom's).
mod sync {
    pub use std::sync::{Mutex, MutexGuard};
}

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use pyo3::prelude::*;

use crate::{
    errors,
    process::{detached, generation},
    runtime::{self, Seat},
};

/// How a client's calls wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// They return when they are done.
    Blocking,
    /// They return something to `await`.
    Asyncio,
}

/// Python sees signals in its main thread only: there waits are cut into short slices.
const SLICE: Duration = Duration::from_millis(50);
/// How long a thread waits, or a loop or hub, before it looks whether the thread that would wake it is still there.
const LONG: Duration = Duration::from_secs(5);
/// Bytes of stack that a thread needs to drive the engines.
const STACK: usize = 1 << 20;

static MAIN_THREAD: Mutex<Option<ThreadId>> = Mutex::new(None);

/// Remembers that this is Python's main thread.
pub fn this_is_the_main_thread() {
    *MAIN_THREAD.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current().id());
}

/// Remembers Python's main thread, if this is it.
pub fn note_main_thread(py: Python<'_>) -> PyResult<()> {
    let threading = py.import("threading")?;
    if threading.call_method0("current_thread")?.is(&threading.call_method0("main_thread")?) {
        this_is_the_main_thread();
    }
    Ok(())
}

/// Whether this is Python's main thread.
#[pyfunction]
pub fn in_main_thread() -> bool {
    *MAIN_THREAD.lock().unwrap_or_else(PoisonError::into_inner) == Some(thread::current().id())
}

fn slice() -> Duration {
    let main = *MAIN_THREAD.lock().unwrap_or_else(PoisonError::into_inner);
    match main {
        Some(main) if main != thread::current().id() => LONG,
        _ => SLICE,
    }
}

thread_local! {
    static SEAT: (Arc<Seat>, Waker) = {
        let seat = Seat::new();
        (seat.clone(), seat.into())
    };
}

/// Waits until `future` is ready; other threads, or other green threads, go on meanwhile.
///
/// Signals are handled on the way. What a handler raises, and what is thrown into a green thread, ends the wait.
pub fn block<F: Future>(py: Python<'_>, future: Pin<&mut F>) -> PyResult<F::Output> {
    wait(py, future, Kind::Work)
}

/// As [`block`], for a thread that serves the others: its wait is no work that is left to do.
pub fn block_in_background<F: Future>(py: Python<'_>, future: Pin<&mut F>) -> PyResult<F::Output> {
    wait(py, future, Kind::Background)
}

/// As [`block`], for a caller that belongs to eventlet although nothing is monkey-patched.
pub fn block_imported<F: Future>(py: Python<'_>, future: Pin<&mut F>) -> PyResult<F::Output> {
    wait(py, future, Kind::Imported)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Work,
    Background,
    Imported,
}

fn hub(py: Python<'_>, kind: Kind) -> PyResult<Option<Bound<'_, PyAny>>> {
    if kind == Kind::Imported { green::imported_hub(py) } else { green::hub(py) }
}

/// Lets other green threads run if they have not for long. Called before something is taken: they may throw into this one.
pub fn let_others_run(py: Python<'_>) -> PyResult<()> {
    give_way(py, Kind::Work)
}

fn give_way(py: Python<'_>, kind: Kind) -> PyResult<()> {
    if turns::is_due() {
        if let Some(hub) = hub(py, kind)? {
            hub.call_method0(pyo3::intern!(py, "give_way"))?;
        }
        turns::given();
    }
    Ok(())
}

/// Whether this thread's stack has room for the engines, which it would drive: for all of a TLS handshake, for instance.
fn has_room(py: Python<'_>) -> PyResult<bool> {
    thread_local! {
        static HAS_ROOM: Cell<Option<bool>> = const { Cell::new(None) };
    }
    if let Some(known) = HAS_ROOM.get() {
        return Ok(known);
    }
    // What threads are made with; 0 is the system's own size, which is large.
    let size: usize = py.import("threading")?.call_method0("stack_size")?.extract()?;
    let has_room = size == 0 || size >= STACK;
    HAS_ROOM.set(Some(has_room));
    Ok(has_room)
}

fn wait<F: Future>(py: Python<'_>, mut future: Pin<&mut F>, kind: Kind) -> PyResult<F::Output> {
    if kind != Kind::Background {
        give_way(py, kind)?;
    }
    let (seat, waker) = SEAT.with(Clone::clone);
    let mut context = Context::from_waker(&waker);
    if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
        return Ok(output);
    }
    if let Some(hub) = hub(py, kind)? {
        return green::wait(&hub, future, kind == Kind::Background);
    }
    let began = generation();
    let slice = slice();
    let mut looked = Instant::now();
    let driver = if kind == Kind::Background || !has_room(py)? { None } else { runtime::driver(py) };
    let mut long = false;
    loop {
        detached(py, || match &driver {
            Some(driver) => driver.wait(&seat, slice, &mut long),
            None => thread::park_timeout(slice),
        });
        // Before looking: what Python runs here may wait itself, and be woken in place of this.
        py.check_signals()?;
        if looked.elapsed() >= slice {
            looked = Instant::now();
            runtime::check_thread(py);
        }
        if generation() != began {
            // A handler of a signal has forked, and came back here; or nobody would wake this.
            return Err(errors::forked(began));
        }
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
    }
}
