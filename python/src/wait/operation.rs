//! Something to `await`: an operation of the core as a coroutine.

use std::{
    pin::Pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::{PyBaseException, PyRuntimeError, PyRuntimeWarning, PyStopIteration},
    prelude::*,
    types::{PyTuple, PyType},
};

use super::{asyncio, completions::Completions, turns};
use crate::{outcome, process::Owned, runtime};

/// What an operation does. It starts when it is first polled, and is given up when it is dropped.
pub type Work = Pin<Box<dyn outcome::Work>>;

/// Where an operation that waits will be woken.
struct Place {
    completions: Py<Completions>,
    number: u64,
    waker: Waker,
}

struct Running {
    work: Owned<Work>,
    /// It was polled, so that it is no mistake to drop it.
    begun: bool,
    /// The others had their turn before it.
    gave_way: bool,
    place: Option<Place>,
}

impl Running {
    fn poll<'py>(&mut self, py: Python<'py>, waker: &Waker) -> PyResult<Poll<Bound<'py, PyAny>>> {
        self.begun = true;
        match self.work.get_mut()?.as_mut().step(py, &mut Context::from_waker(waker)) {
            Poll::Ready(result) => result.map(Poll::Ready),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    fn waker(&self) -> Waker {
        self.place.as_ref().map_or_else(|| Waker::noop().clone(), |place| place.waker.clone())
    }

    fn wait(&self, future: &Bound<'_, PyAny>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some(place) = &self.place else { return Ok(()) };
        Completions::wait_in(
            place.completions.bind(future.py()),
            place.number,
            future.clone().unbind(),
            event_loop,
        )
    }

    fn leave(&self) {
        if let Some(place) = &self.place {
            place.completions.get().forget(place.number);
        }
    }
}

/// An operation under way: `await` it, or give it to `asyncio.create_task`, `gather` or `wait_for`. Cancelling the
/// task that awaits it gives the operation up.
#[pyclass(frozen, subclass, module = "murano_messaging.aio")]
pub struct Operation {
    /// `None` when it is over, or while it is polled.
    running: Mutex<Option<Running>>,
    /// Whether the result is to be kept, and the result.
    keeps: bool,
    /// Whether others have their turn first if it is due: for what is often there already.
    fair: bool,
    kept: Mutex<Option<Py<PyAny>>>,
}

impl Operation {
    pub fn new(work: Work) -> Self {
        let running = Running { work: Owned::new(work), begun: false, gave_way: false, place: None };
        Self { running: Mutex::new(Some(running)), keeps: false, fair: false, kept: Mutex::default() }
    }

    /// An operation that takes something that is often there already.
    pub fn fair(work: Work) -> Self {
        let mut operation = Self::new(work);
        operation.fair = true;
        operation
    }

    /// An operation that keeps its result for [`Self::take_kept`].
    pub fn keeping(work: Work) -> Self {
        let mut operation = Self::new(work);
        operation.keeps = true;
        operation
    }

    pub fn take_kept(&self) -> Option<Py<PyAny>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn done<'py>(&self, value: Bound<'py, PyAny>) -> Step<'py> {
        if self.keeps {
            *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(value.clone().unbind());
        }
        Step::Done(value)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Running> {
        self.lock().take()
    }

    /// Goes on until the result is there, or there is something to wait for.
    fn step<'py>(&self, py: Python<'py>) -> PyResult<Step<'py>> {
        let Some(mut running) = self.take() else {
            return Err(reused());
        };
        if self.fair && !running.begun && !running.gave_way && turns::is_due() {
            // Nothing was taken yet, so that nothing is lost if the task is cancelled here. Once: others may take so long
            // that it would be their turn for ever.
            running.gave_way = true;
            turns::given();
            *self.lock() = Some(running);
            return Ok(Step::Yield);
        }
        let mut known = None;
        if running.place.is_none() {
            // Many operations are done at once; the others need to know where to be woken.
            if let Poll::Ready(value) = running.poll(py, Waker::noop())? {
                return Ok(self.done(value));
            }
            let event_loop = asyncio::running_loop(py)?;
            let completions = asyncio::completions(&event_loop)?;
            known = Some(event_loop);
            let number = completions.get().number();
            let waker = completions.get().waker(number);
            running.place = Some(Place { completions, number, waker });
        }
        let waker = running.waker();
        if let Poll::Ready(value) = running.poll(py, &waker)? {
            return Ok(self.done(value));
        }
        runtime::call_back_for_waiter(py);
        turns::given();
        let event_loop = known.map_or_else(|| asyncio::running_loop(py), Ok)?;
        let future = event_loop.call_method0(pyo3::intern!(py, "create_future"))?;
        // What `yield from future` would do (the protocol of asyncio's tasks).
        future.setattr(pyo3::intern!(py, "_asyncio_future_blocking"), true)?;
        running.wait(&future, &event_loop)?;
        *self.lock() = Some(running);
        Ok(Step::Wait(future))
    }
}

impl Drop for Operation {
    /// Nothing was done: as for a coroutine, a forgotten `await` is worth a warning.
    fn drop(&mut self) {
        let Some(running) = self.take() else { return };
        if running.begun || running.work.is_inherited() {
            return;
        }
        // `None` when the interpreter is ending.
        Python::try_attach(|py| {
            // An exception may be on its way through the frame that drops this.
            let pending = PyErr::take(py);
            let category = py.get_type::<PyRuntimeWarning>();
            if let Err(error) =
                PyErr::warn(py, &category, c"an operation of murano_messaging.aio was never awaited", 1)
            {
                error.write_unraisable(py, None);
            }
            if let Some(pending) = pending {
                pending.restore(py);
            }
        });
    }
}

enum Step<'py> {
    /// The loop has a turn, and then this goes on.
    Yield,
    Wait(Bound<'py, PyAny>),
    Done(Bound<'py, PyAny>),
}

/// The exception that a coroutine's `throw` is to raise.
pub fn thrown<'py>(
    py: Python<'py>,
    kind: Bound<'py, PyAny>,
    value: Option<Bound<'py, PyAny>>,
    traceback: Option<Bound<'py, PyAny>>,
) -> PyResult<PyErr> {
    let exception = match (value, kind.cast::<PyType>()) {
        (Some(value), _) if value.is_instance_of::<pyo3::exceptions::PyBaseException>() => value,
        (Some(value), Ok(class)) => class.call1((value,))?,
        (None, Ok(class)) => class.call0()?,
        (_, Err(_)) => kind,
    };
    if let Some(traceback) = traceback {
        exception.setattr(pyo3::intern!(py, "__traceback__"), traceback)?;
    }
    Ok(PyErr::from_value(exception))
}

/// What a coroutine that asks for nothing may be sent.
pub fn nothing_but_none(value: &Bound<'_, PyAny>) -> PyResult<()> {
    if value.is_none() {
        return Ok(());
    }
    Err(pyo3::exceptions::PyTypeError::new_err("an operation takes nothing but None"))
}

fn reused() -> PyErr {
    PyRuntimeError::new_err("cannot reuse an operation that was awaited already")
}

fn stop(value: Bound<'_, PyAny>) -> PyErr {
    // As it is, where the interpreter takes it so: then it need not make the exception.
    if value.is_instance_of::<PyTuple>() || value.is_instance_of::<PyBaseException>() {
        PyStopIteration::new_err((value.unbind(),))
    } else {
        PyStopIteration::new_err(value.unbind())
    }
}

#[pymethods]
impl Operation {
    /// `Operation[QueueInfo]`, in annotations.
    #[classmethod]
    fn __class_getitem__<'py>(
        class: &Bound<'py, PyType>,
        item: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        class.py().import("types")?.getattr("GenericAlias")?.call1((class, item))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(running) = self.running.try_lock()
            && let Some(place) = running.as_ref().and_then(|running| running.place.as_ref())
        {
            visit.call(&place.completions)?;
        }
        match self.kept.try_lock().as_deref() {
            Ok(Some(kept)) => visit.call(kept),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        self.close();
        drop(self.take_kept());
    }

    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.step(py)? {
            Step::Yield => Ok(Some(py.None().into_bound(py))),
            Step::Wait(future) => Ok(Some(future)),
            // The end of an iteration without a value is the value None, and cheaper.
            Step::Done(value) if value.is_none() => Ok(None),
            Step::Done(value) => Err(stop(value)),
        }
    }

    /// Goes on; a coroutine's method.
    fn send<'py>(&self, py: Python<'py>, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        nothing_but_none(&value)?;
        match self.step(py)? {
            Step::Yield => Ok(py.None().into_bound(py)),
            Step::Wait(future) => Ok(future),
            Step::Done(value) => Err(stop(value)),
        }
    }

    /// Gives the operation up and raises; a coroutine's method.
    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        &self,
        py: Python<'_>,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.close();
        Err(thrown(py, kind, value, traceback)?)
    }

    /// Gives the operation up; a coroutine's method.
    fn close(&self) {
        if let Some(running) = self.take() {
            running.leave();
        }
    }
}

/// A result that is there already, to be awaited like an [`Operation`].
#[pyclass(frozen, module = "murano_messaging.aio")]
pub struct Ready {
    value: Mutex<Option<Py<PyAny>>>,
    /// The loop has a turn before.
    yields: AtomicBool,
}

impl Ready {
    pub fn new(value: Py<PyAny>) -> Self {
        Self { value: Mutex::new(Some(value)), yields: AtomicBool::new(false) }
    }

    /// As [`Self::new`], and the others have their turn first if it is due.
    pub fn fair(value: Py<PyAny>) -> Self {
        let due = turns::is_due();
        if due {
            turns::given();
        }
        Self { value: Mutex::new(Some(value)), yields: AtomicBool::new(due) }
    }

    fn take(&self) -> Option<Py<PyAny>> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[pymethods]
impl Ready {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self.yields.swap(false, Ordering::Relaxed) {
            return Ok(Some(py.None().into_bound(py)));
        }
        match self.take() {
            // As in an operation.
            Some(value) if value.is_none(py) => Ok(None),
            Some(value) => Err(stop(value.into_bound(py))),
            None => Err(reused()),
        }
    }

    /// Has the result; a coroutine's method.
    #[allow(clippy::needless_pass_by_value, reason = "the signature of a coroutine's method")]
    fn send<'py>(&self, value: Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        nothing_but_none(&value)?;
        match self.__next__(value.py())? {
            Some(value) => Ok(Some(value)),
            None => Err(stop(value.py().None().into_bound(value.py()))),
        }
    }

    /// Gives the result up and raises; a coroutine's method.
    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        &self,
        py: Python<'_>,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.close();
        Err(thrown(py, kind, value, traceback)?)
    }

    /// Gives the result up; a coroutine's method.
    fn close(&self) {
        drop(self.take());
    }
}
