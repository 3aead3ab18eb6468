//! The connections: what they are, what happens to them, how they end.

use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyTuple, PyType},
};

use super::BaseClient;
use crate::{
    arguments::{Given, text},
    events,
    outcome::run,
    time, value,
};

#[pymethods]
impl BaseClient {
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
        fields.set_item("main_connected", stats.main_connected)?;
        fields.set_item("publish_connected", stats.publish_connected)?;
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

    /// Whether there is a connection at this moment. An outage ends it; a recovery brings it back. A peer that is silent counts
    /// as connected until its heartbeats are missed: a round trip such as `check_exchange("amq.direct", timeout=2)` says more.
    ///
    /// >>> client.connected
    /// True
    #[getter]
    fn connected(&self) -> PyResult<bool> {
        Ok(self.core()?.is_connected())
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
    #[pyo3(
        signature = (secret, reason=Given(None), *, timeout=None),
        text_signature = "($self, secret, reason='', *, timeout=None)"
    )]
    fn update_secret<'py>(
        &self,
        py: Python<'py>,
        secret: &Bound<'py, PyAny>,
        reason: Given<'py>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = self.within(timeout.as_ref())?;
        let (secret, reason) = (text("secret", secret)?, reason.text("reason", "")?);
        run(py, self.api, async move { core.update_secret(&secret, &reason).await })
    }

    /// Closes the client in order: publishes are confirmed, consumers cancelled, acks sent, the connections closed. What takes
    /// longer than `timeout` (seconds or `timedelta`; the client's by default) is dropped, and raises `OperationTimeoutError`.
    /// Closing again is harmless.
    ///
    /// A publish that failed, and whose confirmation was dropped without a look at it, is logged as a warning. With
    /// `raise_failed=True` the first such failure is raised, when everything is closed; those in confirmations that you hold are
    /// yours.
    ///
    /// The end of a `with` block closes it too. What led out of the block, if anything did, is not replaced by an error of that.
    #[pyo3(
        signature = (timeout=None, *, raise_failed=Given(None)),
        text_signature = "($self, timeout=None, *, raise_failed=False)"
    )]
    fn close<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<Bound<'py, PyAny>>,
        raise_failed: Given<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = self.within(timeout.as_ref())?;
        let unheard =
            raise_failed.flag("raise_failed", false)?.then(|| self.unheard.get().cloned()).transpose()?;
        let transports = self.transports.get()?.clone();
        run(py, self.api, async move {
            transports.close().await;
            core.close().await?;
            match unheard {
                Some(unheard) => unheard.failure().await,
                None => Ok(()),
            }
        })
    }

    /// As `close`, and waits up to `timeout` (30 seconds by default) until the deliveries that were handed out are settled: what
    /// a handler of SIGTERM wants. Consumers end at once; what they had not handed out goes back to its queue.
    ///
    /// A signal handler must have another thread do it (`threading.Thread(target=client.drain).start()`): it interrupts the very
    /// code that is to settle its delivery, which does not go on before the handler returns. `examples/python/service.py` shows
    /// it.
    #[pyo3(
        signature = (timeout=None, *, raise_failed=Given(None)),
        text_signature = "($self, timeout=None, *, raise_failed=False)"
    )]
    fn drain<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<Bound<'py, PyAny>>,
        raise_failed: Given<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let unheard =
            raise_failed.flag("raise_failed", false)?.then(|| self.unheard.get().cloned()).transpose()?;
        let timeout = time::optional_duration("timeout", timeout.as_ref())?;
        let timeout = timeout.unwrap_or(std::time::Duration::from_secs(30));
        let core = self.core()?.clone();
        let transports = self.transports.get()?.clone();
        run(py, self.api, async move {
            transports.close().await;
            core.drain(timeout).await?;
            match unheard {
                Some(unheard) => unheard.failure().await,
                None => Ok(()),
            }
        })
    }
}
