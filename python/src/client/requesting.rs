//! Requests and their replies.

use pyo3::{
    prelude::*,
    types::{PyDict, PyTuple},
};

use super::{
    BaseClient,
    publishing::{body_alone, route, with_mandatory},
};
use crate::{arguments::utf8, message, outcome::run};

#[pymethods]
impl BaseClient {
    #[doc = signature!(request)]
    /// Publishes a request and returns the reply to it, a delivery that is not settled (RabbitMQ, direct reply-to): the first message
    /// that comes back with its `correlation_id`, which is made up if none is given. Many requests may wait at a time.
    ///
    /// Arguments are those of `publish`; `timeout` is the time until the reply, the client's `timeout` by default. The replying side
    /// publishes to the default exchange, with the request's `reply_to` as routing key and its `correlation_id`.
    ///
    /// Raises what `publish` raises, `UnroutableError` at once when no queue takes the request; `OperationTimeoutError` without a
    /// reply; `ConnectionLostError` when the connection was lost after the broker had confirmed the request: the reply cannot
    /// arrive, and the request may have been carried out. A request that was not confirmed by then is sent again.
    ///
    /// >>> def double(request):
    /// ...     client.publish(2 * request.json(), routing_key=request.reply_to, correlation_id=request.correlation_id)
    /// >>> import threading
    /// >>> done = threading.Event()
    /// >>> threading.Thread(target=client.run, args=(queue, double), kwargs={"stop": done}).start()
    /// >>> client.request([21], routing_key=queue, timeout=10).json()
    /// [21, 21]
    /// >>> done.set()
    #[pyo3(signature = (body, *more, exchange=None, routing_key=None, mandatory=None, timeout=None, **properties), text_signature = None)]
    fn request<'py>(
        &self,
        py: Python<'py>,
        body: &Bound<'py, PyAny>,
        more: &Bound<'py, PyTuple>,
        exchange: Option<&Bound<'py, PyAny>>,
        routing_key: Option<&Bound<'py, PyAny>>,
        mandatory: Option<&Bound<'py, PyAny>>,
        timeout: Option<&Bound<'py, PyAny>>,
        properties: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        body_alone(more)?;
        let core = self.within(timeout)?;
        let message = with_mandatory(message::build(body, properties)?, mandatory)?;
        let exchange = utf8("exchange", route(py, "exchange", exchange)?)?;
        let routing_key = utf8("routing_key", route(py, "routing_key", routing_key)?)?;
        let api = self.api;
        run(py, api, async move { Ok((api, core.request(&exchange, &routing_key, message).await?)) })
    }
}
