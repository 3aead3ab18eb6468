//! The runtime that all clients of this process share, and who drives it.

mod driver;

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::{exceptions::PyRuntimeError, prelude::*};
use tokio::runtime::Handle;

pub use self::driver::{Driver, Seat, forget_driving};
use crate::{process::generation, service};

struct Engine {
    generation: u32,
    driver: Arc<Driver>,
}

/// Only taken, and given back, while attached to the interpreter, so that no thread holds it across a fork.
static ENGINE: Mutex<Option<Engine>> = Mutex::new(None);

/// Who drives the clients of this process, once there are some.
pub fn driver(_py: Python<'_>) -> Option<Arc<Driver>> {
    let engine = ENGINE.lock().unwrap_or_else(PoisonError::into_inner);
    engine.as_ref().filter(|engine| engine.generation == generation()).map(|engine| engine.driver.clone())
}

/// Something was asked that no blocking call waits for: whoever drives now may not come to it soon.
pub fn call_back(py: Python<'_>) {
    if driver::is_missed()
        && let Some(driver) = driver(py)
    {
        driver.call_back();
    }
}

/// The runtime, started at first use and again in a forked child.
pub fn handle(py: Python<'_>) -> PyResult<Handle> {
    if let Some(driver) = driver(py) {
        return Ok(driver.handle());
    }
    let driver = Driver::start().map_err(|error| {
        PyRuntimeError::new_err(format!("the thread that drives connections cannot be started: {error}"))
    })?;
    let handle = driver.handle();
    let engine_of_parent = {
        let mut engine = ENGINE.lock().unwrap_or_else(PoisonError::into_inner);
        engine.replace(Engine { generation: generation(), driver })
    };
    // Its thread is not in this process; its epoll descriptor is shared with the parent.
    std::mem::forget(engine_of_parent);
    service::start(py)?;
    Ok(handle)
}

/// In how many waits of this process the caller has driven the connections itself, instead of the engine's thread.
#[pyfunction]
pub fn _driven_waits(py: Python<'_>) -> u64 {
    driver(py).map_or(0, |driver| driver.driven())
}
