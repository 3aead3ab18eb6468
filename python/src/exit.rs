//! The end of the interpreter: clients that are still open are closed, in bounded time.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak, mpsc},
    time::Duration,
};

use murano_messaging::Client;
use pyo3::prelude::*;

use crate::{engine, process};

struct Clients {
    generation: u32,
    open: Vec<Weak<Client>>,
}

/// Only taken, and given back, while attached to the interpreter, so that no thread holds it across a fork.
static CLIENTS: Mutex<Clients> = Mutex::new(Clients { generation: 0, open: Vec::new() });

/// Confirms and acks that have not arrived after this time would not arrive.
const PATIENCE: Duration = Duration::from_secs(3);

/// `client` is to be closed at the end.
pub fn remember(_py: Python<'_>, client: &Arc<Client>) {
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if clients.generation != process::generation() {
        clients.generation = process::generation();
        std::mem::forget(std::mem::take(&mut clients.open));
    }
    if clients.open.len() == clients.open.capacity() {
        clients.open.retain(|client| client.strong_count() > 0);
    }
    clients.open.push(Arc::downgrade(client));
}

/// Called by Python when the interpreter ends.
#[pyfunction]
pub fn _at_exit(py: Python<'_>) -> PyResult<()> {
    process::begin_exit(py);
    let open: Vec<_> = {
        let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.generation != process::generation() {
            return Ok(());
        }
        clients.open.drain(..).filter_map(|client| client.upgrade()).collect()
    };
    let open: Vec<_> = open.into_iter().filter(|client| !client.is_closed()).collect();
    if open.is_empty() {
        return Ok(());
    }
    let engine = engine::handle(py)?;
    let (done, all_done) = mpsc::channel::<()>();
    for client in open {
        let done = done.clone();
        engine.spawn(async move {
            // There is nobody left to tell.
            let _ = tokio::time::timeout(PATIENCE, client.close()).await;
            drop(done);
        });
    }
    drop(done);
    // Ends when the last sender is gone.
    py.detach(move || all_done.recv_timeout(PATIENCE).ok());
    Ok(())
}
