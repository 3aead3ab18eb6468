//! Consumers: iterators over deliveries.

mod start;

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
};

use murano_messaging::{ConsumeBuilder, Consumer as Core, Delivery, Error, ErrorKind};
use pyo3::{prelude::*, types::PyType};

use self::start::Start;
use crate::{
    arguments, delivery,
    errors::{self, OrPyErr},
    outcome::{Iterated, leave, run, run_fair},
    process::Owned,
    runtime, time,
    wait::{
        self, Api,
        operation::{Operation, Ready},
        timeout::Timeout,
        turns,
    },
};

/// A consumer that starts when it is first needed.
struct Shared {
    start: Start,
    /// Its end, found behind deliveries that were handed out together.
    found: Mutex<VecDeque<Error>>,
}

type Next = Option<Result<Delivery, Error>>;

impl Shared {
    fn found(&self) -> Option<Error> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn try_next(&self) -> Poll<Next> {
        if let Some(error) = self.found() {
            return Poll::Ready(Some(Err(error)));
        }
        self.start.get().map_or(Poll::Pending, Core::try_recv)
    }

    /// For iterations: what ended it is an error once, and then the end.
    async fn next(&self) -> Next {
        let core = match self.start.core().await {
            Ok(core) => core,
            Err(_) if self.start.is_over() => return None,
            Err(error) => return Some(Err(error)),
        };
        if let Some(error) = self.found() {
            return Some(Err(error));
        }
        core.next().await
    }

    /// The error of a call that asks for more than will ever come.
    fn end(&self) -> Error {
        if let Some(error) = self.start.get().and_then(Core::failure) {
            return error;
        }
        if self.start.is_stopped() {
            return start::cancelled();
        }
        Error::new(ErrorKind::Closed, "the client is closed or is draining: it consumes nothing any more")
    }

    /// The next delivery; after the end an error, each time.
    async fn one(&self) -> Result<Delivery, Error> {
        self.next().await.unwrap_or_else(|| Err(self.end()))
    }

    /// At least one delivery, and as many more as are there already; after the end an error, each time.
    async fn many(&self, most: usize) -> Result<Vec<Delivery>, Error> {
        let mut batch = vec![self.one().await?];
        while batch.len() < most {
            match self.try_next() {
                Poll::Ready(Some(Ok(delivery))) => batch.push(delivery),
                Poll::Ready(Some(Err(error))) => {
                    self.found.lock().unwrap_or_else(PoisonError::into_inner).push_back(error);
                    break;
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Ok(batch)
    }
}

/// Consumes one queue.
#[pyclass(frozen, subclass, name = "Consumer", module = "murano_messaging._native")]
pub struct BaseConsumer {
    shared: Owned<Arc<Shared>>,
    queue: String,
    api: Api,
}

/// An iterator over the deliveries of a queue. As a context manager it is cancelled at the end.
#[pyclass(frozen, extends = BaseConsumer, name = "Consumer", module = "murano_messaging")]
pub struct Consumer;

/// An asynchronous iterator over the deliveries of a queue. As an asynchronous context manager it is cancelled at the
/// end; awaiting it starts it.
#[pyclass(frozen, extends = BaseConsumer, name = "Consumer", module = "murano_messaging.aio")]
pub struct AioConsumer;

/// A consumer: one that runs, or for asyncio one that will when it is used.
pub fn start<'py>(
    py: Python<'py>,
    api: Api,
    queue: &str,
    builder: ConsumeBuilder,
) -> PyResult<Bound<'py, PyAny>> {
    let shared = Arc::new(Shared { start: Start::new(builder), found: Mutex::default() });
    if api == Api::Blocking {
        wait::block(py, pin!(shared.start.core()))?.or_py(py)?;
    }
    let base = BaseConsumer { shared: Owned::new(shared), queue: queue.to_owned(), api };
    Ok(match api {
        Api::Blocking => Bound::new(py, PyClassInitializer::from(base).add_subclass(Consumer))?.into_any(),
        Api::Asyncio => Bound::new(py, PyClassInitializer::from(base).add_subclass(AioConsumer))?.into_any(),
    })
}

impl BaseConsumer {
    fn shared(&self) -> PyResult<&Arc<Shared>> {
        self.shared.get()
    }

    /// Cancels it; that its client is gone is as good.
    fn leave<'py>(
        &self,
        py: Python<'py>,
        led_out: Option<&Bound<'py, PyType>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let work = self.shared().cloned().map(|shared| async move {
            match shared.start.stop() {
                None => Ok(()),
                Some(core) => core.cancel().await.or_else(|error| match error.kind() {
                    ErrorKind::Closed | ErrorKind::ConnectionLost | ErrorKind::ConnectionForced => Ok(()),
                    _ => Err(error),
                }),
            }
        });
        leave(py, self.api, led_out, work)
    }
}

#[pymethods]
impl BaseConsumer {
    /// The next delivery; `None` when none came within `timeout` (seconds or `timedelta`; for ever by default).
    ///
    /// After the end it raises, each time: `ConsumerCancelledError` (it was cancelled, or its queue was deleted), `ClosedError`
    /// (its client was closed, or drains), `PreconditionFailedError` (an ack took longer than the broker allows),
    /// `ConnectionLostError` (without recovery). What was delivered before is handed out first.
    #[pyo3(signature = (timeout=None))]
    fn get<'py>(&self, py: Python<'py>, timeout: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let timeout = time::optional_duration("timeout", timeout.as_ref())?;
        let (shared, api) = (self.shared()?.clone(), self.api);
        let runtime = runtime::handle(py)?;
        run_fair(py, api, async move {
            let one = pin!(shared.one());
            let delivery = Timeout::new(runtime, timeout, one).await.transpose()?;
            Ok(delivery.map(|delivery| (api, delivery)))
        })
    }

    /// At least one delivery and at most `n`, as a list: waits for the first and takes what is there with it. Empty where
    /// `get` returns `None`; raises what `get` raises.
    #[pyo3(signature = (n, timeout=None))]
    fn get_many<'py>(
        &self,
        py: Python<'py>,
        n: &Bound<'py, PyAny>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let n: usize = arguments::number("n", n)?;
        if n == 0 {
            return Err(errors::invalid("n is 0: ask for one delivery or more"));
        }
        let timeout = time::optional_duration("timeout", timeout.as_ref())?;
        let (shared, api) = (self.shared()?.clone(), self.api);
        let runtime = runtime::handle(py)?;
        run_fair(py, api, async move {
            let many = pin!(shared.many(n));
            let batch = Timeout::new(runtime, timeout, many).await.unwrap_or(Ok(Vec::new()))?;
            Ok((api, batch))
        })
    }

    /// Stops consuming. What was not handed out goes back to the queue; what was can still be acked.
    ///
    /// `timeout`: seconds or `timedelta` for the broker's answer; that of `consume` by default.
    #[pyo3(signature = (*, timeout=None))]
    fn cancel<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let timeout = time::optional_duration("timeout", timeout.as_ref())?;
        let shared = self.shared()?.clone();
        run(py, self.api, async move {
            match (shared.start.stop(), timeout) {
                (Some(core), Some(timeout)) => core.cancel_within(timeout).await,
                (Some(core), None) => core.cancel().await,
                (None, _) => Ok(()),
            }
        })
    }

    /// Changes how many unsettled messages the broker sends ahead; 0 for no limit, which streams do not take.
    #[pyo3(signature = (messages, *, timeout=None))]
    fn set_prefetch<'py>(
        &self,
        py: Python<'py>,
        messages: &Bound<'py, PyAny>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let messages = arguments::number("messages", messages)?;
        let timeout = time::optional_duration("timeout", timeout.as_ref())?;
        let shared = self.shared()?.clone();
        run(py, self.api, async move {
            let core = shared.start.core().await?;
            match timeout {
                Some(timeout) => core.set_prefetch_within(messages, timeout).await,
                None => core.set_prefetch(messages).await,
            }
        })
    }

    /// Has the broker put back everything that is unsettled on this consumer, to be delivered again (`basic.recover`). RabbitMQ
    /// knows only `requeue=True`. Deliveries in hand become stale.
    #[pyo3(
        signature = (requeue=arguments::Given(None), *, timeout=None),
        text_signature = "($self, requeue=True, *, timeout=None)"
    )]
    fn recover<'py>(
        &self,
        py: Python<'py>,
        requeue: arguments::Given<'py>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let requeue = requeue.flag("requeue", true)?;
        let timeout = time::optional_duration("timeout", timeout.as_ref())?;
        let shared = self.shared()?.clone();
        run(py, self.api, async move {
            let core = shared.start.core().await?;
            match timeout {
                Some(timeout) => core.recover_within(requeue, timeout).await,
                None => core.recover(requeue).await,
            }
        })
    }

    /// The queue; a server-named one has another name after a reconnect.
    #[getter]
    fn queue(&self) -> PyResult<String> {
        Ok(self.shared()?.start.get().map_or_else(|| self.queue.clone(), Core::queue))
    }

    /// The consumer tag; `None` before the consumer was started.
    #[getter]
    fn tag(&self) -> PyResult<Option<String>> {
        Ok(self.shared()?.start.get().map(|core| core.tag().to_string()))
    }

    /// Whether nothing comes any more: it was cancelled, its queue was deleted, its client was closed, and what was delivered
    /// before is handed out.
    #[getter]
    fn closed(&self) -> PyResult<bool> {
        let start = &self.shared()?.start;
        Ok(start.is_over() || start.get().is_some_and(|core| core.has_ended() && core.undelivered() == 0))
    }

    /// Deliveries handed out so far.
    #[getter]
    fn delivered(&self) -> PyResult<u64> {
        Ok(self.shared()?.start.get().map_or(0, Core::delivered))
    }

    fn __repr__(&self) -> PyResult<String> {
        Ok(format!("<Consumer of {:?}>", self.queue()?))
    }
}

#[pymethods]
impl Consumer {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        wait::let_others_run(py)?;
        let shared = slf.as_super().get().shared()?;
        let next = match shared.try_next() {
            Poll::Ready(next) => next,
            Poll::Pending => wait::block(py, pin!(shared.next()))?,
        };
        let delivery = next.transpose().or_py(py)?;
        delivery.map(|delivery| delivery::to_python(py, Api::Blocking, delivery)).transpose()
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

/// The outcome of one step of an asynchronous iteration.
fn iterated(next: Next) -> Result<Iterated<(Api, Delivery)>, Error> {
    Ok(Iterated(next.transpose()?.map(|delivery| (Api::Asyncio, delivery))))
}

#[pymethods]
impl AioConsumer {
    fn __aiter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __anext__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let shared = slf.as_super().get().shared()?;
        // When it is the others' turn, nothing may be taken before.
        let next = if turns::is_due() { Poll::Pending } else { shared.try_next() };
        match next {
            Poll::Ready(Some(Ok(delivery))) => {
                let delivery = delivery::to_python(py, Api::Asyncio, delivery)?;
                Ok(Bound::new(py, Ready::new(delivery.unbind()))?.into_any())
            }
            Poll::Ready(next) => run(py, Api::Asyncio, async move { iterated(next) }),
            Poll::Pending => {
                let shared = shared.clone();
                run_fair(py, Api::Asyncio, async move { iterated(shared.next().await) })
            }
        }
    }

    /// Starts it and returns it.
    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Operation>> {
        let py = slf.py();
        let shared = slf.as_super().get().shared()?.clone();
        let itself = slf.clone().into_any().unbind();
        let operation = Operation::new(Box::pin(async move {
            shared.start.core().await?;
            Ok(itself)
        }));
        Bound::new(py, operation)
    }

    fn __aenter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Operation>> {
        Self::__await__(slf)
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
