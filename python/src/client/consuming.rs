//! Consuming and getting.

use pyo3::{prelude::*, types::PyDict};

use super::BaseClient;
use crate::{
    arguments::{Given, text},
    consumer,
    outcome::run,
    topology,
};

#[pymethods]
impl BaseClient {
    #[doc = signature!(consume)]
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
    /// * `on_drop`: what becomes of a delivery that is dropped unsettled: `"keep"` (it keeps its place in the prefetch until the
    ///   consumer ends, and a warning in the log names it) or `"requeue"` (it goes back to its queue).
    /// * `arguments`: raw arguments of `basic.consume`.
    /// * `timeout`: seconds or `timedelta` for the broker's answer, also to a later `cancel`; the client's `timeout` by default.
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
    #[pyo3(signature = (queue, **options), text_signature = None)]
    fn consume<'py>(
        &self,
        py: Python<'py>,
        queue: &Bound<'py, PyAny>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let queue = text("queue", queue)?;
        let builder = topology::consume(self.core()?, &queue, options)?;
        consumer::start(py, self.api, &queue, builder)
    }

    /// Takes one message off a queue (`basic.get`); `None` when it is empty. Consuming is far cheaper for more than one.
    ///
    /// `timeout`: seconds or `timedelta` for the broker's answer. A delivery that is dropped unsettled goes back to its queue.
    /// Raises `NotFoundError`.
    ///
    /// >>> client.get(queue) is None
    /// True
    #[pyo3(
        signature = (queue, *, no_ack=Given(None), timeout=None),
        text_signature = "($self, queue, *, no_ack=False, timeout=None)"
    )]
    fn get<'py>(
        &self,
        py: Python<'py>,
        queue: &Bound<'py, PyAny>,
        no_ack: Given<'py>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (queue, no_ack) = (text("queue", queue)?, no_ack.flag("no_ack", false)?);
        let (core, api) = (self.within(timeout.as_ref())?, self.api);
        run(py, api, async move {
            let delivery = crate::topology::get(&core, &queue, no_ack).await?;
            Ok(delivery.map(|delivery| (api, delivery)))
        })
    }
}
