//! Clients: what they can do is written once, and waits in the way of their api.
//!
//! | module | what it is |
//! |---|---|
//! | [`publishing`] | publishes and their route |
//! | [`requesting`] | requests and their replies |
//! | [`remote`] | RPC and notifications |
//! | [`consuming`] | consumers and single gets |
//! | [`topology`] | queues, exchanges, bindings |
//! | [`connection`] | state, events, counters, the end |

mod connection;
mod consuming;
mod publishing;
mod remote;
mod requesting;
mod topology;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use murano_messaging::Client as Core;
use pyo3::{PyTraverseError, PyVisit, prelude::*, types::PyType};

use self::publishing::LastRoute;
use crate::{
    callback::Callback,
    errors,
    events::{self, Heard},
    exit,
    outcome::leave,
    process::Owned,
    rpc::Transports,
    runtime,
    service::Source,
    time,
    unheard::Unheard,
    wait::{Api, operation::Ready},
};

/// A client, whatever its api.
#[pyclass(frozen, subclass, weakref, name = "Client", module = "murano_messaging._native")]
pub struct BaseClient {
    core: Owned<Core>,
    last: Mutex<Option<LastRoute>>,
    /// Knows the credentials, if no name and password do.
    source: Option<Arc<Source>>,
    /// What `on_event` was given.
    listeners: Mutex<Vec<Arc<Callback>>>,
    unheard: Owned<Arc<Unheard>>,
    transports: Owned<Arc<Transports>>,
    api: Api,
}

/// A connection to RabbitMQ that keeps itself alive. Its methods return when they are done.
#[pyclass(frozen, extends = BaseClient, weakref, name = "Client", module = "murano_messaging")]
pub struct Client;

/// A connection to RabbitMQ that keeps itself alive. Its methods return something to await.
#[pyclass(frozen, extends = BaseClient, weakref, name = "Client", module = "murano_messaging.aio")]
pub struct AioClient;

pub fn to_python(
    py: Python<'_>,
    api: Api,
    core: Core,
    source: Option<Arc<Source>>,
) -> PyResult<Bound<'_, PyAny>> {
    exit::remember(py, &core);
    let base = BaseClient {
        core: Owned::new(core),
        last: Mutex::default(),
        source,
        listeners: Mutex::default(),
        unheard: Owned::new(Unheard::new(runtime::handle(py)?)),
        transports: Owned::new(Arc::default()),
        api,
    };
    Ok(match api {
        Api::Blocking => Bound::new(py, PyClassInitializer::from(base).add_subclass(Client))?.into_any(),
        Api::Asyncio => Bound::new(py, PyClassInitializer::from(base).add_subclass(AioClient))?.into_any(),
    })
}

impl BaseClient {
    fn core(&self) -> PyResult<&Core> {
        self.core.get()
    }

    /// The client with the deadline that an operation was given.
    fn within(&self, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Core> {
        let core = self.core()?;
        Ok(match time::optional_duration("timeout", timeout)? {
            Some(timeout) => core.with_timeout(timeout),
            None => core.clone(),
        })
    }

    fn last(&self) -> MutexGuard<'_, Option<LastRoute>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Arc<Callback>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The events from now on, and what is to be called with each.
    fn listener<'py>(
        &self,
        py: Python<'py>,
        callback: Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, Heard>)> {
        if !callback.is_callable() {
            return Err(errors::wrong_type("callback", "a function that takes an event", &callback));
        }
        let events = events::listen(py, self.api, self.core()?.events())?;
        let listener = Arc::new(Callback::new(callback.unbind()));
        let heard = Bound::new(py, Heard::new(listener.clone()))?;
        self.listeners().push(listener);
        Ok((events, heard))
    }

    fn leave<'py>(
        &self,
        py: Python<'py>,
        led_out: Option<&Bound<'py, PyType>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let work = self.core().cloned().and_then(|core| {
            let transports = self.transports.get()?.clone();
            Ok(async move {
                transports.close().await;
                core.close().await
            })
        });
        leave(py, self.api, led_out, work)
    }
}

#[pymethods]
impl BaseClient {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(source) = &self.source {
            source.function.visit(&visit)?;
        }
        if let Ok(listeners) = self.listeners.try_lock() {
            listeners.iter().try_for_each(|listener| listener.visit(&visit))?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        if let Some(source) = &self.source {
            source.function.clear();
        }
        let listeners = std::mem::take(&mut *self.listeners());
        for listener in listeners {
            listener.clear();
        }
    }

    fn __repr__(&self) -> PyResult<String> {
        let core = self.core()?;
        let hosts: Vec<_> = core.options().host_list().iter().map(ToString::to_string).collect();
        let state = if core.is_closed() { " (closed)" } else { "" };
        Ok(format!("<Client of {:?} at {}{state}>", core.options().virtual_host(), hosts.join(", ")))
    }
}

#[pymethods]
impl Client {
    /// Has `callback` called with each event from now on, in a thread of its own, until the client is closed. The client
    /// keeps the callback alive, and not the other way round. One that is running when the interpreter ends has 3 s to come
    /// to its end.
    fn on_event<'py>(slf: &Bound<'py, Self>, callback: Bound<'py, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let (events, heard) = slf.as_super().get().listener(py, callback)?;
        py.import("murano_messaging._service")?.call_method1("listen", (events, heard)).map(|_| ())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __exit__(
        slf: &Bound<'_, Self>,
        kind: Option<Bound<'_, PyType>>,
        _error: Option<Bound<'_, PyAny>>,
        _traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        slf.as_super().get().leave(slf.py(), kind.as_ref()).map(|_| ())
    }
}

#[pymethods]
impl AioClient {
    /// Has `callback` called with each event from now on, in a task of the loop that runs, until the client is closed or the loop
    /// ends. What a coroutine function returns is awaited before the next event. The client keeps the callback alive, and not
    /// the other way round.
    fn on_event<'py>(slf: &Bound<'py, Self>, callback: Bound<'py, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let (events, heard) = slf.as_super().get().listener(py, callback)?;
        py.import("murano_messaging._listening")?.call_method1("listen", (events, heard)).map(|_| ())
    }

    fn __aenter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Ready>> {
        let py = slf.py();
        Bound::new(py, Ready::new(slf.into_any().unbind()))
    }

    fn __aexit__<'py>(
        slf: &Bound<'py, Self>,
        kind: Option<Bound<'py, PyType>>,
        _error: Option<Bound<'py, PyAny>>,
        _traceback: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.as_super().get().leave(slf.py(), kind.as_ref())
    }
}
