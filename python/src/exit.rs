//! The end of the interpreter: clients that are still open are closed, in bounded time.

use std::{
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use murano_messaging::{Client, Delivery, client::WeakClient};
use pyo3::prelude::*;

use crate::{process, runtime, service};

struct Clients {
    generation: u32,
    open: Vec<WeakClient>,
}

/// Only taken, and given back, while attached to the interpreter, so that no thread holds it across a fork.
static CLIENTS: Mutex<Clients> = Mutex::new(Clients { generation: 0, open: Vec::new() });

/// Confirms and acks that have not arrived after this time would not arrive.
const PATIENCE: Duration = Duration::from_secs(3);

/// `client` is to be closed at the end.
pub fn remember(_py: Python<'_>, client: &Client) {
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if clients.generation != process::generation() {
        clients.generation = process::generation();
        std::mem::forget(std::mem::take(&mut clients.open));
    }
    if clients.open.len() == clients.open.capacity() {
        clients.open.retain(|client| client.upgrade().is_some());
    }
    clients.open.push(client.downgrade());
}

/// The open client that `delivery` came through.
pub fn client_of(_py: Python<'_>, delivery: &Delivery) -> Option<Client> {
    let clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if clients.generation != process::generation() {
        return None;
    }
    clients.open.iter().filter_map(WeakClient::upgrade).find(|client| client.has_delivered(delivery))
}

/// Called by Python when the interpreter ends.
#[pyfunction]
pub fn _at_exit(py: Python<'_>) -> PyResult<()> {
    process::begin_exit(py);
    let Some(driver) = runtime::driver(py) else {
        // This process made no client.
        return Ok(());
    };
    let open: Vec<_> = {
        let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.generation == process::generation() {
            clients.open.drain(..).collect()
        } else {
            Vec::new()
        }
    };
    let runtime = driver.handle();
    for client in open.iter().filter_map(WeakClient::upgrade) {
        runtime.spawn(async move {
            // There is nobody left to tell.
            let _ = tokio::time::timeout(PATIENCE, client.close()).await;
        });
    }
    // Those that were dropped are being closed too: each connection is a task.
    let until = Instant::now() + PATIENCE;
    py.detach(|| {
        while runtime.metrics().num_alive_tasks() > 0 && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
    });
    service::finish(py)
}
