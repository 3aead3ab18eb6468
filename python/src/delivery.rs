//! Delivered messages.

mod retry;

use murano_messaging::Delivery as Core;
use pyo3::{
    exceptions::PyStopIteration,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyDict, PyList, PyString},
};

use crate::{
    arguments::{self, Given},
    errors::OrPyErr,
    message,
    outcome::IntoPython,
    process::Owned,
    runtime, time,
    wait::{Api, operation},
};

/// A message from the broker. It is yours until it is acked, nacked, rejected or requeued.
#[pyclass(frozen, subclass, module = "murano_messaging")]
pub struct Delivery {
    core: Owned<Core>,
    body: PyOnceLock<Py<PyBytes>>,
}

/// A message from the broker. It is yours until it is acked, nacked, rejected or requeued. Its methods may be awaited, which
/// does nothing more.
#[pyclass(frozen, extends = Delivery, name = "Delivery", module = "murano_messaging.aio")]
pub struct AioDelivery;

pub fn to_python(py: Python<'_>, api: Api, core: Core) -> PyResult<Bound<'_, PyAny>> {
    let delivery = Delivery { core: Owned::new(core), body: PyOnceLock::new() };
    Ok(match api {
        Api::Blocking => Bound::new(py, delivery)?.into_any(),
        Api::Asyncio => {
            Bound::new(py, PyClassInitializer::from(delivery).add_subclass(AioDelivery))?.into_any()
        }
    })
}

impl IntoPython for (Api, Core) {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        to_python(py, self.0, self.1)
    }
}

impl IntoPython for (Api, Vec<Core>) {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let list = PyList::empty(py);
        for delivery in self.1 {
            list.append(to_python(py, self.0, delivery)?)?;
        }
        Ok(list.into_any())
    }
}

impl Delivery {
    fn core(&self) -> PyResult<&Core> {
        self.core.get()
    }
}

#[pymethods]
impl Delivery {
    /// The message body.
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let core = self.core()?;
        let body = self.body.get_or_init(py, || PyBytes::new(py, core.body()).unbind());
        Ok(body.bind(py).clone())
    }

    /// The body as text in UTF-8. Raises `UnicodeDecodeError` when it is not.
    fn text<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(self.body(py)?.call_method0(pyo3::intern!(py, "decode"))?.cast_into::<PyString>()?)
    }

    /// The body read as JSON. Raises `JsonError` when it is not.
    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        message::from_json(&self.body(py)?)
    }

    /// The properties that are there, under the names that `publish` takes them by.
    #[getter]
    fn properties<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        message::properties(py, self.core()?.properties())
    }

    /// The header table; empty if there is none.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        message::headers(py, self.core()?.properties())
    }

    /// Why the properties could not be read as they are: a publisher's fault. `None` when they could.
    #[getter]
    fn headers_error(&self) -> PyResult<Option<String>> {
        Ok(self.core()?.headers_error().map(|defect| defect.reason.clone()))
    }

    /// The properties as they came, where they could not be read.
    #[getter]
    fn raw_headers<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        Ok(self.core()?.headers_error().map(|defect| PyBytes::new(py, &defect.raw)))
    }

    /// MIME type of the body.
    #[getter]
    fn content_type<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyString>>> {
        Ok(message::short(py, self.core()?.properties().content_type()))
    }

    /// Encoding of the body, e.g. `gzip`.
    #[getter]
    fn content_encoding<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyString>>> {
        Ok(message::short(py, self.core()?.properties().content_encoding()))
    }

    /// What an answer is told apart by.
    #[getter]
    fn correlation_id<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyString>>> {
        Ok(message::short(py, self.core()?.properties().correlation_id()))
    }

    /// The queue to answer to.
    #[getter]
    fn reply_to<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyString>>> {
        Ok(message::short(py, self.core()?.properties().reply_to()))
    }

    /// The message's own id.
    #[getter]
    fn message_id<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyString>>> {
        Ok(message::short(py, self.core()?.properties().message_id()))
    }

    /// What type of message this is, as its publisher says.
    #[getter]
    fn r#type<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyString>>> {
        Ok(message::short(py, self.core()?.properties().kind()))
    }

    /// Deprecated: `type`.
    #[getter]
    fn kind<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyString>>> {
        arguments::deprecated(py, c"Delivery.kind is called type now")?;
        self.r#type(py)
    }

    /// Who sent it: the name that its connection logged in with, where the sender says so.
    #[getter]
    fn user_id<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyString>>> {
        Ok(message::short(py, self.core()?.properties().user_id()))
    }

    /// Which application sent it.
    #[getter]
    fn app_id<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyString>>> {
        Ok(message::short(py, self.core()?.properties().app_id()))
    }

    /// Deprecated in AMQP 0-9-1, and passed through.
    #[getter]
    fn cluster_id<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyString>>> {
        Ok(message::short(py, self.core()?.properties().cluster_id()))
    }

    /// Whether the broker keeps the message on disk (in durable queues).
    #[getter]
    fn persistent(&self) -> PyResult<bool> {
        Ok(*self.core()?.properties().delivery_mode() == Some(2))
    }

    /// Its priority, 0 to 255.
    #[getter]
    fn priority(&self) -> PyResult<Option<u8>> {
        Ok(*self.core()?.properties().priority())
    }

    /// The per-message TTL in seconds.
    #[getter]
    fn expiration(&self) -> PyResult<Option<f64>> {
        Ok(message::expiration(self.core()?.properties()))
    }

    /// When the message was made: a `datetime` in UTC.
    #[getter]
    fn timestamp<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.core()?.properties().timestamp().map(|seconds| time::from_unix_seconds(py, seconds)).transpose()
    }

    /// The exchange it was published to; empty for the default exchange.
    #[getter]
    fn exchange(&self) -> PyResult<&str> {
        Ok(self.core()?.exchange())
    }

    /// The routing key it was published with.
    #[getter]
    fn routing_key(&self) -> PyResult<&str> {
        Ok(self.core()?.routing_key())
    }

    /// The tag of its consumer; empty for one that was fetched with `client.get`.
    #[getter]
    fn consumer_tag(&self) -> PyResult<&str> {
        Ok(self.core()?.consumer_tag())
    }

    /// Counts up from 1 on the consumer's channel.
    #[getter]
    fn delivery_tag(&self) -> PyResult<u64> {
        Ok(self.core()?.delivery_tag())
    }

    /// Whether the broker may have delivered it before.
    #[getter]
    fn redelivered(&self) -> PyResult<bool> {
        Ok(self.core()?.redelivered())
    }

    /// How many messages were left in the queue, for one that was fetched with `client.get`.
    #[getter]
    fn message_count(&self) -> PyResult<Option<u32>> {
        Ok(self.core()?.message_count())
    }

    /// Whether the channel that brought it is gone, with a connection that was lost, with its client, or because an ack came later
    /// than the broker allows: settling it does nothing (a warning is logged, once per channel), and the broker delivers the message
    /// again.
    #[getter]
    fn stale(&self) -> PyResult<bool> {
        Ok(self.core()?.is_stale())
    }

    /// Tells the broker that the message is done (`basic.ack`). Never waits: acks leave together, within one turn of the engine.
    ///
    /// Raises `AlreadySettledError` the second time. On a `stale` delivery it does nothing: the broker delivers it again.
    fn ack(&self, py: Python<'_>) -> PyResult<()> {
        self.core()?.ack().or_py(py)?;
        runtime::call_back(py);
        Ok(())
    }

    /// Refuses the message: back to its queue, or dropped (dead-lettered if its queue says so).
    #[pyo3(signature = (requeue=Given(None)), text_signature = "($self, requeue=True)")]
    fn nack(&self, py: Python<'_>, requeue: Given<'_>) -> PyResult<()> {
        let requeue = requeue.flag("requeue", true)?;
        self.core()?.nack(requeue).or_py(py)?;
        runtime::call_back(py);
        Ok(())
    }

    /// Drops the message, or dead-letters it if its queue says so.
    fn reject(&self, py: Python<'_>) -> PyResult<()> {
        self.core()?.reject().or_py(py)?;
        runtime::call_back(py);
        Ok(())
    }

    /// Puts the message back into its queue.
    fn requeue(&self, py: Python<'_>) -> PyResult<()> {
        self.core()?.requeue().or_py(py)?;
        runtime::call_back(py);
        Ok(())
    }

    fn __repr__(&self) -> PyResult<String> {
        let core = self.core()?;
        Ok(format!(
            "<Delivery {} from exchange {:?} with routing key {:?}, {} bytes>",
            core.delivery_tag(),
            core.exchange(),
            core.routing_key(),
            core.body().len()
        ))
    }
}

/// What is done already, and may be awaited.
#[pyclass(frozen, module = "murano_messaging.aio")]
pub struct Done;

impl Done {
    fn get(py: Python<'_>) -> PyResult<Bound<'_, Self>> {
        static DONE: PyOnceLock<Py<Done>> = PyOnceLock::new();
        Ok(DONE.get_or_try_init(py, || Py::new(py, Done))?.bind(py).clone())
    }
}

#[pymethods]
impl Done {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[allow(clippy::unused_self, reason = "the method of an iterator")]
    fn __next__(&self) -> Option<()> {
        None
    }

    /// Is done; a coroutine's method.
    #[allow(clippy::unused_self, reason = "the method of a coroutine")]
    fn send(&self, value: Bound<'_, PyAny>) -> PyResult<()> {
        operation::nothing_but_none(&value)?;
        Err(PyStopIteration::new_err(()))
    }

    /// Raises; a coroutine's method.
    #[allow(clippy::unused_self, reason = "the method of a coroutine")]
    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        &self,
        py: Python<'_>,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        Err(operation::thrown(py, kind, value, traceback)?)
    }

    /// There is nothing to give up; a coroutine's method.
    #[allow(clippy::unused_self, reason = "the method of a coroutine")]
    fn close(&self) {}
}

#[pymethods]
impl AioDelivery {
    /// Tells the broker that the message is done (`basic.ack`). Never waits: acks leave together, within one turn of the engine.
    ///
    /// Raises `AlreadySettledError` the second time. On a `stale` delivery it does nothing: the broker delivers it again.
    fn ack<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Done>> {
        slf.as_super().get().ack(slf.py())?;
        Done::get(slf.py())
    }

    /// Refuses the message: back to its queue, or dropped (dead-lettered if its queue says so).
    #[pyo3(signature = (requeue=Given(None)), text_signature = "($self, requeue=True)")]
    fn nack<'py>(slf: &Bound<'py, Self>, requeue: Given<'py>) -> PyResult<Bound<'py, Done>> {
        slf.as_super().get().nack(slf.py(), requeue)?;
        Done::get(slf.py())
    }

    /// Drops the message, or dead-letters it if its queue says so.
    fn reject<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Done>> {
        slf.as_super().get().reject(slf.py())?;
        Done::get(slf.py())
    }

    /// Puts the message back into its queue.
    fn requeue<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Done>> {
        slf.as_super().get().requeue(slf.py())?;
        Done::get(slf.py())
    }
}
