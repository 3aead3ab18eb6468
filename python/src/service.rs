//! What the core asks of Python: log records, and credentials. A Python thread (`murano_messaging/_service.py`) does it, so
//! that the engine never waits for the interpreter; under eventlet and gevent that thread is a green one.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use murano_messaging::{Credentials, Error, ErrorKind};
use pyo3::prelude::*;
use tokio::sync::oneshot;

use crate::{errors, process::generation, wait};

/// So many jobs are kept for a service that does not keep up; further log records are dropped, and counted.
const KEPT: usize = 1000;

pub enum Job {
    Log { level: u8, logger: String, text: String },
    Credentials { callback: Arc<Callback>, reply: oneshot::Sender<Result<Credentials, Error>> },
}

/// A function that knows the credentials, and the asyncio loop to run it in if it is a coroutine function.
pub struct Callback {
    pub function: Py<PyAny>,
    pub event_loop: Option<Py<PyAny>>,
}

struct Queue {
    jobs: VecDeque<Job>,
    waker: Option<Waker>,
    dropped: u64,
}

/// One for each fork on the way here: the lock of the parent's may have been taken at the fork.
static QUEUES: [Mutex<Queue>; 16] =
    [const { Mutex::new(Queue { jobs: VecDeque::new(), waker: None, dropped: 0 }) }; 16];

fn queue() -> MutexGuard<'static, Queue> {
    let index = generation() as usize % QUEUES.len();
    QUEUES[index].lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the service something to do.
pub fn ask(job: Job) {
    let mut queue = queue();
    if queue.jobs.len() >= KEPT && matches!(job, Job::Log { .. }) {
        queue.dropped += 1;
        return;
    }
    queue.jobs.push_back(job);
    let waker = queue.waker.take();
    drop(queue);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Where the credentials go.
#[pyclass(frozen, module = "murano_messaging._native")]
pub struct Reply(Mutex<Option<oneshot::Sender<Result<Credentials, Error>>>>);

impl Reply {
    fn send(&self, result: Result<Credentials, Error>) {
        if let Some(reply) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Nobody waits any more: the client was closed.
            let _ = reply.send(result);
        }
    }
}

#[pymethods]
impl Reply {
    fn answer(&self, username: String, password: String) {
        self.send(Ok(Credentials::new(username, password)));
    }

    /// `reason` is shown to the user.
    fn fail(&self, reason: String) {
        self.send(Err(Error::new(
            ErrorKind::Authentication,
            format!("the credentials callback failed: {reason}"),
        )));
    }
}

fn to_python(py: Python<'_>, job: Job) -> PyResult<Bound<'_, PyAny>> {
    match job {
        Job::Log { level, logger, text } => Ok(("log", level, logger, text).into_pyobject(py)?.into_any()),
        Job::Credentials { callback, reply } => {
            let reply = Reply(Mutex::new(Some(reply)));
            let event_loop = callback.event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py));
            Ok(("credentials", callback.function.clone_ref(py), event_loop, reply)
                .into_pyobject(py)?
                .into_any())
        }
    }
}

fn take() -> Option<Job> {
    let mut queue = queue();
    let dropped = std::mem::take(&mut queue.dropped);
    if dropped > 0 {
        let text = format!("{dropped} log records were dropped: the handlers do not keep up");
        return Some(Job::Log { level: 30, logger: "murano_messaging".into(), text });
    }
    queue.jobs.pop_front()
}

/// Waits for something to do.
#[pyfunction]
pub fn next_job(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let next = poll_fn(|cx| {
        if let Some(job) = take() {
            return Poll::Ready(job);
        }
        queue().waker = Some(cx.waker().clone());
        // One that came between the two looks has woken nobody.
        take().map_or(Poll::Pending, Poll::Ready)
    });
    let job = wait::block_in_background(py, pin!(next))?;
    to_python(py, job)
}

/// What there is to do now, without waiting.
#[pyfunction]
pub fn pending_job(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    take().map(|job| to_python(py, job)).transpose()
}

/// Asks `callback` for credentials at each connect.
pub async fn credentials(callback: Arc<Callback>) -> Result<Credentials, Error> {
    let (reply, answer) = oneshot::channel();
    ask(Job::Credentials { callback, reply });
    answer.await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Authentication, "the credentials callback ended without an answer"))
    })
}

/// Starts the service of this process, and has Python call us at its end.
pub fn start(py: Python<'_>) -> PyResult<()> {
    py.import("murano_messaging._service")?.call_method0("start").map(|_| ())
}

/// A callback as it was given to `connect`.
pub fn callback(given: &Bound<'_, PyAny>) -> PyResult<Arc<Callback>> {
    if !given.is_callable() {
        return Err(errors::wrong_type("credentials", "a function that returns (username, password)", given));
    }
    let py = given.py();
    let event_loop = py.import("asyncio")?.call_method0("get_running_loop").ok().map(Bound::unbind);
    Ok(Arc::new(Callback { function: given.clone().unbind(), event_loop }))
}
