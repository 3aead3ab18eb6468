//! `wait`, `loop`, callbacks, and what somebody else's event loop needs.

use std::{
    future::poll_fn,
    pin::pin,
    sync::atomic::Ordering,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use pyo3::{
    exceptions::PyKeyError,
    gc::{PyTraverseError, PyVisit},
    prelude::*,
    types::{PyDict, PyInt},
};

use super::{
    arguments,
    client::{PukaBase, no_connection},
    fields,
    promises::HandedOut,
};
use crate::{
    runtime,
    wait::{self, timeout::Timeout},
};

/// So many callbacks are run before a loop looks at its deadline again, after those that were ready when it began.
const CALLBACKS_PER_TURN: usize = 256;

/// A longer timeout is as good as this one.
const LONGEST: f64 = 365.0 * 24.0 * 3600.0;

/// What a wait ended with.
enum Waited {
    Ready(u64),
    /// None of the promises will ever have a result.
    Never,
}

fn duration(timeout: Option<f64>) -> Option<Duration> {
    timeout.map(|seconds| Duration::from_secs_f64(if seconds > 0.0 { seconds.min(LONGEST) } else { 0.0 }))
}

fn numbers(given: &Bound<'_, PyAny>) -> PyResult<Vec<u64>> {
    if given.is_instance_of::<PyInt>() {
        return Ok(vec![given.extract()?]);
    }
    given.try_iter()?.map(|number| number?.extract()).collect()
}

impl PukaBase {
    /// Waits until one of these promises has a result (`None`: any at all); `None` when the time is over.
    fn wait_until(
        &self,
        py: Python<'_>,
        numbers: Option<&[u64]>,
        timeout: Option<Duration>,
    ) -> PyResult<Option<Waited>> {
        let promises = self.promises()?;
        let mut registered: Option<Waker> = None;
        let waited = {
            let ready = pin!(poll_fn(|cx| {
                // Before looking, so that what another thread finds is not missed.
                if !registered.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                    registered = Some(cx.waker().clone());
                }
                promises.signals.wait(cx.waker());
                promises.drain();
                let ready = match numbers {
                    Some(numbers) => promises.first_ready(numbers).map(Waited::Ready),
                    None => (promises.any_ready() || self.broken.load(Ordering::Relaxed))
                        .then_some(Waited::Ready(0)),
                };
                if let Some(ready) = ready {
                    return Poll::Ready(ready);
                }
                let never = match numbers {
                    Some(numbers) => !promises.any_waits(numbers),
                    None => !promises.is_alive(),
                };
                if never && timeout.is_none() {
                    return Poll::Ready(Waited::Never);
                }
                Poll::Pending
            }));
            let timed = pin!(Timeout::new(runtime::handle(py)?, timeout, ready));
            if self.is_green() { wait::block_imported(py, timed) } else { wait::block(py, timed) }
        };
        if let Some(waker) = registered {
            promises.signals.leave(&waker);
        }
        waited
    }

    /// Runs the callbacks of what is ready now, up to `most`. What becomes ready meanwhile is for the next time: a steady
    /// stream would never end.
    fn run_ready(&self, py: Python<'_>, most: usize) -> PyResult<()> {
        let promises = self.promises()?;
        promises.drain();
        let mut ready = promises.all_ready();
        let mut left = most;
        while left > 0 && !ready.is_empty() {
            for (number, results) in ready.iter_mut().take(left) {
                left -= 1;
                let handed_out = self.hand_out(py, *number, false)?.is_some();
                *results = if handed_out { *results - 1 } else { 0 };
            }
            ready.retain(|(_, results)| *results > 0);
        }
        promises.drain();
        Ok(())
    }

    /// Hands out the next result of a promise: to its callback, and to the caller.
    fn hand_out<'py>(
        &self,
        py: Python<'py>,
        number: u64,
        raise_errors: bool,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let promises = self.promises()?;
        let Some(HandedOut { given, callback }) = promises.hand_out(number) else {
            return Ok(None);
        };
        let result = self.to_python(py, &given, number)?;
        promises.handed_out(number, given);
        let called = match callback {
            Some(callback) => callback.bind(py).call1((number, &result)).map(|_| ()),
            None => Ok(()),
        };
        promises.release(number);
        called?;
        if raise_errors && result.getattr(pyo3::intern!(py, "is_error"))?.is_truthy()? {
            return Err(PyErr::from_value(result.getattr(pyo3::intern!(py, "exception"))?));
        }
        Ok(Some(result))
    }
}

#[pymethods]
impl PukaBase {
    /// How bodies are handed out, and whether waits yield to eventlet although nothing is monkey-patched.
    fn _configure(&self, body_type: Option<&Bound<'_, PyAny>>, green: bool) -> PyResult<()> {
        self.configure(fields::body_type(body_type)?, green);
        Ok(())
    }

    /// How many results of a promise are at the client and could be handed out: what tests wait for before they look.
    fn _results(&self, number: u64) -> PyResult<usize> {
        Ok(self.promises()?.results(number))
    }

    /// What the broker said of itself: its properties, once connected.
    #[getter]
    fn _server_properties<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(server) = self.promises()?.server() else {
            return Ok(None);
        };
        fields::to_dict(py, &server.properties).map(Some)
    }

    /// Waits for one of the promises, runs its callback and returns its result; `None` when the time is over.
    #[pyo3(
        signature = (promise_numbers, timeout=None, raise_errors=arguments::Flag(true)),
        text_signature = "($self, promise_numbers, timeout=None, raise_errors=True)"
    )]
    fn wait<'py>(
        &self,
        py: Python<'py>,
        promise_numbers: &Bound<'py, PyAny>,
        timeout: Option<f64>,
        raise_errors: arguments::Flag,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let numbers = numbers(promise_numbers)?;
        let promises = self.promises()?;
        promises.drain();
        let deadline = timeout.map(|_| Instant::now());
        let mut ready = promises.first_ready(&numbers);
        self.flush(py, ready.is_none())?;
        loop {
            if let Some(number) = ready
                && let Some(result) = self.hand_out(py, number, raise_errors.0)?
            {
                return Ok(Some(result));
            }
            let left = match (duration(timeout), deadline) {
                (Some(timeout), Some(began)) => Some(timeout.saturating_sub(began.elapsed())),
                _ => None,
            };
            match self.wait_until(py, Some(&numbers), left)? {
                // Another thread may have taken the result.
                Some(Waited::Ready(number)) => ready = Some(number),
                Some(Waited::Never) => {
                    return Err(PyKeyError::new_err(format!(
                        "none of the promises {numbers:?} will have a result: it was taken already, or there never was \
                         such a promise"
                    )));
                }
                None => return Ok(None),
            }
        }
    }

    /// Waits for each of the promises.
    #[pyo3(
        signature = (promise_list, raise_errors=arguments::Flag(true)),
        text_signature = "($self, promise_list, raise_errors=True)"
    )]
    fn wait_for_all(
        &self,
        py: Python<'_>,
        promise_list: &Bound<'_, PyAny>,
        raise_errors: arguments::Flag,
    ) -> PyResult<()> {
        for promise in promise_list.try_iter()? {
            self.wait(py, &promise?, None, arguments::Flag(raise_errors.0))?;
        }
        Ok(())
    }

    fn wait_for_any(&self, py: Python<'_>) -> PyResult<()> {
        self.r#loop(py, None)
    }

    /// Runs callbacks until `loop_break` is called, or the time is over.
    #[pyo3(
        signature = (timeout=None),
        text_signature = "($self, timeout=None)"
    )]
    fn r#loop(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let began = Instant::now();
        let timeout = duration(timeout);
        let promises = self.promises()?;
        self.broken.store(false, Ordering::Relaxed);
        let mut most = usize::MAX;
        loop {
            self.run_ready(py, most)?;
            most = CALLBACKS_PER_TURN;
            if self.broken.load(Ordering::Relaxed) {
                break;
            }
            let left = timeout.map(|timeout| timeout.saturating_sub(began.elapsed()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            self.flush(py, !promises.any_ready())?;
            match self.wait_until(py, None, left)? {
                Some(Waited::Ready(_)) => py.check_signals()?,
                Some(Waited::Never) => return Err(no_connection(py)),
                None => break,
            }
        }
        self.flush(py, true)
    }

    /// Ends a running `loop`.
    fn loop_break(&self) -> PyResult<()> {
        self.broken.store(true, Ordering::Relaxed);
        self.promises()?.signals.wake_all();
        Ok(())
    }

    /// Runs the callbacks of what is there, without waiting.
    fn run_any_callbacks(&self, py: Python<'_>) -> PyResult<()> {
        self.run_ready(py, usize::MAX)
    }

    /// Changes who is told of the results of a promise.
    fn set_callback(&self, promise_number: u64, callback: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        if self.promises()?.set_callback(promise_number, arguments::callback(callback)) {
            return Ok(());
        }
        Err(PyKeyError::new_err(promise_number))
    }

    // ---- for somebody else's event loop ----------------------------------------------------------------------

    /// A descriptor that is readable while there is something to do for `on_read` or `run_any_callbacks`. Without a
    /// connection, and with all results handed out, there never will be: that is a `ConnectionBroken`.
    fn fileno(&self, py: Python<'_>) -> PyResult<i64> {
        let promises = self.promises()?;
        promises.drain();
        if promises.tell_end() { Err(no_connection(py)) } else { Ok(promises.signals.descriptor()?) }
    }

    /// Looks at what has come; `ConnectionBroken` as from `fileno`.
    fn on_read(&self, py: Python<'_>) -> PyResult<()> {
        let promises = self.promises()?;
        promises.drain();
        if promises.tell_end() { Err(no_connection(py)) } else { Ok(()) }
    }

    /// Whether publishes wait for `on_write`.
    fn needs_write(&self) -> bool {
        self.unsent.load(Ordering::Relaxed) > 0
    }

    /// About as many bytes wait for `on_write`; 0 if and only if none do.
    fn _unsent(&self) -> usize {
        self.unsent.load(Ordering::Relaxed)
    }

    /// Sends what was published.
    fn on_write(&self, py: Python<'_>) -> PyResult<()> {
        runtime::call_back(py);
        self.flush(py, true)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut result = Ok(());
        if let Some(promises) = self.own_promises() {
            promises.for_callbacks(|callback| {
                if result.is_ok() {
                    result = visit.call(callback);
                }
            });
        }
        result
    }

    fn __clear__(&self) {
        if let Some(promises) = self.own_promises() {
            promises.clear_callbacks();
        }
    }
}
