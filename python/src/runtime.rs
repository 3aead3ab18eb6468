//! The runtime that all clients of this process share, and who drives it.

mod driver;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use pyo3::{exceptions::PyRuntimeError, prelude::*};
use tokio::runtime::Handle;

pub use self::driver::{Driver, Seat};
use crate::{
    errors,
    process::{generation, renounce},
    service,
};

struct Runtime {
    generation: u32,
    driver: Arc<Driver>,
}

/// Only taken, and given back, while attached to the interpreter, so that no thread holds it across a fork.
static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

/// The generation that has its service.
static SERVED: AtomicU32 = AtomicU32::new(0);

/// Who drives the clients of this process, once there are some.
pub fn driver(_py: Python<'_>) -> Option<Arc<Driver>> {
    let runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    runtime
        .as_ref()
        .filter(|runtime| runtime.generation == generation())
        .map(|runtime| runtime.driver.clone())
}

/// Something was asked that nobody waits for now: whoever drives may not come to it soon.
pub fn call_back(py: Python<'_>) {
    if driver::is_missed() {
        have_engine_drive(py);
    }
}

/// As [`call_back`], for what a task or a green thread begins to wait for.
pub fn call_back_for_waiter(py: Python<'_>) {
    if driver::is_awaited() {
        have_engine_drive(py);
    }
}

fn have_engine_drive(py: Python<'_>) {
    if let Some(driver) = driver(py) {
        driver.call_back();
    }
}

/// The generation whose thread has ended, though its process goes on.
static ABANDONED: AtomicU32 = AtomicU32::new(0);

/// Renounces all clients if the thread that drives them is gone: they would hear of nothing any more.
pub fn check_thread(py: Python<'_>) {
    if driver(py).is_some_and(|driver| !driver.has_thread()) {
        ABANDONED.store(generation(), Ordering::Relaxed);
        renounce();
    }
}

/// Whether what was made in this generation was renounced because its thread had ended.
pub fn was_abandoned(generation: u32) -> bool {
    ABANDONED.load(Ordering::Relaxed) == generation
}

/// The runtime, started at first use and again in a forked child.
pub fn handle(py: Python<'_>) -> PyResult<Handle> {
    let driver = driver_or_start()?;
    // Again if it failed: without it, nothing is closed at the end of the interpreter.
    if SERVED.load(Ordering::Relaxed) != generation() {
        SERVED.store(generation(), Ordering::Relaxed);
        errors::load(py)
            .and_then(|()| service::start(py))
            .inspect_err(|_| SERVED.store(0, Ordering::Relaxed))?;
    }
    Ok(driver.handle())
}

fn driver_or_start() -> PyResult<Arc<Driver>> {
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*runtime
        && runtime.generation == generation()
    {
        return Ok(runtime.driver.clone());
    }
    let driver = Driver::start().map_err(|error| {
        PyRuntimeError::new_err(format!("the thread that drives connections cannot be started: {error}"))
    })?;
    let runtime_of_parent = runtime.replace(Runtime { generation: generation(), driver: driver.clone() });
    // Its thread is not in this process; its epoll descriptor is shared with the parent.
    std::mem::forget(runtime_of_parent);
    Ok(driver)
}

/// In how many waits of this process the caller has driven the connections itself, instead of the engine's thread.
#[pyfunction]
pub fn _driven_waits(py: Python<'_>) -> u64 {
    driver(py).map_or(0, |driver| driver.driven())
}
