//! Clients: what they can do is written once, and waits in the way of their face.

use std::sync::{Mutex, MutexGuard, PoisonError};

use murano_messaging::{Binding, Client as Core, Message, Publisher};
use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyString, PyType},
};

use crate::{
    confirmation, consumer, delivery,
    errors::{self, OrPyErr},
    events, exit, message,
    outcome::{Outcome, run},
    process::Owned,
    time, topology,
    wait::{self, Face, operation::Ready},
};

/// The publisher that was used last: a program that publishes a lot often does so along one route.
struct LastRoute {
    exchange: Py<PyString>,
    routing_key: Py<PyString>,
    publisher: Publisher,
}

/// A client, whatever its face.
#[pyclass(frozen, subclass, weakref, module = "murano_messaging._native")]
pub struct BaseClient {
    core: Owned<Core>,
    last: Mutex<Option<LastRoute>>,
    face: Face,
}

/// A connection to RabbitMQ that keeps itself alive. Its methods return when they are done.
#[pyclass(frozen, extends = BaseClient, weakref, name = "Client", module = "murano_messaging")]
pub struct Client;

/// A connection to RabbitMQ that keeps itself alive. Its methods return something to await.
#[pyclass(frozen, extends = BaseClient, weakref, name = "Client", module = "murano_messaging.aio")]
pub struct AioClient;

pub fn to_python(py: Python<'_>, face: Face, core: Core) -> PyResult<Bound<'_, PyAny>> {
    exit::remember(py, &core);
    let base = BaseClient { core: Owned::new(core), last: Mutex::default(), face };
    Ok(match face {
        Face::Blocking => Bound::new(py, PyClassInitializer::from(base).add_subclass(Client))?.into_any(),
        Face::Asyncio => Bound::new(py, PyClassInitializer::from(base).add_subclass(AioClient))?.into_any(),
    })
}

impl BaseClient {
    fn core(&self) -> PyResult<&Core> {
        self.core.get()
    }

    fn last(&self) -> MutexGuard<'_, Option<LastRoute>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publisher(
        &self,
        exchange: &Bound<'_, PyString>,
        routing_key: &Bound<'_, PyString>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Publisher> {
        let timeout = time::optional_duration("timeout", timeout)?;
        let known = match &*self.last() {
            Some(last) if last.exchange.is(exchange) && last.routing_key.is(routing_key) => {
                Some(last.publisher.clone())
            }
            _ => None,
        };
        let publisher = if let Some(publisher) = known {
            publisher
        } else {
            let publisher = self.core()?.publisher(&*exchange.to_cow()?, &*routing_key.to_cow()?);
            let (exchange, routing_key) = (exchange.clone().unbind(), routing_key.clone().unbind());
            let last = LastRoute { exchange, routing_key, publisher: publisher.clone() };
            // Dropped without the lock.
            let before = self.last().replace(last);
            drop(before);
            publisher
        };
        Ok(match timeout {
            Some(timeout) => publisher.timeout(Some(timeout)),
            None => publisher,
        })
    }
}

fn with_mandatory(message: Message, mandatory: Option<bool>) -> Message {
    match mandatory {
        Some(mandatory) => message.mandatory(mandatory),
        None => message,
    }
}

fn empty(py: Python<'_>) -> &Bound<'_, PyString> {
    pyo3::intern!(py, "")
}

#[pymethods]
impl BaseClient {
    // ---- publishing ------------------------------------------------------------------------------------------

    /// Publishes a message; it is done when the broker has taken responsibility for it.
    #[pyo3(
        signature = (body, *, exchange=None, routing_key=None, mandatory=None, timeout=None, **properties),
        text_signature = "($self, body, *, exchange='', routing_key='', mandatory=None, timeout=None, persistent=True, headers=None, content_type=None, content_encoding=None, priority=None, correlation_id=None, reply_to=None, expiration=None, message_id=None, timestamp=None, kind=None, user_id=None, app_id=None, cluster_id=None)"
    )]
    fn publish<'py>(
        &self,
        py: Python<'py>,
        body: &Bound<'py, PyAny>,
        exchange: Option<&Bound<'py, PyString>>,
        routing_key: Option<&Bound<'py, PyString>>,
        mandatory: Option<bool>,
        timeout: Option<&Bound<'py, PyAny>>,
        properties: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.core()?;
        let message = with_mandatory(message::build(body, properties)?, mandatory);
        let publisher =
            self.publisher(exchange.unwrap_or(empty(py)), routing_key.unwrap_or(empty(py)), timeout)?;
        run(py, self.face, async move {
            publisher.publish(message).await?;
            Ok(Outcome::None)
        })
    }

    /// Puts a message on its way and returns a confirmation to wait for. Waits only while the window is full.
    #[pyo3(
        signature = (body, *, exchange=None, routing_key=None, mandatory=None, timeout=None, **properties),
        text_signature = "($self, body, *, exchange='', routing_key='', mandatory=None, timeout=None, persistent=True, headers=None, content_type=None, content_encoding=None, priority=None, correlation_id=None, reply_to=None, expiration=None, message_id=None, timestamp=None, kind=None, user_id=None, app_id=None, cluster_id=None)"
    )]
    fn publish_nowait<'py>(
        &self,
        py: Python<'py>,
        body: &Bound<'py, PyAny>,
        exchange: Option<&Bound<'py, PyString>>,
        routing_key: Option<&Bound<'py, PyString>>,
        mandatory: Option<bool>,
        timeout: Option<&Bound<'py, PyAny>>,
        properties: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.core()?;
        let message = with_mandatory(message::build(body, properties)?, mandatory);
        let publisher =
            self.publisher(exchange.unwrap_or(empty(py)), routing_key.unwrap_or(empty(py)), timeout)?;
        let face = self.face;
        let mut work = Box::pin(async move { publisher.publish_nowait(message).await });
        if face == Face::Blocking {
            let core = wait::block(py, work.as_mut())?.or_py(py)?;
            return confirmation::to_python(py, face, core);
        }
        // While there is room in the window, there is nothing to wait for.
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match work.as_mut().poll(&mut context) {
            std::task::Poll::Ready(core) => {
                let value = confirmation::to_python(py, face, core.or_py(py)?)?;
                Ok(Bound::new(py, Ready::new(value.unbind()))?.into_any())
            }
            std::task::Poll::Pending => {
                run(py, face, async move { Ok(Outcome::Confirmation(face, work.await?)) })
            }
        }
    }

    // ---- consuming -------------------------------------------------------------------------------------------

    /// Consumes a queue.
    #[pyo3(
        signature = (queue, **options),
        text_signature = "($self, queue, *, prefetch=100, no_ack=False, exclusive=False, tag=None, priority=None, stream_offset=None, resume=False, arguments=None)"
    )]
    fn consume<'py>(
        &self,
        py: Python<'py>,
        queue: &str,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let builder = topology::consume(self.core()?.consume(queue), options)?;
        consumer::start(py, self.face, queue, builder)
    }

    /// Takes one message off a queue; `None` when it is empty.
    #[pyo3(signature = (queue, *, no_ack=false))]
    fn get<'py>(&self, py: Python<'py>, queue: String, no_ack: bool) -> PyResult<Bound<'py, PyAny>> {
        let (core, face) = (self.core()?.clone(), self.face);
        run(py, face, async move { delivery::outcome(face, core.get(&queue, no_ack).await.transpose()) })
    }

    // ---- topology --------------------------------------------------------------------------------------------

    /// Declares a queue.
    #[pyo3(
        signature = (name="", **options),
        text_signature = "($self, name='', *, durable=True, exclusive=False, auto_delete=False, expires=None, message_ttl=None, max_length=None, max_length_bytes=None, overflow=None, dead_letter_exchange=None, dead_letter_routing_key=None, max_priority=None, type=None, delivery_limit=None, single_active_consumer=False, max_age=None, arguments=None)"
    )]
    fn declare_queue<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = self.core()?.clone();
        let queue = topology::queue(name, options)?;
        run(py, self.face, async move { Ok(Outcome::Queue(core.declare_queue(&queue).await?)) })
    }

    /// The counts of a queue that exists.
    fn queue_info<'py>(&self, py: Python<'py>, name: String) -> PyResult<Bound<'py, PyAny>> {
        let core = self.core()?.clone();
        run(py, self.face, async move { Ok(Outcome::Queue(core.queue_info(&name).await?)) })
    }

    /// Deletes a queue and returns how many messages went with it.
    #[pyo3(signature = (name, *, if_unused=false, if_empty=false))]
    fn delete_queue<'py>(
        &self,
        py: Python<'py>,
        name: String,
        if_unused: bool,
        if_empty: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = self.core()?.clone();
        run(py, self.face, async move {
            Ok(Outcome::Count(core.delete_queue_if(&name, if_unused, if_empty).await?))
        })
    }

    /// Drops the messages of a queue that nobody has in work and returns how many.
    fn purge_queue<'py>(&self, py: Python<'py>, name: String) -> PyResult<Bound<'py, PyAny>> {
        let core = self.core()?.clone();
        run(py, self.face, async move { Ok(Outcome::Count(core.purge_queue(&name).await?)) })
    }

    /// Declares an exchange.
    #[pyo3(
        signature = (name, r#type="direct", **options),
        text_signature = "($self, name, type='direct', *, durable=True, auto_delete=False, internal=False, alternate_exchange=None, arguments=None)"
    )]
    fn declare_exchange<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        r#type: &str,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = self.core()?.clone();
        let exchange = topology::exchange(name, r#type, options)?;
        run(py, self.face, async move {
            core.declare_exchange(&exchange).await?;
            Ok(Outcome::None)
        })
    }

    /// Checks that an exchange exists.
    fn check_exchange<'py>(&self, py: Python<'py>, name: String) -> PyResult<Bound<'py, PyAny>> {
        let core = self.core()?.clone();
        run(py, self.face, async move {
            core.check_exchange(&name).await?;
            Ok(Outcome::None)
        })
    }

    /// Deletes an exchange.
    #[pyo3(signature = (name, *, if_unused=false))]
    fn delete_exchange<'py>(
        &self,
        py: Python<'py>,
        name: String,
        if_unused: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = self.core()?.clone();
        run(py, self.face, async move {
            core.delete_exchange_if(&name, if_unused).await?;
            Ok(Outcome::None)
        })
    }

    /// Binds a queue to an exchange.
    #[pyo3(signature = (queue, exchange, routing_key="", *, arguments=None))]
    fn bind<'py>(
        &self,
        py: Python<'py>,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.change_binding(py, true, Binding::queue(queue, exchange), routing_key, arguments)
    }

    /// Removes a binding of a queue.
    #[pyo3(signature = (queue, exchange, routing_key="", *, arguments=None))]
    fn unbind<'py>(
        &self,
        py: Python<'py>,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.change_binding(py, false, Binding::queue(queue, exchange), routing_key, arguments)
    }

    /// Binds an exchange to another.
    #[pyo3(signature = (destination, source, routing_key="", *, arguments=None))]
    fn bind_exchange<'py>(
        &self,
        py: Python<'py>,
        destination: &str,
        source: &str,
        routing_key: &str,
        arguments: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.change_binding(py, true, Binding::exchange(destination, source), routing_key, arguments)
    }

    /// Removes a binding between exchanges.
    #[pyo3(signature = (destination, source, routing_key="", *, arguments=None))]
    fn unbind_exchange<'py>(
        &self,
        py: Python<'py>,
        destination: &str,
        source: &str,
        routing_key: &str,
        arguments: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.change_binding(py, false, Binding::exchange(destination, source), routing_key, arguments)
    }

    /// Drops the queue or exchange of this name from the record: it is not declared again after a reconnect.
    fn forget(&self, name: &str) -> PyResult<()> {
        self.core()?.forget(name);
        Ok(())
    }

    // ---- the connection --------------------------------------------------------------------------------------

    /// What happens to the connections from now on.
    fn events<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        events::listen(py, self.face, self.core()?.events())
    }

    /// What the client did so far.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let stats = self.core()?.stats();
        let fields = PyDict::new(py);
        for (name, value) in [
            ("published", stats.published),
            ("confirmed", stats.confirmed),
            ("returned", stats.returned),
            ("nacked", stats.nacked),
            ("republished", stats.republished),
            ("in_flight", stats.in_flight),
            ("in_flight_bytes", stats.in_flight_bytes),
            ("bytes_published", stats.bytes_published),
            ("delivered", stats.delivered),
            ("bytes_delivered", stats.bytes_delivered),
            ("acked", stats.acked),
            ("undelivered_bytes", stats.undelivered_bytes),
            ("reconnects", stats.reconnects),
            ("recorded", stats.recorded),
        ] {
            fields.set_item(name, value)?;
        }
        CLASS.import(py, "murano_messaging._types", "Stats")?.call((), Some(&fields))
    }

    /// Whether the client was closed, or gave up.
    #[getter]
    fn closed(&self) -> PyResult<bool> {
        Ok(self.core()?.is_closed())
    }

    /// The virtual host in use.
    #[getter]
    fn vhost(&self) -> PyResult<&str> {
        Ok(self.core()?.options().virtual_host())
    }

    /// Gives the broker a new secret for the login in use.
    #[pyo3(signature = (secret, reason=""))]
    fn update_secret<'py>(
        &self,
        py: Python<'py>,
        secret: String,
        reason: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (core, reason) = (self.core()?.clone(), reason.to_owned());
        run(py, self.face, async move {
            core.update_secret(&secret, &reason).await?;
            Ok(Outcome::None)
        })
    }

    /// Closes the client in order: publishes are confirmed, consumers cancelled, acks sent.
    fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let core = self.core()?.clone();
        run(py, self.face, async move {
            core.close().await?;
            Ok(Outcome::None)
        })
    }

    /// As `close`, and waits up to `timeout` for the deliveries in work to be settled.
    #[pyo3(signature = (timeout=None))]
    fn drain<'py>(&self, py: Python<'py>, timeout: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let timeout = time::optional_duration("timeout", timeout.as_ref())?;
        let timeout = timeout.unwrap_or(std::time::Duration::from_secs(30));
        let core = self.core()?.clone();
        run(py, self.face, async move {
            core.drain(timeout).await?;
            Ok(Outcome::None)
        })
    }

    fn __repr__(&self) -> PyResult<String> {
        let core = self.core()?;
        let hosts: Vec<_> = core.options().host_list().iter().map(ToString::to_string).collect();
        let state = if core.is_closed() { " (closed)" } else { "" };
        Ok(format!("<Client of {:?} at {}{state}>", core.options().virtual_host(), hosts.join(", ")))
    }
}

impl BaseClient {
    fn change_binding<'py>(
        &self,
        py: Python<'py>,
        bind: bool,
        binding: Binding,
        routing_key: &str,
        arguments: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = self.core()?.clone();
        let binding = topology::binding(binding, routing_key, arguments.as_ref())?;
        run(py, self.face, async move {
            if bind {
                core.bind(&binding).await?;
            } else {
                core.unbind(&binding).await?;
            }
            Ok(Outcome::None)
        })
    }
}

#[pymethods]
impl Client {
    /// Has `callback` called with each event from now on, in a thread of its own, until the client is closed.
    fn on_event<'py>(slf: &Bound<'py, Self>, callback: Bound<'py, PyAny>) -> PyResult<()> {
        let py = slf.py();
        if !callback.is_callable() {
            return Err(errors::wrong_type("callback", "a function that takes an event", &callback));
        }
        let events = slf.as_super().get().events(py)?;
        py.import("murano_messaging._service")?.call_method1("listen", (events, callback)).map(|_| ())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __exit__(
        slf: &Bound<'_, Self>,
        _kind: Option<Bound<'_, PyType>>,
        _error: Option<Bound<'_, PyAny>>,
        _traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        slf.as_super().get().close(slf.py()).map(|_| ())
    }
}

#[pymethods]
impl AioClient {
    fn __aenter__<'py>(slf: Bound<'py, Self>) -> PyResult<Bound<'py, Ready>> {
        let py = slf.py();
        Bound::new(py, Ready::new(slf.into_any().unbind()))
    }

    fn __aexit__<'py>(
        slf: &Bound<'py, Self>,
        _kind: Option<Bound<'py, PyType>>,
        _error: Option<Bound<'py, PyAny>>,
        _traceback: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.as_super().get().close(slf.py())
    }
}
