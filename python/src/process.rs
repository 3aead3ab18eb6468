//! What belongs to one process and one life of its interpreter: forks and the end.

mod generation;

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use pyo3::{exceptions::PyImportError, ffi, prelude::*};

pub use self::generation::{generation, renounce};
use crate::{errors, wait};

/// Called by Python in a child that it has forked: the thread that forked is Python's main thread there.
#[pyfunction]
pub fn _after_fork_in_child() {
    wait::this_is_the_main_thread();
}

/// Something that only the process that made it may touch. A forked child gets an error, and leaks it: dropping it would
/// write to the parent's sockets, and may wait for a lock that a thread of the parent held at the fork.
pub struct Owned<T> {
    value: Option<T>,
    generation: u32,
}

impl<T> Owned<T> {
    pub fn new(value: T) -> Self {
        Self { value: Some(value), generation: generation() }
    }

    pub fn get(&self) -> PyResult<&T> {
        hold_at_exit();
        match &self.value {
            Some(value) if self.generation == generation() => Ok(value),
            _ => Err(errors::forked(self.generation)),
        }
    }

    pub fn get_mut(&mut self) -> PyResult<&mut T> {
        match &mut self.value {
            Some(value) if self.generation == generation() => Ok(value),
            _ => Err(errors::forked(self.generation)),
        }
    }

    pub fn is_inherited(&self) -> bool {
        self.generation != generation()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if self.is_inherited() {
            std::mem::forget(self.value.take());
        }
    }
}

/// Refuses all interpreters but the main one: a subinterpreter has neither signals nor an end that is told here.
#[allow(unsafe_code)]
pub fn check_interpreter(_py: Python<'_>) -> PyResult<()> {
    // SAFETY: both may be called while attached, and `_py` says that this thread is. There is no safe form of either.
    let number = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
    if number == 0 {
        return Ok(());
    }
    Err(PyImportError::new_err("the native module does not support subinterpreters"))
}

// ---- the end of the interpreter ------------------------------------------------------------------------------

static EXITING: AtomicBool = AtomicBool::new(false);
static EXIT_THREAD: Mutex<Option<ThreadId>> = Mutex::new(None);
/// Threads between the end of their wait and the interpreter.
static REATTACHING: AtomicUsize = AtomicUsize::new(0);

/// Runs `wait` without the interpreter.
///
/// A thread that is still here when the interpreter ends (a daemon thread) never comes back: attaching to an interpreter
/// that is being finalized would end the thread in the middle of Rust code.
pub fn detached<T: Send>(py: Python<'_>, wait: impl FnOnce() -> T + Send) -> T {
    let value = py.detach(|| {
        let value = wait();
        REATTACHING.fetch_add(1, Ordering::SeqCst);
        if EXITING.load(Ordering::SeqCst) && !is_exit_thread() {
            REATTACHING.fetch_sub(1, Ordering::SeqCst);
            loop {
                thread::park();
            }
        }
        value
    });
    REATTACHING.fetch_sub(1, Ordering::SeqCst);
    value
}

fn is_exit_thread() -> bool {
    *EXIT_THREAD.lock().unwrap_or_else(PoisonError::into_inner) == Some(thread::current().id())
}

/// Whether the interpreter is ending.
pub fn is_exiting() -> bool {
    EXITING.load(Ordering::Relaxed)
}

/// Keeps a daemon thread that is still using clients when the interpreter ends: they are closed under its feet, and the
/// error that would raise is nobody's.
fn hold_at_exit() {
    if is_exiting() && !is_exit_thread() {
        Python::attach(|py| detached(py, || ()));
    }
}

/// From here on only this thread comes back from its waits.
pub fn begin_exit(py: Python<'_>) {
    *EXIT_THREAD.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current().id());
    EXITING.store(true, Ordering::SeqCst);
    py.detach(|| {
        let until = Instant::now() + Duration::from_secs(1);
        while REATTACHING.load(Ordering::SeqCst) > 0 && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
    });
}
