//! Queues, exchanges and bindings.

use murano_messaging::{Binding, QueueInfo};
use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyType},
};

use super::BaseClient;
use crate::{
    arguments::{Given, text},
    outcome::{IntoPython, run},
    topology,
};

impl IntoPython for QueueInfo {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let class = CLASS.import(py, "murano_messaging._types", "QueueInfo")?;
        class.call1((self.name, self.message_count, self.consumer_count))
    }
}

fn queue_binding(queue: &Bound<'_, PyAny>, exchange: &Bound<'_, PyAny>) -> PyResult<Binding> {
    Ok(Binding::queue(text("queue", queue)?, text("exchange", exchange)?))
}

fn exchange_binding(destination: &Bound<'_, PyAny>, source: &Bound<'_, PyAny>) -> PyResult<Binding> {
    Ok(Binding::exchange(text("destination", destination)?, text("source", source)?))
}

impl BaseClient {
    fn change_binding<'py>(
        &self,
        py: Python<'py>,
        bind: bool,
        binding: Binding,
        routing_key: Given<'py>,
        arguments: Option<Bound<'py, PyAny>>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = self.within(timeout.as_ref())?;
        let binding = topology::binding(binding, &routing_key.text("routing_key", "")?, arguments.as_ref())?;
        run(py, self.api, async move {
            if bind { core.bind(&binding).await } else { core.unbind(&binding).await }
        })
    }
}

#[pymethods]
impl BaseClient {
    #[doc = signature!(declare_queue)]
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
    /// * `timeout`: seconds or `timedelta` for the broker's answer; the client's `timeout` by default.
    ///
    /// Raises `PreconditionFailedError` when it exists with other properties, `ResourceLockedError` when it is exclusive to
    /// another connection, `InvalidArgumentError` for what no broker can serve.
    ///
    /// >>> client.declare_queue(queue + "-2", expires=3600, max_length=1000).message_count
    /// 0
    #[pyo3(signature = (name=Given(None), *, timeout=None, **options), text_signature = None)]
    fn declare_queue<'py>(
        &self,
        py: Python<'py>,
        name: Given<'py>,
        timeout: Option<Bound<'py, PyAny>>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = self.within(timeout.as_ref())?;
        let queue = topology::queue(&name.text("name", "")?, options)?;
        run(py, self.api, async move { core.declare_queue(&queue).await })
    }

    /// The `QueueInfo` of a queue that exists (a passive declare). Raises `NotFoundError` when it does not.
    #[pyo3(signature = (name, *, timeout=None))]
    fn queue_info<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (core, name) = (self.within(timeout.as_ref())?, text("name", name)?);
        run(py, self.api, async move { core.queue_info(&name).await })
    }

    /// Deletes a queue and returns how many messages went with it. One that does not exist counts as deleted.
    ///
    /// With `if_unused` only if nobody consumes it, with `if_empty` only if it holds nothing; otherwise
    /// `PreconditionFailedError` is raised.
    #[pyo3(
        signature = (name, *, if_unused=Given(None), if_empty=Given(None), timeout=None),
        text_signature = "($self, name, *, if_unused=False, if_empty=False, timeout=None)"
    )]
    fn delete_queue<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        if_unused: Given<'py>,
        if_empty: Given<'py>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (core, name) = (self.within(timeout.as_ref())?, text("name", name)?);
        let if_unused = if_unused.flag("if_unused", false)?;
        let if_empty = if_empty.flag("if_empty", false)?;
        run(py, self.api, async move { topology::delete_queue(&core, &name, if_unused, if_empty).await })
    }

    /// Drops the messages of a queue that nobody has in work and returns how many. Raises `NotFoundError`.
    #[pyo3(signature = (name, *, timeout=None))]
    fn purge_queue<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (core, name) = (self.within(timeout.as_ref())?, text("name", name)?);
        run(py, self.api, async move { core.purge_queue(&name).await })
    }

    #[doc = signature!(declare_exchange)]
    /// Declares an exchange: `"direct"`, `"topic"`, `"fanout"`, `"headers"`, or a type that a plugin of the broker brings.
    ///
    /// * `durable`: survives a restart of the broker. `auto_delete`: deleted when its last binding goes.
    /// * `internal`: only other exchanges may feed it. `alternate_exchange`: where a message goes that no binding takes.
    /// * `arguments`: raw arguments. `timeout`: seconds or `timedelta` for the broker's answer.
    ///
    /// Raises `PreconditionFailedError` when it exists with other properties.
    #[pyo3(signature = (name, r#type=Given(None), *, timeout=None, **options), text_signature = None)]
    fn declare_exchange<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        r#type: Given<'py>,
        timeout: Option<Bound<'py, PyAny>>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = self.within(timeout.as_ref())?;
        let kind = r#type.text("type", "direct")?;
        let exchange = topology::exchange(&text("name", name)?, &kind, options)?;
        run(py, self.api, async move { core.declare_exchange(&exchange).await })
    }

    /// Checks that an exchange exists (a passive declare). Raises `NotFoundError` when it does not.
    ///
    /// >>> client.check_exchange("amq.topic")
    #[pyo3(signature = (name, *, timeout=None))]
    fn check_exchange<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (core, name) = (self.within(timeout.as_ref())?, text("name", name)?);
        run(py, self.api, async move { core.check_exchange(&name).await })
    }

    /// Deletes an exchange, with `if_unused` only if nothing is bound to it. One that does not exist counts as deleted.
    #[pyo3(
        signature = (name, *, if_unused=Given(None), timeout=None),
        text_signature = "($self, name, *, if_unused=False, timeout=None)"
    )]
    fn delete_exchange<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        if_unused: Given<'py>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (core, name) = (self.within(timeout.as_ref())?, text("name", name)?);
        let if_unused = if_unused.flag("if_unused", false)?;
        run(py, self.api, async move { topology::delete_exchange(&core, &name, if_unused).await })
    }

    /// Binds a queue to an exchange: messages whose routing key matches go there. `arguments` are what a headers exchange
    /// matches. Raises `NotFoundError`.
    ///
    /// >>> client.bind(queue, "amq.topic", "plans.#")
    #[pyo3(
        signature = (queue, exchange, routing_key=Given(None), *, arguments=None, timeout=None),
        text_signature = "($self, queue, exchange, routing_key='', *, arguments=None, timeout=None)"
    )]
    fn bind<'py>(
        &self,
        py: Python<'py>,
        queue: &Bound<'py, PyAny>,
        exchange: &Bound<'py, PyAny>,
        routing_key: Given<'py>,
        arguments: Option<Bound<'py, PyAny>>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.change_binding(py, true, queue_binding(queue, exchange)?, routing_key, arguments, timeout)
    }

    /// Removes a binding of a queue to an exchange.
    #[pyo3(
        signature = (queue, exchange, routing_key=Given(None), *, arguments=None, timeout=None),
        text_signature = "($self, queue, exchange, routing_key='', *, arguments=None, timeout=None)"
    )]
    fn unbind<'py>(
        &self,
        py: Python<'py>,
        queue: &Bound<'py, PyAny>,
        exchange: &Bound<'py, PyAny>,
        routing_key: Given<'py>,
        arguments: Option<Bound<'py, PyAny>>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.change_binding(py, false, queue_binding(queue, exchange)?, routing_key, arguments, timeout)
    }

    /// Binds the exchange `destination` to the exchange `source`, a RabbitMQ extension.
    #[pyo3(
        signature = (destination, source, routing_key=Given(None), *, arguments=None, timeout=None),
        text_signature = "($self, destination, source, routing_key='', *, arguments=None, timeout=None)"
    )]
    fn bind_exchange<'py>(
        &self,
        py: Python<'py>,
        destination: &Bound<'py, PyAny>,
        source: &Bound<'py, PyAny>,
        routing_key: Given<'py>,
        arguments: Option<Bound<'py, PyAny>>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.change_binding(py, true, exchange_binding(destination, source)?, routing_key, arguments, timeout)
    }

    /// Removes a binding between exchanges.
    #[pyo3(
        signature = (destination, source, routing_key=Given(None), *, arguments=None, timeout=None),
        text_signature = "($self, destination, source, routing_key='', *, arguments=None, timeout=None)"
    )]
    fn unbind_exchange<'py>(
        &self,
        py: Python<'py>,
        destination: &Bound<'py, PyAny>,
        source: &Bound<'py, PyAny>,
        routing_key: Given<'py>,
        arguments: Option<Bound<'py, PyAny>>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.change_binding(
            py,
            false,
            exchange_binding(destination, source)?,
            routing_key,
            arguments,
            timeout,
        )
    }

    /// Drops the queue or exchange of this name from the record, with its bindings: it stays at the broker and is not declared
    /// again after a reconnect. Never waits.
    fn forget(&self, name: &Bound<'_, PyAny>) -> PyResult<()> {
        self.core()?.forget(&text("name", name)?);
        Ok(())
    }
}
