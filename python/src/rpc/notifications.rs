//! Sending and hearing notifications.

use std::sync::Arc;

use murano_messaging::{
    Error, ErrorKind,
    oslo::{
        Context,
        notify::{Listener, Notification as Core, Notifier, Priority},
    },
};
use pyo3::{prelude::*, types::PyDict};
use serde_json::Value;
use tokio::sync::{Mutex, Semaphore};

use super::{
    RpcTransport,
    errors::{self as exceptions, Outcome},
    in_runtime, json,
};
use crate::{
    arguments::{flag, given, items, number, one_of, text, unexpected},
    outcome::{IntoPython, run, run_fair},
    process::Owned,
    runtime, time,
    wait::{Api, timeout::Timeout},
};

fn priority(what: &str, value: &Bound<'_, PyAny>) -> PyResult<Priority> {
    one_of(what, value, &Priority::ALL.map(|priority| (priority.name(), priority)))
}

fn texts(what: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    if value.is_instance_of::<pyo3::types::PyString>() {
        return Ok(vec![text(what, value)?]);
    }
    items(what, "a str, or an iterable of them", value)?.map(|item| text(what, &item?)).collect()
}

/// What sends notifications.
#[pyclass(frozen, module = "murano_messaging._native")]
pub struct NotificationSender {
    core: Owned<Notifier>,
    api: Api,
}

#[pymethods]
impl RpcTransport {
    /// Prepares notifications of a publisher.
    #[pyo3(signature = (publisher_id, **options))]
    fn notifier(
        &self,
        publisher_id: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<NotificationSender> {
        let mut core = Notifier::new(self.core.get()?, text("publisher_id", publisher_id)?);
        for option in given(options) {
            let (key, value) = option?;
            core = match key.as_str() {
                "topics" => core.topics(texts(&key, &value)?),
                "exchange" => core.exchange(text(&key, &value)?),
                "envelope" => core.envelope(flag(&key, &value)?),
                "timeout" => core.timeout(time::duration(&key, &value)?),
                _ => return Err(unexpected("notifier", &key)),
            };
        }
        Ok(NotificationSender { core: Owned::new(core), api: self.api })
    }

    /// Starts a listener.
    #[pyo3(signature = (topics, **options))]
    fn listen<'py>(
        &self,
        py: Python<'py>,
        topics: &Bound<'py, PyAny>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut builder = Listener::of(self.core.get()?, texts("topics", topics)?);
        for option in given(options) {
            let (key, value) = option?;
            builder = match key.as_str() {
                "priorities" => builder.priorities(
                    texts(&key, &value)?
                        .iter()
                        .map(|name| priority(&key, pyo3::types::PyString::new(py, name).as_any()))
                        .collect::<PyResult<Vec<_>>>()?,
                ),
                "exchange" => builder.exchange(text(&key, &value)?),
                "pool" => builder.pool(text(&key, &value)?),
                "prefetch" => builder.prefetch(number(&key, &value)?),
                _ => return Err(unexpected("notification_listener", &key)),
            };
        }
        let api = self.api;
        let work = in_runtime(py, async move {
            Ok(Outcome(builder.start().await.map(|listener| NotificationSource {
                shared: Owned::new(Arc::new(Shared {
                    listener: Mutex::new(Some(listener)),
                    stopped: Semaphore::new(0),
                })),
                api,
            })))
        })?;
        run(py, api, work)
    }
}

#[pymethods]
impl NotificationSender {
    /// Sends a notification and returns when the broker has it.
    fn notify<'py>(
        &self,
        py: Python<'py>,
        priority_name: &Bound<'py, PyAny>,
        event_type: &Bound<'py, PyAny>,
        payload: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = self.core.get()?.clone();
        let (priority, event_type) = (priority("priority", priority_name)?, text("event_type", event_type)?);
        let (payload, context) = (json::from_python("the payload", payload)?, json::context(context)?);
        let work = in_runtime(py, async move {
            Ok(Outcome(core.notify(&context, priority, &event_type, payload).await))
        })?;
        run(py, self.api, work)
    }
}

struct Shared {
    /// `None` after the end.
    listener: Mutex<Option<Listener>>,
    /// Closed by the stop, also while somebody waits for a notification.
    stopped: Semaphore,
}

impl Shared {
    /// The next notification; `None` at the end.
    async fn next(&self) -> Option<Core> {
        let next = async {
            let mut listener = self.listener.lock().await;
            listener.as_mut()?.next().await
        };
        tokio::select! {
            biased;
            _ = self.stopped.acquire() => None,
            notification = next => notification,
        }
    }
}

fn over() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the client is closed, or the listener was stopped: no more notifications come",
    )
}

/// What hears notifications.
#[pyclass(frozen, module = "murano_messaging._native")]
pub struct NotificationSource {
    shared: Owned<Arc<Shared>>,
    api: Api,
}

impl IntoPython for NotificationSource {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(Bound::new(py, self)?.into_any())
    }
}

#[pymethods]
impl NotificationSource {
    /// The next notification; `None` when none came within `timeout`. At the end `ClosedError`, each time.
    fn next<'py>(&self, py: Python<'py>, timeout: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let timeout = time::optional_duration("timeout", timeout)?;
        let (shared, runtime) = (self.shared.get()?.clone(), runtime::handle(py)?);
        run_fair(py, self.api, async move {
            let next = Box::pin(async move { shared.next().await });
            Timeout::new(runtime, timeout, next).await.map(|came| came.ok_or_else(over)).transpose()
        })
    }

    /// Ends it. Notifications that were not handed out go back to their queues.
    fn stop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let shared = self.shared.get()?.clone();
        run(py, self.api, async move {
            shared.stopped.close();
            drop(shared.listener.lock().await.take());
            Ok(())
        })
    }
}

impl IntoPython for Core {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let Self { event_type, publisher_id, priority, message_id, timestamp, .. } = &self;
        let notification = Notification {
            event_type: event_type.clone(),
            publisher_id: publisher_id.clone(),
            priority: priority.map(Priority::name),
            message_id: message_id.clone(),
            timestamp: timestamp.clone(),
            context: self.context.clone(),
            payload: self.payload.clone(),
            core: Owned::new(self),
        };
        Ok(Bound::new(py, notification)?.into_any())
    }
}

/// What happened, as somebody told. It is yours until it is acked or requeued.
#[pyclass(frozen, module = "murano_messaging")]
pub struct Notification {
    /// What happened, e.g. `compute.instance.create.end`.
    #[pyo3(get)]
    event_type: String,
    /// Who sent it.
    #[pyo3(get)]
    publisher_id: String,
    /// How important it is: `audit`, `debug`, `info`, `warn`, `error`, `critical` or `sample`; `None` for another.
    #[pyo3(get)]
    priority: Option<&'static str>,
    /// Its id; the same when it is delivered again.
    #[pyo3(get)]
    message_id: String,
    /// When it was sent, as its sender writes times.
    #[pyo3(get)]
    timestamp: String,
    context: Context,
    payload: Value,
    core: Owned<Core>,
}

#[pymethods]
impl Notification {
    /// The context it was sent in.
    #[getter]
    fn context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        json::map_to_python(py, self.context.entries())
    }

    /// What it says.
    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json::to_python(py, &self.payload)
    }

    /// Whether it was delivered before.
    #[getter]
    fn redelivered(&self) -> PyResult<bool> {
        Ok(self.core.get()?.redelivered())
    }

    /// It is done. Never waits.
    fn ack(&self, py: Python<'_>) -> PyResult<()> {
        self.core.get()?.ack().map_err(|error| exceptions::to_py(py, error))?;
        runtime::call_back(py);
        Ok(())
    }

    /// It goes back to its queue, to be delivered again. Never waits.
    fn requeue(&self, py: Python<'_>) -> PyResult<()> {
        self.core.get()?.requeue().map_err(|error| exceptions::to_py(py, error))?;
        runtime::call_back(py);
        Ok(())
    }

    fn __repr__(&self) -> String {
        format!("<Notification {:?} of {:?}>", self.event_type, self.publisher_id)
    }
}
