//! RPC and notifications in the wire format of oslo.messaging: the native half of `_rpc.py` and `_notifications.py`.
//!
//! | module | what it is |
//! |---|---|
//! | [`caller`] | calls and casts |
//! | [`service`] | the requests of a server, for Python to answer |
//! | [`notifications`] | sending and hearing notifications |
//! | [`json`] | Python values as JSON, and back |
//! | [`errors`] | exceptions |

pub mod caller;
mod errors;
mod json;
pub mod notifications;
pub mod service;

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use murano_messaging::{
    Client,
    oslo::{Config, Transport},
};
use pyo3::{
    prelude::*,
    types::{PyBool, PyDict},
};
use tokio::runtime::Handle;

use crate::{arguments::text, process::Owned, runtime, wait::Api};

type Options = BTreeMap<String, String>;

/// The transports of a client, by their options.
#[derive(Default)]
pub struct Transports(Mutex<Vec<(Options, Transport)>>);

impl Transports {
    fn get(&self, client: &Client, options: Options) -> murano_messaging::oslo::Result<Transport> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, transport)) = known.iter().find(|(with, _)| *with == options) {
            return Ok(transport.clone());
        }
        let mut config = Config::default();
        for (name, value) in &options {
            config = config.option(name, value)?;
        }
        let transport = Transport::over(client, config)?;
        known.push((options, transport.clone()));
        Ok(transport)
    }

    /// Deletes their queues of replies.
    pub async fn close(&self) {
        let transports = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (_, transport) in transports {
            // They go by themselves too, later.
            let _ = transport.close().await;
        }
    }
}

/// The options of a transport as they stand in configuration files.
fn options(given: Option<&Bound<'_, PyDict>>) -> PyResult<Options> {
    let mut options = Options::new();
    for (name, value) in given.into_iter().flat_map(PyDictMethods::iter) {
        let name = text("a name of options", &name)?;
        let value = if value.is_instance_of::<PyBool>() || value.is_instance_of::<pyo3::types::PyInt>() {
            value.str()?.to_string()
        } else {
            text(&format!("options[{name:?}]"), &value)?
        };
        options.insert(name, value);
    }
    Ok(options)
}

/// The connections of a client, as RPC and notifications use them.
#[pyclass(frozen, module = "murano_messaging._native")]
pub struct RpcTransport {
    core: Owned<Transport>,
    api: Api,
}

pub fn transport<'py>(
    py: Python<'py>,
    api: Api,
    client: &Client,
    transports: &Transports,
    given: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, RpcTransport>> {
    let core = transports.get(client, options(given)?).map_err(|error| errors::to_py(py, error))?;
    Bound::new(py, RpcTransport { core: Owned::new(core), api })
}

/// `work`, which sets timers and starts tasks, in the runtime, whoever polls it.
struct InRuntime<F> {
    runtime: Handle,
    work: Pin<Box<F>>,
}

fn in_runtime<F: Future>(py: Python<'_>, work: F) -> PyResult<InRuntime<F>> {
    Ok(InRuntime { runtime: runtime::handle(py)?, work: Box::pin(work) })
}

impl<F: Future> Future for InRuntime<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let _entered = this.runtime.enter();
        this.work.as_mut().poll(cx)
    }
}
