//! Clients: what they can do is written once, and waits in the way of their api.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use murano_messaging::{Binding, Client as Core, Message, Publisher};
use pyo3::{
    PyTraverseError, PyVisit,
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyString, PyTuple, PyType},
};

use crate::{
    arguments::{Given, flag, text, utf8},
    callback::Callback,
    confirmation, consumer, delivery,
    errors::{self, OrPyErr},
    events::{self, Heard},
    exit, message,
    outcome::{Outcome, leave, run},
    process::Owned,
    runtime,
    service::Source,
    time, topology, value,
    wait::{self, Api, operation::Ready},
};

/// The publisher that was used last: a program that publishes a lot often does so along one route.
struct LastRoute {
    exchange: Py<PyString>,
    routing_key: Py<PyString>,
    publisher: Publisher,
}

/// A client, whatever its api.
#[pyclass(frozen, subclass, weakref, module = "murano_messaging._native")]
pub struct BaseClient {
    core: Owned<Core>,
    last: Mutex<Option<LastRoute>>,
    /// Knows the credentials, if no name and password do.
    source: Option<Arc<Source>>,
    /// What `on_event` was given.
    listeners: Mutex<Vec<Arc<Callback>>>,
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

    fn last(&self) -> MutexGuard<'_, Option<LastRoute>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Arc<Callback>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publisher(
        &self,
        py: Python<'_>,
        exchange: Option<&Bound<'_, PyAny>>,
        routing_key: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Publisher> {
        let timeout = time::optional_duration("timeout", timeout)?;
        let exchange = route(py, "exchange", exchange)?;
        let routing_key = route(py, "routing_key", routing_key)?;
        let known = match &*self.last() {
            Some(last) if last.exchange.is(exchange) && last.routing_key.is(routing_key) => {
                Some(last.publisher.clone())
            }
            _ => None,
        };
        let publisher = if let Some(publisher) = known {
            publisher
        } else {
            let publisher = {
                let exchange = utf8("exchange", exchange)?;
                self.core()?.publisher(exchange, utf8("routing_key", routing_key)?)
            };
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

fn with_mandatory(message: Message, mandatory: Option<&Bound<'_, PyAny>>) -> PyResult<Message> {
    Ok(match mandatory {
        Some(mandatory) => message.mandatory(flag("mandatory", mandatory)?),
        None => message,
    })
}

/// An argument that is a str, the empty one if it was left out.
fn route<'a, 'py>(
    py: Python<'py>,
    what: &str,
    given: Option<&'a Bound<'py, PyAny>>,
) -> PyResult<&'a Bound<'py, PyString>>
where
    'py: 'a,
{
    let Some(given) = given else { return Ok(pyo3::intern!(py, "")) };
    given.cast::<PyString>().map_err(|_| errors::wrong_type(what, "a str", given))
}

fn queue_binding(queue: &Bound<'_, PyAny>, exchange: &Bound<'_, PyAny>) -> PyResult<Binding> {
    Ok(Binding::queue(text("queue", queue)?, text("exchange", exchange)?))
}

fn exchange_binding(destination: &Bound<'_, PyAny>, source: &Bound<'_, PyAny>) -> PyResult<Binding> {
    Ok(Binding::exchange(text("destination", destination)?, text("source", source)?))
}

#[pymethods]
impl BaseClient {
    // ---- publishing ------------------------------------------------------------------------------------------

    /// Publishes a message; done when the broker has taken responsibility for it (publisher confirms).
    ///
    /// With the defaults (persistent, mandatory) and a durable queue, a message is not lost after this. Publishing does not
    /// renew a queue's `expires`; consuming does.
    ///
    /// * `body`: bytes-like; a `str`, sent as UTF-8 with content type `text/plain`; a dict or list, sent as JSON with content
    ///   type `application/json`.
    /// * `exchange`, `routing_key`: at most 255 bytes; the default exchange `""` routes to the queue that is called like the key.
    /// * `mandatory`: whether a message that no queue takes fails; by default it does, except on fanout exchanges.
    /// * `timeout`: seconds or `timedelta` until the confirm; the client's `timeout` by default.
    /// * `persistent`: whether the broker keeps the message on disk, in durable queues.
    /// * `headers`: a dict of None, bool, int, float, Decimal, str, bytes, datetime, list, dict.
    /// * `priority`: 0 to 255. `expiration`: seconds or `timedelta` that it may wait in a queue. `timestamp`: a `datetime`
    ///   (naive: UTC) or seconds since 1970. `kind`: the property `type`. `message_id`: made up if there is none.
    ///   `content_type`, `content_encoding`, `correlation_id`, `reply_to`, `user_id`, `app_id`, `cluster_id`: at most 255 bytes.
    ///
    /// Raises `UnroutableError` (with the message), `NackedError`, `NotFoundError` (no such exchange),
    /// `OperationTimeoutError` (outcome unknown), `BlockedError`, `InvalidArgumentError` and `TypeError` (nothing was sent).
    ///
    /// >>> client.publish({"n": 1}, routing_key=queue, headers={"attempt": 1}, expiration=60)
    #[pyo3(
        signature = (body, *, exchange=None, routing_key=None, mandatory=None, timeout=None, **properties),
        text_signature = "($self, body, *, exchange='', routing_key='', mandatory=None, timeout=None, persistent=True, headers=None, content_type=None, content_encoding=None, priority=None, correlation_id=None, reply_to=None, expiration=None, message_id=None, timestamp=None, kind=None, user_id=None, app_id=None, cluster_id=None)"
    )]
    fn publish<'py>(
        &self,
        py: Python<'py>,
        body: &Bound<'py, PyAny>,
        exchange: Option<&Bound<'py, PyAny>>,
        routing_key: Option<&Bound<'py, PyAny>>,
        mandatory: Option<&Bound<'py, PyAny>>,
        timeout: Option<&Bound<'py, PyAny>>,
        properties: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.core()?;
        let message = with_mandatory(message::build(body, properties)?, mandatory)?;
        let publisher = self.publisher(py, exchange, routing_key, timeout)?;
        run(py, self.api, async move {
            publisher.publish(message).await?;
            Ok(Outcome::None)
        })
    }

    /// Puts a message on its way and returns a `Confirmation` to wait for. Waits only while the window is full.
    ///
    /// The window is 1,000 messages and 64 MiB, unless `connect` was told otherwise. Arguments and errors as for `publish`; what
    /// the broker answers is raised by the confirmation.
    ///
    /// >>> pending = [client.publish_nowait(b"x", routing_key=queue) for _ in range(1000)]
    /// >>> mm.wait_all(pending, timeout=10)
    #[pyo3(
        signature = (body, *, exchange=None, routing_key=None, mandatory=None, timeout=None, **properties),
        text_signature = "($self, body, *, exchange='', routing_key='', mandatory=None, timeout=None, persistent=True, headers=None, content_type=None, content_encoding=None, priority=None, correlation_id=None, reply_to=None, expiration=None, message_id=None, timestamp=None, kind=None, user_id=None, app_id=None, cluster_id=None)"
    )]
    fn publish_nowait<'py>(
        &self,
        py: Python<'py>,
        body: &Bound<'py, PyAny>,
        exchange: Option<&Bound<'py, PyAny>>,
        routing_key: Option<&Bound<'py, PyAny>>,
        mandatory: Option<&Bound<'py, PyAny>>,
        timeout: Option<&Bound<'py, PyAny>>,
        properties: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.core()?;
        let message = with_mandatory(message::build(body, properties)?, mandatory)?;
        let publisher = self.publisher(py, exchange, routing_key, timeout)?;
        let api = self.api;
        let mut work = Box::pin(async move { publisher.publish_nowait(message).await });
        if api == Api::Blocking {
            let core = wait::block(py, work.as_mut())?.or_py(py)?;
            runtime::call_back(py);
            return confirmation::to_python(py, api, core);
        }
        // While there is room in the window, there is nothing to wait for.
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match work.as_mut().poll(&mut context) {
            std::task::Poll::Ready(core) => {
                runtime::call_back(py);
                let value = confirmation::to_python(py, api, core.or_py(py)?)?;
                Ok(Bound::new(py, Ready::fair(value.unbind()))?.into_any())
            }
            std::task::Poll::Pending => {
                run(py, api, async move { Ok(Outcome::Confirmation(api, work.await?)) })
            }
        }
    }

    // ---- consuming -------------------------------------------------------------------------------------------

    /// Consumes a queue: an iterator over its deliveries, on a channel of its own.
    ///
    /// The blocking client starts at once; for asyncio it starts at its first use. Use it in a `with` (`async with`) block, so
    /// that what was not handed out goes back to its queue at the end.
    ///
    /// * `prefetch`: how many unsettled messages the broker sends ahead; 0 for no limit.
    /// * `no_ack`: the broker considers a message done when it has sent it; one that is lost on its way is lost.
    /// * `exclusive`: refuses other consumers. `priority`: consumers with a higher one get messages first.
    /// * `tag`: the consumer tag, at most 240 bytes; made up if there is none.
    /// * `stream_offset`: where to start in a stream: `"first"`, `"last"`, `"next"`, an int, a `datetime`, or how long ago as a
    ///   `timedelta` (rounded up to seconds) or as text such as `"7D"`.
    /// * `resume`: after a cancel by the broker (its queue was deleted), goes on when the queue is there again.
    /// * `arguments`: raw arguments of `basic.consume`.
    ///
    /// Raises `NotFoundError`, `AccessRefusedError`, `ResourceLockedError`, `InvalidArgumentError`.
    ///
    /// >>> client.publish("hello", routing_key=queue)
    /// >>> with client.consume(queue, prefetch=10) as deliveries:
    /// ...     for delivery in deliveries:
    /// ...         delivery.ack()
    /// ...         break
    /// >>> delivery.text()
    /// 'hello'
    #[pyo3(
        signature = (queue, **options),
        text_signature = "($self, queue, *, prefetch=100, no_ack=False, exclusive=False, tag=None, priority=None, stream_offset=None, resume=False, arguments=None)"
    )]
    fn consume<'py>(
        &self,
        py: Python<'py>,
        queue: &Bound<'py, PyAny>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let queue = text("queue", queue)?;
        let builder = topology::consume(self.core()?.consume(queue.as_str()), options)?;
        consumer::start(py, self.api, &queue, builder)
    }

    /// Takes one message off a queue (`basic.get`); `None` when it is empty. Consuming is far cheaper for more than one.
    ///
    /// A delivery that is dropped unsettled goes back to its queue. Raises `NotFoundError`.
    ///
    /// >>> client.get(queue) is None
    /// True
    #[pyo3(
        signature = (queue, *, no_ack=Given(None)),
        text_signature = "($self, queue, *, no_ack=False)"
    )]
    fn get<'py>(
        &self,
        py: Python<'py>,
        queue: &Bound<'py, PyAny>,
        no_ack: Given<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (queue, no_ack) = (text("queue", queue)?, no_ack.flag("no_ack", false)?);
        let (core, api) = (self.core()?.clone(), self.api);
        run(py, api, async move { delivery::outcome(api, core.get(&queue, no_ack).await.transpose()) })
    }

    // ---- topology --------------------------------------------------------------------------------------------

    /// Declares a queue, and returns its `QueueInfo`; an empty name asks the broker for one. After a lost connection it is
    /// declared again: one with `expires` or `auto_delete` only while this client consumes it.
    ///
    /// * `durable`: survives a restart of the broker. `exclusive`: only for this connection, and deleted with it.
    ///   `auto_delete`: deleted when its last consumer goes.
    /// * `expires`: seconds or `timedelta` without use after which it is deleted; consuming, declaring and getting are uses,
    ///   publishing is not. `message_ttl`: how long a message may wait.
    /// * `max_length` (messages), `max_length_bytes`, `overflow`: `"drop-head"`, `"reject-publish"`, `"reject-publish-dlx"`.
    /// * `dead_letter_exchange`, `dead_letter_routing_key`: where rejected, expired and dropped messages go.
    /// * `max_priority`: priorities from 0 to this. `type`: `"classic"`, `"quorum"`, `"stream"`.
    /// * `delivery_limit`: redeliveries before a message is dropped, of quorum queues. `single_active_consumer`.
    ///   `max_age`: how long a stream keeps messages.
    /// * `arguments`: raw arguments, by their names on the wire.
    ///
    /// Raises `PreconditionFailedError` when it exists with other properties, `ResourceLockedError` when it is exclusive to
    /// another connection, `InvalidArgumentError` for what no broker can serve.
    ///
    /// >>> client.declare_queue(queue + "-2", expires=3600, max_length=1000).message_count
    /// 0
    #[pyo3(
        signature = (name=Given(None), **options),
        text_signature = "($self, name='', *, durable=True, exclusive=False, auto_delete=False, expires=None, message_ttl=None, max_length=None, max_length_bytes=None, overflow=None, dead_letter_exchange=None, dead_letter_routing_key=None, max_priority=None, type=None, delivery_limit=None, single_active_consumer=False, max_age=None, arguments=None)"
    )]
    fn declare_queue<'py>(
        &self,
        py: Python<'py>,
        name: Given<'py>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = self.core()?.clone();
        let queue = topology::queue(&name.text("name", "")?, options)?;
        run(py, self.api, async move { Ok(Outcome::Queue(core.declare_queue(&queue).await?)) })
    }

    /// The `QueueInfo` of a queue that exists (a passive declare). Raises `NotFoundError` when it does not.
    fn queue_info<'py>(&self, py: Python<'py>, name: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (core, name) = (self.core()?.clone(), text("name", name)?);
        run(py, self.api, async move { Ok(Outcome::Queue(core.queue_info(&name).await?)) })
    }

    /// Deletes a queue and returns how many messages went with it. One that does not exist counts as deleted.
    ///
    /// With `if_unused` only if nobody consumes it, with `if_empty` only if it holds nothing; otherwise
    /// `PreconditionFailedError` is raised.
    #[pyo3(
        signature = (name, *, if_unused=Given(None), if_empty=Given(None)),
        text_signature = "($self, name, *, if_unused=False, if_empty=False)"
    )]
    fn delete_queue<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        if_unused: Given<'py>,
        if_empty: Given<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (core, name) = (self.core()?.clone(), text("name", name)?);
        let if_unused = if_unused.flag("if_unused", false)?;
        let if_empty = if_empty.flag("if_empty", false)?;
        run(py, self.api, async move {
            Ok(Outcome::Count(core.delete_queue_if(&name, if_unused, if_empty).await?))
        })
    }

    /// Drops the messages of a queue that nobody has in work and returns how many. Raises `NotFoundError`.
    fn purge_queue<'py>(&self, py: Python<'py>, name: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (core, name) = (self.core()?.clone(), text("name", name)?);
        run(py, self.api, async move { Ok(Outcome::Count(core.purge_queue(&name).await?)) })
    }

    /// Declares an exchange: `"direct"`, `"topic"`, `"fanout"`, `"headers"`, or a type that a plugin of the broker brings.
    ///
    /// * `durable`: survives a restart of the broker. `auto_delete`: deleted when its last binding goes.
    /// * `internal`: only other exchanges may feed it. `alternate_exchange`: where a message goes that no binding takes.
    /// * `arguments`: raw arguments.
    ///
    /// Raises `PreconditionFailedError` when it exists with other properties.
    #[pyo3(
        signature = (name, r#type=Given(None), **options),
        text_signature = "($self, name, type='direct', *, durable=True, auto_delete=False, internal=False, alternate_exchange=None, arguments=None)"
    )]
    fn declare_exchange<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        r#type: Given<'py>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = self.core()?.clone();
        let kind = r#type.text("type", "direct")?;
        let exchange = topology::exchange(&text("name", name)?, &kind, options)?;
        run(py, self.api, async move {
            core.declare_exchange(&exchange).await?;
            Ok(Outcome::None)
        })
    }

    /// Checks that an exchange exists (a passive declare). Raises `NotFoundError` when it does not.
    ///
    /// >>> client.check_exchange("amq.topic")
    fn check_exchange<'py>(&self, py: Python<'py>, name: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (core, name) = (self.core()?.clone(), text("name", name)?);
        run(py, self.api, async move {
            core.check_exchange(&name).await?;
            Ok(Outcome::None)
        })
    }

    /// Deletes an exchange, with `if_unused` only if nothing is bound to it. One that does not exist counts as deleted.
    #[pyo3(
        signature = (name, *, if_unused=Given(None)),
        text_signature = "($self, name, *, if_unused=False)"
    )]
    fn delete_exchange<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        if_unused: Given<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (core, name) = (self.core()?.clone(), text("name", name)?);
        let if_unused = if_unused.flag("if_unused", false)?;
        run(py, self.api, async move {
            core.delete_exchange_if(&name, if_unused).await?;
            Ok(Outcome::None)
        })
    }

    /// Binds a queue to an exchange: messages whose routing key matches go there. `arguments` are what a headers exchange
    /// matches. Raises `NotFoundError`.
    ///
    /// >>> client.bind(queue, "amq.topic", "plans.#")
    #[pyo3(
        signature = (queue, exchange, routing_key=Given(None), *, arguments=None),
        text_signature = "($self, queue, exchange, routing_key='', *, arguments=None)"
    )]
    fn bind<'py>(
        &self,
        py: Python<'py>,
        queue: &Bound<'py, PyAny>,
        exchange: &Bound<'py, PyAny>,
        routing_key: Given<'py>,
        arguments: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.change_binding(py, true, queue_binding(queue, exchange)?, routing_key, arguments)
    }

    /// Removes a binding of a queue to an exchange.
    #[pyo3(
        signature = (queue, exchange, routing_key=Given(None), *, arguments=None),
        text_signature = "($self, queue, exchange, routing_key='', *, arguments=None)"
    )]
    fn unbind<'py>(
        &self,
        py: Python<'py>,
        queue: &Bound<'py, PyAny>,
        exchange: &Bound<'py, PyAny>,
        routing_key: Given<'py>,
        arguments: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.change_binding(py, false, queue_binding(queue, exchange)?, routing_key, arguments)
    }

    /// Binds the exchange `destination` to the exchange `source`, a RabbitMQ extension.
    #[pyo3(
        signature = (destination, source, routing_key=Given(None), *, arguments=None),
        text_signature = "($self, destination, source, routing_key='', *, arguments=None)"
    )]
    fn bind_exchange<'py>(
        &self,
        py: Python<'py>,
        destination: &Bound<'py, PyAny>,
        source: &Bound<'py, PyAny>,
        routing_key: Given<'py>,
        arguments: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.change_binding(py, true, exchange_binding(destination, source)?, routing_key, arguments)
    }

    /// Removes a binding between exchanges.
    #[pyo3(
        signature = (destination, source, routing_key=Given(None), *, arguments=None),
        text_signature = "($self, destination, source, routing_key='', *, arguments=None)"
    )]
    fn unbind_exchange<'py>(
        &self,
        py: Python<'py>,
        destination: &Bound<'py, PyAny>,
        source: &Bound<'py, PyAny>,
        routing_key: Given<'py>,
        arguments: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.change_binding(py, false, exchange_binding(destination, source)?, routing_key, arguments)
    }

    /// Drops the queue or exchange of this name from the record, with its bindings: it stays at the broker and is not declared
    /// again after a reconnect. Never waits.
    fn forget(&self, name: &Bound<'_, PyAny>) -> PyResult<()> {
        self.core()?.forget(&text("name", name)?);
        Ok(())
    }

    // ---- the connection --------------------------------------------------------------------------------------

    /// What happens to the connections from now on, as an iterator over the classes of `murano_messaging.events`. Never waits.
    /// A listener that falls more than 256 events behind loses the oldest.
    fn events<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        events::listen(py, self.api, self.core()?.events())
    }

    /// What the client did so far, as `Stats`. Never waits.
    ///
    /// >>> client.stats().in_flight
    /// 0
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

    /// What the broker said of itself when the connection, or the last one, was opened, as `ServerInfo`. Never waits.
    ///
    /// >>> client.server().properties["product"]
    /// 'RabbitMQ'
    fn server<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let Some(server) = self.core()?.server() else { return Ok(None) };
        let list = |text: &str| PyTuple::new(py, text.split_ascii_whitespace().collect::<Vec<_>>());
        let fields = (
            server.version,
            value::table_to_python(py, &server.properties)?,
            list(&server.mechanisms)?,
            list(&server.locales)?,
        );
        CLASS.import(py, "murano_messaging._types", "ServerInfo")?.call1(fields).map(Some)
    }

    /// Whether the client was closed, or gave up.
    #[getter]
    fn closed(&self) -> PyResult<bool> {
        Ok(self.core()?.is_closed())
    }

    /// Whether the broker blocks publishing, for lack of memory or disk: publishes wait for the end of that, up to their deadline.
    #[getter]
    fn blocked(&self) -> PyResult<bool> {
        Ok(self.core()?.is_blocked())
    }

    /// The virtual host in use.
    #[getter]
    fn vhost(&self) -> PyResult<&str> {
        Ok(self.core()?.options().virtual_host())
    }

    /// Gives the broker a new secret for the login in use (`connection.update-secret`: OAuth 2 tokens). The next login asks the
    /// function `credentials` of `connect`, not this.
    #[pyo3(signature = (secret, reason=Given(None)), text_signature = "($self, secret, reason='')")]
    fn update_secret<'py>(
        &self,
        py: Python<'py>,
        secret: &Bound<'py, PyAny>,
        reason: Given<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = self.core()?.clone();
        let (secret, reason) = (text("secret", secret)?, reason.text("reason", "")?);
        run(py, self.api, async move {
            core.update_secret(&secret, &reason).await?;
            Ok(Outcome::None)
        })
    }

    /// Closes the client in order: publishes are confirmed, consumers cancelled, acks sent, the connections closed. What takes
    /// longer than the client's `timeout` is dropped, and raises `OperationTimeoutError`. Closing again is harmless.
    ///
    /// The end of a `with` block closes it too. What led out of the block, if anything did, is not replaced by an error of that.
    fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let core = self.core()?.clone();
        run(py, self.api, async move {
            core.close().await?;
            Ok(Outcome::None)
        })
    }

    /// As `close`, and waits up to `timeout` (30 seconds by default) until the deliveries that were handed out are settled: what
    /// a handler of SIGTERM wants. Consumers end at once; what they had not handed out goes back to its queue.
    ///
    /// A signal handler must have another thread do it (`threading.Thread(target=client.drain).start()`): it interrupts the very
    /// code that is to settle its delivery, which does not go on before the handler returns. `examples/python/service.py` shows
    /// it.
    #[pyo3(signature = (timeout=None))]
    fn drain<'py>(&self, py: Python<'py>, timeout: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let timeout = time::optional_duration("timeout", timeout.as_ref())?;
        let timeout = timeout.unwrap_or(std::time::Duration::from_secs(30));
        let core = self.core()?.clone();
        run(py, self.api, async move {
            core.drain(timeout).await?;
            Ok(Outcome::None)
        })
    }

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

impl BaseClient {
    fn leave<'py>(
        &self,
        py: Python<'py>,
        led_out: Option<&Bound<'py, PyType>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let work = self.core().cloned().map(|core| async move { core.close().await });
        leave(py, self.api, led_out, work)
    }

    fn change_binding<'py>(
        &self,
        py: Python<'py>,
        bind: bool,
        binding: Binding,
        routing_key: Given<'py>,
        arguments: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = self.core()?.clone();
        let binding = topology::binding(binding, &routing_key.text("routing_key", "")?, arguments.as_ref())?;
        run(py, self.api, async move {
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
    /// Has `callback` called with each event from now on, in a thread of its own, until the client is closed. The client
    /// keeps the callback alive, and not the other way round. One that is running when the interpreter ends has 3 s to come
    /// to its end.
    fn on_event<'py>(slf: &Bound<'py, Self>, callback: Bound<'py, PyAny>) -> PyResult<()> {
        let py = slf.py();
        if !callback.is_callable() {
            return Err(errors::wrong_type("callback", "a function that takes an event", &callback));
        }
        let this = slf.as_super().get();
        let events = this.events(py)?;
        let listener = Arc::new(Callback::new(callback.unbind()));
        let heard = Bound::new(py, Heard::new(listener.clone()))?;
        this.listeners().push(listener);
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
