//! Publishing, and the route that was used last.

use murano_messaging::{Message, Publisher};
use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    types::{PyDict, PyString, PyTuple},
};

use super::BaseClient;
use crate::{
    arguments::{flag, utf8},
    confirmation::{self, Pending},
    errors::{self, OrPyErr},
    message,
    outcome::run,
    runtime, time,
    wait::{self, Api, operation::Ready},
};

/// The publisher that was used last: a program that publishes a lot often does so along one route.
pub struct LastRoute {
    exchange: Py<PyString>,
    routing_key: Py<PyString>,
    publisher: Publisher,
}

pub fn with_mandatory(message: Message, mandatory: Option<&Bound<'_, PyAny>>) -> PyResult<Message> {
    Ok(match mandatory {
        Some(mandatory) => message.mandatory(flag("mandatory", mandatory)?),
        None => message,
    })
}

/// The order of the arguments elsewhere is another one, so that only the body may go without its name.
pub fn body_alone(more: &Bound<'_, PyTuple>) -> PyResult<()> {
    if more.is_empty() {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!(
        "only the body is given by its position, and {} more are: name the others, as in \
         publish(body, exchange=\"logs\", routing_key=\"info\"). Nothing was sent",
        more.len()
    )))
}

/// An argument that is a str, the empty one if it was left out.
pub fn route<'a, 'py>(
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

impl BaseClient {
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

#[pymethods]
impl BaseClient {
    #[doc = signature!(publish)]
    /// Publishes a message; done when the broker has taken responsibility for it (publisher confirms).
    ///
    /// With the defaults (persistent, mandatory) and a durable queue, a message is not lost after this. Publishing does not
    /// renew a queue's `expires`; consuming does.
    ///
    /// * `body`: bytes-like; a `str`, sent as UTF-8 with content type `text/plain`; a dict or list, sent as JSON with content
    ///   type `application/json`.
    /// * `exchange`, `routing_key`: at most 255 bytes; the default exchange `""` routes to the queue that is called like the key.
    /// * `mandatory`: whether a message that no queue takes fails; by default it does, unless it has an `x-delay` header above 0.
    /// * `timeout`: seconds or `timedelta` until the confirm; the client's `timeout` by default.
    /// * `persistent`: whether the broker keeps the message on disk, in durable queues.
    /// * `headers`: a dict of None, bool, int, float, Decimal, str, bytes, datetime, list, dict.
    /// * `priority`: 0 to 255. `expiration`: seconds or `timedelta` that it may wait in a queue. `timestamp`: a `datetime`
    ///   (naive: UTC) or seconds since 1970. `type`: what kind of message it is. `message_id`: made up if there is none.
    ///   `content_type`, `content_encoding`, `correlation_id`, `reply_to`, `user_id`, `app_id`, `cluster_id`: at most 255 bytes.
    ///
    /// Raises `UnroutableError` (with the message), `NackedError`, `NotFoundError` (no such exchange),
    /// `OperationTimeoutError` (outcome unknown), `BlockedError`, `InvalidArgumentError` and `TypeError` (nothing was sent).
    ///
    /// >>> client.publish({"n": 1}, routing_key=queue, headers={"attempt": 1}, expiration=60)
    #[pyo3(signature = (body, *more, exchange=None, routing_key=None, mandatory=None, timeout=None, **properties), text_signature = None)]
    fn publish<'py>(
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
        self.core()?;
        body_alone(more)?;
        let message = with_mandatory(message::build(body, properties)?, mandatory)?;
        let publisher = self.publisher(py, exchange, routing_key, timeout)?;
        run(py, self.api, async move { publisher.publish(message).await })
    }

    #[doc = signature!(publish_nowait)]
    /// Puts a message on its way and returns a `Confirmation` to wait for. Waits only while the window is full.
    ///
    /// The window is 1,000 messages and 64 MiB, unless `connect` was told otherwise. Arguments and errors as for `publish`; what
    /// the broker answers is raised by the confirmation.
    ///
    /// >>> pending = [client.publish_nowait(b"x", routing_key=queue) for _ in range(1000)]
    /// >>> mm.wait_all(pending, timeout=10)
    /// >>> pending[0].done()
    /// True
    #[pyo3(signature = (body, *more, exchange=None, routing_key=None, mandatory=None, timeout=None, **properties), text_signature = None)]
    fn publish_nowait<'py>(
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
        self.core()?;
        body_alone(more)?;
        let message = with_mandatory(message::build(body, properties)?, mandatory)?;
        let publisher = self.publisher(py, exchange, routing_key, timeout)?;
        let (api, unheard) = (self.api, self.unheard.get()?.clone());
        let mut work = Box::pin(async move { publisher.publish_deferred(message).await });
        if api == Api::Blocking {
            let core = wait::block(py, work.as_mut())?.or_py(py)?;
            runtime::call_back(py);
            return confirmation::to_python(py, api, core, unheard);
        }
        // While there is room in the window, there is nothing to wait for.
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match work.as_mut().poll(&mut context) {
            std::task::Poll::Ready(core) => {
                runtime::call_back(py);
                let value = confirmation::to_python(py, api, core.or_py(py)?, unheard)?;
                Ok(Bound::new(py, Ready::fair(value.unbind()))?.into_any())
            }
            std::task::Poll::Pending => {
                run(py, api, async move { Ok(Pending { api, core: work.await?, unheard }) })
            }
        }
    }
}
