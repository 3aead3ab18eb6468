//! The broker's answers to publishes, to wait for one at a time or all together.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use murano_messaging::{Confirmation as Core, Error, ErrorKind};
use pyo3::prelude::*;

use crate::{
    arguments, errors,
    outcome::{IntoPython, run},
    process::Owned,
    runtime, time,
    unheard::Unheard,
    wait::{
        Api,
        operation::Ready,
        timeout::Timeout,
        waiters::{self, Waiters},
    },
};

enum State {
    Waiting { core: Core, waiters: Waiters },
    Known(Result<(), Error>),
}

/// The broker's answer to one publish, now or later, with the methods of `concurrent.futures.Future`.
///
/// Dropping it does not cancel the publish; that it failed is logged as a warning then.
#[pyclass(frozen, subclass, module = "murano_messaging")]
pub struct Confirmation {
    state: Owned<Mutex<State>>,
    unheard: Owned<Arc<Unheard>>,
    api: Api,
}

impl Drop for Confirmation {
    /// That nobody looked at it does not make a failure one that nobody hears of.
    fn drop(&mut self) {
        let (Ok(state), Ok(unheard)) = (self.state.get_mut(), self.unheard.get_mut()) else { return };
        let state = state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let State::Waiting { core, .. } = std::mem::replace(state, State::Known(Ok(()))) {
            unheard.take(core);
        }
    }
}

/// The broker's answer to one publish, now or later: to be awaited.
///
/// Dropping it does not cancel the publish; that it failed is logged as a warning then.
#[pyclass(frozen, extends = Confirmation, name = "Confirmation", module = "murano_messaging.aio")]
pub struct AioConfirmation;

pub fn to_python(py: Python<'_>, api: Api, core: Core, unheard: Arc<Unheard>) -> PyResult<Bound<'_, PyAny>> {
    let state = State::Waiting { core, waiters: Waiters::None };
    let (state, unheard) = (Owned::new(Mutex::new(state)), Owned::new(unheard));
    let confirmation = Confirmation { state, unheard, api };
    Ok(match api {
        Api::Blocking => Bound::new(py, confirmation)?.into_any(),
        Api::Asyncio => {
            Bound::new(py, PyClassInitializer::from(confirmation).add_subclass(AioConfirmation))?.into_any()
        }
    })
}

impl Confirmation {
    /// The broker's answer, if it is there.
    fn answer(&self) -> PyResult<Option<Result<(), Error>>> {
        // A waiter's waker would be lost to this poll: only an answer that is there is taken.
        if !self.done()?.0 {
            return Ok(None);
        }
        Ok(match self.poll(0, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        })
    }

    fn state(&self) -> PyResult<MutexGuard<'_, State>> {
        Ok(self.state.get()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The answer, for the wait `number`.
    fn poll(&self, number: u64, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Ok(mut state) = self.state() else {
            return Poll::Ready(Err(Error::new(
                ErrorKind::Closed,
                "the publish belongs to the parent process",
            )));
        };
        match &mut *state {
            State::Known(result) => Poll::Ready(result.clone()),
            State::Waiting { core, waiters } => {
                let waker = waiters.with(number, cx.waker());
                let Poll::Ready(result) = Pin::new(core).poll(&mut Context::from_waker(&waker)) else {
                    return Poll::Pending;
                };
                *state = State::Known(result.clone());
                Poll::Ready(result)
            }
        }
    }
}

/// Waits for the answers, in order.
struct InOrder {
    number: u64,
    confirmations: Vec<Py<Confirmation>>,
    next: usize,
    failed: Option<Error>,
}

impl InOrder {
    fn new(confirmations: Vec<Py<Confirmation>>) -> Self {
        let number = waiters::number();
        Self { number, confirmations, next: 0, failed: None }
    }
}

impl Drop for InOrder {
    fn drop(&mut self) {
        if let Some(confirmation) = self.confirmations.get(self.next)
            && let Ok(mut state) = confirmation.get().state()
            && let State::Waiting { waiters, .. } = &mut *state
        {
            waiters.without(self.number);
        }
    }
}

impl Future for InOrder {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        while let Some(confirmation) = self.confirmations.get(self.next) {
            let Poll::Ready(result) = confirmation.get().poll(self.number, cx) else {
                return Poll::Pending;
            };
            self.next += 1;
            if let Err(error) = result {
                self.failed.get_or_insert(error);
            }
        }
        Poll::Ready(self.failed.take().map_or(Ok(()), Err))
    }
}

/// The answers to these publishes, or the error of a wait that was too short.
fn answers<'py>(
    py: Python<'py>,
    confirmations: Vec<Py<Confirmation>>,
    timeout: Option<Bound<'py, PyAny>>,
) -> PyResult<impl Future<Output = Result<Result<(), Error>, Error>> + Send + 'static> {
    let timeout = time::optional_duration("timeout", timeout.as_ref())?;
    for confirmation in &confirmations {
        confirmation.get().state.get()?;
    }
    let count = confirmations.len();
    let all = Timeout::new(runtime::handle(py)?, timeout, InOrder::new(confirmations));
    Ok(async move {
        all.await.ok_or_else(|| {
            let text = format!(
                "not all of {count} publishes were answered within {} s; they are still under way",
                timeout.unwrap_or_default().as_secs_f64()
            );
            Error::new(ErrorKind::Timeout, text).with_outcome_unknown()
        })
    })
}

fn wait_for<'py>(
    py: Python<'py>,
    api: Api,
    confirmations: Vec<Py<Confirmation>>,
    timeout: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let answers = answers(py, confirmations, timeout)?;
    run(py, api, async move { answers.await? })
}

/// A publish under way.
pub struct Pending {
    pub api: Api,
    pub core: Core,
    pub unheard: Arc<Unheard>,
}

impl IntoPython for Pending {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        to_python(py, self.api, self.core, self.unheard)
    }
}

/// An error as a value.
struct Failure(Error);

impl IntoPython for Failure {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(errors::to_value(py, &self.0))
    }
}

fn listed(confirmations: &Bound<'_, PyAny>) -> PyResult<Vec<Py<Confirmation>>> {
    let confirmation = |confirmation: PyResult<Bound<'_, PyAny>>| match confirmation?
        .cast_into::<Confirmation>()
    {
        Ok(confirmation) => Ok(confirmation.unbind()),
        Err(error) => Err(errors::wrong_type("what is waited for", "a Confirmation", &error.into_inner())),
    };
    arguments::items("confirmations", "an iterable of Confirmation", confirmations)?
        .map(confirmation)
        .collect()
}

/// Waits until the broker has answered all of these publishes, at most `timeout` seconds, and raises the first error
/// among the answers, in the order of the list.
#[pyfunction]
#[pyo3(signature = (confirmations, timeout=None))]
pub fn wait_all<'py>(
    py: Python<'py>,
    confirmations: &Bound<'py, PyAny>,
    timeout: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    wait_for(py, Api::Blocking, listed(confirmations)?, timeout)
}

/// As `murano_messaging.wait_all`, to be awaited.
#[pyfunction]
#[pyo3(name = "wait_all", signature = (confirmations, timeout=None))]
pub fn wait_all_asyncio<'py>(
    py: Python<'py>,
    confirmations: &Bound<'py, PyAny>,
    timeout: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    wait_for(py, Api::Asyncio, listed(confirmations)?, timeout)
}

/// Whether the broker has answered: called, as the method `done`; or, as it once was, taken for a bool.
#[pyclass(frozen, module = "murano_messaging._native")]
struct Done(bool);

#[pymethods]
impl Done {
    fn __call__(&self) -> bool {
        self.0
    }

    fn __bool__(&self, py: Python<'_>) -> PyResult<bool> {
        arguments::deprecated(py, c"Confirmation.done is a method: call done()")?;
        Ok(self.0)
    }
}

#[pymethods]
impl Confirmation {
    /// `done()`: whether the broker has answered. Never waits.
    #[getter]
    fn done(&self) -> PyResult<Done> {
        Ok(Done(match &*self.state()? {
            State::Known(_) => true,
            State::Waiting { core, .. } => core.is_ready(),
        }))
    }

    /// Waits for the broker's answer, at most `timeout` (seconds or `timedelta`; for ever by default, though a publish has a
    /// deadline of its own), and raises the publish's error if it failed.
    ///
    /// When `timeout` is over first, `OperationTimeoutError` is raised, and the publish goes on.
    #[pyo3(signature = (timeout=None))]
    fn result<'py>(slf: Bound<'py, Self>, timeout: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let (py, api) = (slf.py(), slf.get().api);
        wait_for(py, api, vec![slf.unbind()], timeout)
    }

    /// As `result`, but returns the publish's error instead of raising it; `None` when it is confirmed.
    #[pyo3(signature = (timeout=None))]
    fn exception<'py>(
        slf: Bound<'py, Self>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, api) = (slf.py(), slf.get().api);
        let answers = answers(py, vec![slf.unbind()], timeout)?;
        run(py, api, async move { Ok(answers.await?.err().map(Failure)) })
    }

    /// Deprecated: `result`.
    #[pyo3(signature = (timeout=None))]
    fn wait<'py>(slf: Bound<'py, Self>, timeout: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        arguments::deprecated(slf.py(), c"Confirmation.wait() is called result() now")?;
        Self::result(slf, timeout)
    }

    /// Deprecated: `exception`. The error of the publish; `None` when it is confirmed, or not answered yet.
    fn error<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        arguments::deprecated(py, c"Confirmation.error() is called exception() now, which waits")?;
        Ok(self.answer()?.and_then(Result::err).map(|error| errors::to_value(py, &error)))
    }

    /// Gives the publish up: it is not sent if it has not been, and never sent again. `False` when its answer is there.
    fn cancel(&self) -> PyResult<bool> {
        match &*self.state()? {
            State::Waiting { core, .. } if !core.is_ready() => {
                // Whoever waits for it is woken and finds the result.
                core.cancel();
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn __repr__(&self) -> PyResult<String> {
        Ok(match &*self.state()? {
            State::Known(Ok(())) => "<Confirmation: confirmed>".into(),
            State::Known(Err(error)) => format!("<Confirmation: failed: {error}>"),
            State::Waiting { core, .. } if core.is_ready() => "<Confirmation: answered>".into(),
            State::Waiting { .. } => "<Confirmation: waiting>".into(),
        })
    }
}

#[pymethods]
impl AioConfirmation {
    fn __await__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, PyAny>> {
        let py = slf.py();
        let confirmation = slf.into_super();
        if matches!(confirmation.get().answer()?, Some(Ok(()))) {
            return Ok(Bound::new(py, Ready::fair(py.None()))?.into_any());
        }
        wait_for(py, Api::Asyncio, vec![confirmation.unbind()], None)
    }
}
