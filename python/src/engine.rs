//! The one thread that drives every client of this process.

use std::{
    sync::{Mutex, PoisonError},
    thread,
};

use pyo3::{exceptions::PyRuntimeError, prelude::*};
use tokio::runtime::{Builder, Handle};

use crate::{process::generation, service};

struct Engine {
    generation: u32,
    handle: Handle,
}

/// Only taken, and given back, while attached to the interpreter, so that no thread holds it across a fork.
static ENGINE: Mutex<Option<Engine>> = Mutex::new(None);

/// The runtime, started at first use and again in a forked child.
pub fn handle(py: Python<'_>) -> PyResult<Handle> {
    let handle = {
        let mut engine = ENGINE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = &*engine
            && engine.generation == generation()
        {
            return Ok(engine.handle.clone());
        }
        let handle = start().map_err(|error| {
            PyRuntimeError::new_err(format!("the thread that drives connections cannot be started: {error}"))
        })?;
        let engine_of_parent = engine.replace(Engine { generation: generation(), handle: handle.clone() });
        // Its thread is not in this process; its epoll descriptor is shared with the parent.
        std::mem::forget(engine_of_parent);
        handle
    };
    service::start(py)?;
    Ok(handle)
}

fn start() -> std::io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("murano-messaging".into())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}
