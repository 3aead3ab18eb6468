//! What became ready, for one event loop or hub: a queue that any thread fills, and one descriptor that wakes the loop
//! once for all that is in it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Wake, Waker},
};

use pyo3::{PyTraverseError, PyVisit, prelude::*};

use super::{LONG, descriptor::Descriptor, ready::Queue};
use crate::{process::generation, runtime};

/// So many futures are resolved in one turn of an asyncio loop. Thousands of tasks that go on in one turn keep the others
/// waiting; and each that leaves an `asyncio.Semaphore` passes all those that are on their way into it, which takes longest.
const AT_ONCE: usize = 64;

struct Completion {
    queue: Arc<Queue>,
    number: u64,
}

impl Wake for Completion {
    fn wake(self: Arc<Self>) {
        self.queue.push(self.number);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.queue.push(self.number);
    }
}

/// The completions of one event loop (or green hub), and who waits there: futures (or green threads) by number.
#[pyclass(frozen, weakref, module = "murano_messaging._native")]
pub struct Completions {
    queue: Arc<Queue>,
    generation: u32,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Py<PyAny>>>,
    /// Taken off the queue, and not handed out yet.
    taken: Mutex<Vec<u64>>,
    /// The asyncio loop calls [`Self::_look_after`] later.
    is_watched: AtomicBool,
}

impl Completions {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Py<PyAny>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for somebody who is going to wait.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A waker that completes `number`.
    pub fn waker(&self, number: u64) -> Waker {
        Waker::from(Arc::new(Completion { queue: self.queue.clone(), number }))
    }

    /// Whether this was made before a fork that led here.
    pub fn is_inherited(&self) -> bool {
        self.generation != generation()
    }

    /// `waiter` waits for `number` from now on.
    pub fn wait(&self, number: u64, waiter: Py<PyAny>) {
        self.waiting().insert(number, waiter);
    }

    /// As [`Self::wait`], for a future of `event_loop`.
    pub fn wait_in(
        slf: &Bound<'_, Self>,
        number: u64,
        future: Py<PyAny>,
        event_loop: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        slf.get().wait(number, future);
        if slf.get().is_watched.swap(true, Ordering::Relaxed) { Ok(()) } else { Self::watch(slf, event_loop) }
    }

    fn watch(slf: &Bound<'_, Self>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let look_after = slf.getattr(pyo3::intern!(slf.py(), "_look_after"))?;
        event_loop.call_method1("call_later", (Self::LONG, look_after, event_loop)).map(|_| ())
    }

    fn resolve(&self, py: Python<'_>, most: usize) -> PyResult<()> {
        for _ in 0..most {
            let Some(future) = self.next_ready() else { return Ok(()) };
            let future = future.bind(py);
            if !future.call_method0(pyo3::intern!(py, "done"))?.is_truthy()? {
                future.call_method1(pyo3::intern!(py, "set_result"), (py.None(),))?;
            }
        }
        // The rest has the loop's next turn.
        self.queue.descriptor().set();
        Ok(())
    }

    /// Takes the next waiter whose number is ready; `None` when the queue is empty.
    fn next_ready(&self) -> Option<Py<PyAny>> {
        loop {
            let number = self.taken.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if let Some(waiter) = self.waiting().remove(&number) {
                return Some(waiter);
            }
        }
    }

    fn look(&self) {
        let mut ready = self.queue.take();
        // Handed out from the end, first things first.
        ready.reverse();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        ready.append(&mut taken);
        *taken = ready;
    }
}

#[pymethods]
impl Completions {
    /// Seconds after which a loop or hub with somebody waiting looks after those who wait.
    #[classattr]
    const LONG: f64 = LONG.as_secs_f64();

    #[new]
    pub fn new() -> PyResult<Self> {
        Ok(Self {
            queue: Arc::new(Queue::new(Descriptor::new()?)),
            generation: generation(),
            next: AtomicU64::new(0),
            waiting: Mutex::default(),
            taken: Mutex::default(),
            is_watched: AtomicBool::new(false),
        })
    }

    /// The descriptor that is readable while something is ready.
    pub fn fileno(&self) -> i64 {
        self.queue.descriptor().number()
    }

    /// Whether this was made by a parent process.
    #[getter]
    fn inherited(&self) -> bool {
        self.is_inherited()
    }

    /// Registers a green thread under its number.
    fn register(&self, number: u64, waiter: Py<PyAny>) {
        self.wait(number, waiter);
    }

    /// Takes the registration back.
    pub fn forget(&self, number: u64) {
        let waiter = self.waiting().remove(&number);
        drop(waiter);
    }

    /// Looks what is ready; `next` hands it out.
    fn begin(&self) {
        // The descriptor of an inherited one belongs to the parent, who would miss what is read here.
        if !self.is_inherited() {
            self.look();
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.waiting.try_lock() {
            Ok(waiting) => waiting.values().try_for_each(|waiter| visit.call(waiter)),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        let waiting = std::mem::take(&mut *self.waiting());
        // Without the lock: it may run Python code.
        drop(waiting);
    }

    /// The next green thread to go on; `None` when there is none. One that was killed meanwhile is not among them.
    fn next(&self) -> Option<Py<PyAny>> {
        self.next_ready()
    }

    /// Resolves the asyncio futures of all that is ready: the callback of the loop's reader.
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        self.begin();
        self.resolve(py, AT_ONCE)
    }

    /// Whether somebody waits here who will be woken: called every few seconds while somebody waits. If nobody would be
    /// woken any more, because this is inherited or the engine's thread is gone, all are ready, and find out.
    fn look_after_waiting(&self, py: Python<'_>) -> bool {
        runtime::check_thread(py);
        let waiting = self.waiting();
        if self.is_inherited() {
            self.taken.lock().unwrap_or_else(PoisonError::into_inner).extend(waiting.keys());
        }
        !waiting.is_empty() && !self.is_inherited()
    }

    /// As `look_after_waiting`, called by the loop.
    fn _look_after(slf: &Bound<'_, Self>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        if slf.get().look_after_waiting(slf.py()) {
            return Self::watch(slf, event_loop);
        }
        slf.get().is_watched.store(false, Ordering::Relaxed);
        slf.get().resolve(slf.py(), usize::MAX)
    }
}
