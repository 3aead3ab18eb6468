//! What happens to a client, as the classes of `murano_messaging/events.py`.

use std::sync::Arc;

use murano_messaging::{Error, ErrorKind, Event, Events as Core};
use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyList},
};
use tokio::sync::Mutex;

use crate::{
    callback::Callback,
    errors,
    outcome::{IntoPython, Iterated, run},
    process::Owned,
    runtime, time,
    wait::{Api, timeout::Timeout},
};

struct Listener {
    core: Core,
    /// The client was closed: nothing comes any more.
    over: bool,
}

impl Listener {
    async fn next(&mut self) -> Option<Event> {
        if self.over {
            return None;
        }
        let event = self.core.next().await;
        self.over = match &event {
            None => true,
            Some(Event::Closed { role, .. }) => *role == murano_messaging::events::Role::Main,
            Some(_) => false,
        };
        event
    }
}

/// The events of a client from the moment this was asked for.
#[pyclass(frozen, subclass, name = "Events", module = "murano_messaging._native")]
pub struct BaseEvents {
    listener: Owned<Arc<Mutex<Listener>>>,
    api: Api,
}

/// An iterator over what happens to a client; it ends when the client is closed.
#[pyclass(frozen, extends = BaseEvents, name = "Events", module = "murano_messaging")]
pub struct Events;

/// An asynchronous iterator over what happens to a client; it ends when the client is closed.
#[pyclass(frozen, extends = BaseEvents, name = "Events", module = "murano_messaging.aio")]
pub struct AioEvents;

pub fn listen(py: Python<'_>, api: Api, core: Core) -> PyResult<Bound<'_, PyAny>> {
    let listener = Arc::new(Mutex::new(Listener { core, over: false }));
    let base = BaseEvents { listener: Owned::new(listener), api };
    Ok(match api {
        Api::Blocking => Bound::new(py, PyClassInitializer::from(base).add_subclass(Events))?.into_any(),
        Api::Asyncio => Bound::new(py, PyClassInitializer::from(base).add_subclass(AioEvents))?.into_any(),
    })
}

fn over() -> Error {
    Error::new(ErrorKind::Closed, "the client is closed: no more events come")
}

impl IntoPython for Event {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        to_python(py, &self)
    }
}

#[pymethods]
impl BaseEvents {
    /// The next event; `None` when none came within `timeout`. Raises `ClosedError`, each time, after the last one: the client is
    /// closed.
    #[pyo3(signature = (timeout=None))]
    fn get<'py>(&self, py: Python<'py>, timeout: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let timeout = time::optional_duration("timeout", timeout.as_ref())?;
        let listener = self.listener.get()?.clone();
        let runtime = runtime::handle(py)?;
        run(py, self.api, async move {
            let next = Box::pin(async move { listener.lock().await.next().await });
            Timeout::new(runtime, timeout, next).await.map(|event| event.ok_or_else(over)).transpose()
        })
    }
}

#[pymethods]
impl Events {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let listener = slf.as_super().get().listener.get()?.clone();
        let next = async move { Ok(listener.lock().await.next().await) };
        let event = run(slf.py(), Api::Blocking, next)?;
        Ok((!event.is_none()).then_some(event))
    }
}

/// What `on_event` was given, for the thread that calls it.
#[pyclass(frozen, module = "murano_messaging._native")]
pub struct Heard(Arc<Callback>);

impl Heard {
    pub fn new(callback: Arc<Callback>) -> Self {
        Self(callback)
    }
}

#[pymethods]
impl Heard {
    /// Calls it, if it is still there, and returns what it returns.
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        event: Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.get(py).map(|callback| callback.call1((event,))).transpose()
    }
}

#[pymethods]
impl AioEvents {
    fn __aiter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __anext__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let listener = slf.as_super().get().listener.get()?.clone();
        run(slf.py(), Api::Asyncio, async move { Ok(Iterated(listener.lock().await.next().await)) })
    }
}

/// The event in Python.
pub fn to_python<'py>(py: Python<'py>, event: &Event) -> PyResult<Bound<'py, PyAny>> {
    static MODULE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let fields = PyDict::new(py);
    let optional = |error: &Option<Error>| error.as_ref().map(|error| errors::to_value(py, error));
    let name = match event {
        Event::Connecting { role, host } => {
            fields.set_item("role", role.to_string())?;
            fields.set_item("host", host)?;
            "Connecting"
        }
        Event::Connected { role, host } => {
            fields.set_item("role", role.to_string())?;
            fields.set_item("host", host)?;
            "Connected"
        }
        Event::Blocked { role, reason } => {
            fields.set_item("role", role.to_string())?;
            fields.set_item("reason", reason)?;
            "Blocked"
        }
        Event::Unblocked { role } => {
            fields.set_item("role", role.to_string())?;
            "Unblocked"
        }
        Event::Lost { role, reason } => {
            fields.set_item("role", role.to_string())?;
            fields.set_item("reason", errors::to_value(py, reason))?;
            "Lost"
        }
        Event::Recovering { role, attempt, delay, last_error } => {
            fields.set_item("role", role.to_string())?;
            fields.set_item("attempt", attempt)?;
            fields.set_item("delay", delay.as_secs_f64())?;
            fields.set_item("last_error", optional(last_error))?;
            "Recovering"
        }
        Event::Recovered { role, restored } => {
            fields.set_item("role", role.to_string())?;
            fields.set_item("exchanges", restored.exchanges)?;
            fields.set_item("queues", restored.queues)?;
            fields.set_item("bindings", restored.bindings)?;
            fields.set_item("consumers", restored.consumers)?;
            fields.set_item("republished", restored.republished)?;
            let failed = PyList::empty(py);
            for not_restored in &restored.failed {
                failed.append((&not_restored.what, errors::to_value(py, &not_restored.error)))?;
            }
            fields.set_item("failed", failed.to_tuple())?;
            "Recovered"
        }
        Event::QueueRenamed { old, new } => {
            fields.set_item("old", old)?;
            fields.set_item("new", new)?;
            "QueueRenamed"
        }
        Event::ConsumerCancelled { consumer_tag, queue, resumes } => {
            fields.set_item("consumer_tag", consumer_tag)?;
            fields.set_item("queue", queue)?;
            fields.set_item("resumes", resumes)?;
            "ConsumerCancelled"
        }
        Event::ConsumerResumed { consumer_tag, queue } => {
            fields.set_item("consumer_tag", consumer_tag)?;
            fields.set_item("queue", queue)?;
            "ConsumerResumed"
        }
        Event::DeliveryBufferFull { consumer_tag, queue, undelivered } => {
            fields.set_item("consumer_tag", consumer_tag)?;
            fields.set_item("queue", queue)?;
            fields.set_item("undelivered", undelivered)?;
            "DeliveryBufferFull"
        }
        Event::OversizeRejected { queue, size, limit } => {
            fields.set_item("queue", queue)?;
            fields.set_item("size", size)?;
            fields.set_item("limit", limit)?;
            "OversizeRejected"
        }
        Event::HeadersDefect { queue, defect } => {
            fields.set_item("queue", queue)?;
            fields.set_item("reason", &defect.reason)?;
            "HeadersDefect"
        }
        Event::Closed { role, reason } => {
            fields.set_item("role", role.to_string())?;
            fields.set_item("reason", optional(reason))?;
            "Closed"
        }
        // An event that this version does not know has a class and no fields.
        _ => "Event",
    };
    let module =
        MODULE.get_or_try_init(py, || py.import("murano_messaging.events").map(|m| m.into_any().unbind()))?;
    module.bind(py).getattr(name)?.call((), Some(&fields))
}
