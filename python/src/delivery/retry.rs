//! Delayed redelivery.

use murano_messaging::{Error, ErrorKind, Retry};
use pyo3::prelude::*;

use super::{AioDelivery, Delivery};
use crate::{
    arguments::{number, text},
    errors, exit,
    outcome::{IntoPython, run},
    time,
    wait::Api,
};

/// Whether the message comes again.
struct Again(bool);

impl IntoPython for Again {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(self.0.into_pyobject(py)?.to_owned().into_any())
    }
}

impl Delivery {
    fn retry_as<'py>(
        &self,
        py: Python<'py>,
        api: Api,
        delay: &Bound<'py, PyAny>,
        limit: Option<&Bound<'py, PyAny>>,
        queue: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = self.core()?;
        let mut retry = Retry::after(time::duration("delay", delay)?);
        if let Some(limit) = limit {
            retry = retry.limit(number("limit", limit)?);
        }
        if let Some(queue) = queue {
            retry = retry.queue(text("queue", queue)?);
        }
        let Some(client) = exit::client_of(py, core) else {
            let error = Error::new(ErrorKind::Closed, "the client that the delivery came through is gone");
            return Err(errors::to_py(py, &error));
        };
        let again = client.retry(core, &retry);
        run(py, api, async move { Ok(Again(again.await?)) })
    }
}

#[pymethods]
impl Delivery {
    /// Has the message delivered again after `delay` (seconds or `timedelta`), and settles the delivery. True, or False when it was
    /// retried `limit` times: then it is rejected, which drops it, or dead-letters it if its queue says so.
    ///
    /// A copy waits in a durable queue `QUEUE.retry.MILLISECONDS`, which is declared for it and goes away when it is not used; after
    /// that time the broker dead-letters it back to the queue. The delivery is acked when the broker has confirmed the copy, so
    /// nothing is lost; a connection that is lost between the two leaves the message twice. The header `x-retries` counts. The
    /// copy has no `expiration`, no `user_id` and none of the headers `CC`, `BCC`, `x-death`; it comes with the queue's name as
    /// its routing key, and with the first exchange and routing key in `x-retried-exchange` and `x-retried-routing-key`. A copy
    /// whose queue is gone when it is due is dropped.
    ///
    /// * `queue`: the queue to come back to; by default that of the consumer. A delivery of `client.get` must name it.
    ///
    /// Raises what `publish` and `declare_queue` raise, upon which the delivery is not settled; `InvalidArgumentError` for one
    /// that was consumed without acks. A stale delivery is left to the broker, which delivers it again.
    ///
    /// >>> client.publish(b"x", routing_key=queue)
    /// >>> with client.consume(queue) as deliveries:
    /// ...     first = deliveries.get(timeout=10)
    /// ...     again = first.retry(delay=0.1, limit=5)
    /// ...     second = deliveries.get(timeout=10)
    /// ...     second.ack()
    /// >>> again, second.headers["x-retries"]
    /// (True, 1)
    #[pyo3(signature = (delay, limit=None, queue=None), text_signature = "($self, delay, limit=10, queue=None)")]
    fn retry<'py>(
        &self,
        py: Python<'py>,
        delay: &Bound<'py, PyAny>,
        limit: Option<&Bound<'py, PyAny>>,
        queue: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.retry_as(py, Api::Blocking, delay, limit, queue)
    }
}

#[pymethods]
impl AioDelivery {
    /// As `murano_messaging.Delivery.retry`, to be awaited.
    #[pyo3(signature = (delay, limit=None, queue=None), text_signature = "($self, delay, limit=10, queue=None)")]
    fn retry<'py>(
        slf: &Bound<'py, Self>,
        delay: &Bound<'py, PyAny>,
        limit: Option<&Bound<'py, PyAny>>,
        queue: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.as_super().get().retry_as(slf.py(), Api::Asyncio, delay, limit, queue)
    }
}
