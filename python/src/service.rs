//! What the core asks of Python: log records, and credentials. Python threads (`murano_messaging/_service.py`) do it, so
//! that the engine never waits for the interpreter: one, and under eventlet and gevent a green one in each hub that connects.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Poll, Waker},
    thread,
    time::Duration,
};

use murano_messaging::{Credentials, Error, ErrorKind};
use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    sync::PyOnceLock,
    types::{PyWeakrefMethods, PyWeakrefReference},
};
use tokio::sync::oneshot;

use crate::{callback::Callback, errors, process::generation, wait, wait::Api};

/// So many jobs are kept for a service that does not keep up; further log records are dropped, and counted.
const KEPT: usize = 1000;

pub enum Job {
    Log { level: u8, logger: String, text: String },
    Credentials { source: Arc<Source>, reply: oneshot::Sender<Result<Credentials, Error>> },
}

/// A function that knows the credentials, and the asyncio loop to run it in if it is a coroutine function.
pub struct Source {
    pub function: Callback,
    event_loop: Mutex<Option<Py<PyWeakrefReference>>>,
}

/// Somebody who does the jobs: a thread, or a green thread in the hub of a thread.
struct Server {
    number: u64,
    /// The thread of the hub; a hub that nobody runs any more does no jobs. `None` for a thread of its own.
    hub: Option<Weak<Life>>,
    waker: Option<Waker>,
}

impl Server {
    fn lives(&self) -> bool {
        self.hub.as_ref().is_none_or(|thread| thread.strong_count() > 0)
    }
}

struct Queue {
    jobs: VecDeque<Job>,
    servers: Vec<Server>,
    /// The number of the last server.
    last: u64,
    dropped: u64,
}

impl Queue {
    /// Those who may do a job now. Handlers and callbacks belong to the hubs, if there are some: all of them, because one
    /// that does not run at the moment does not do it.
    fn wakers(&mut self) -> Vec<Waker> {
        self.servers.retain(Server::lives);
        let has_hub = self.has_hub();
        let mut those = Vec::new();
        for server in &mut self.servers {
            if server.hub.is_some() == has_hub {
                those.extend(server.waker.take());
            }
        }
        those
    }

    fn has_hub(&self) -> bool {
        self.servers.iter().any(|server| server.hub.is_some() && server.lives())
    }
}

/// One for each fork on the way here: the lock of the parent's may have been taken at the fork.
static QUEUES: [Mutex<Queue>; 16] =
    [const { Mutex::new(Queue { jobs: VecDeque::new(), servers: Vec::new(), last: 0, dropped: 0 }) }; 16];

/// That of a thread with a hub.
struct Life;

impl Drop for Life {
    fn drop(&mut self) {
        // It may have been the last hub, and what it left undone is for others to do.
        wake();
    }
}

thread_local! {
    static THREAD: Arc<Life> = Arc::new(Life);
}

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
    drop(queue);
    wake();
}

fn wake() {
    let wakers = queue().wakers();
    wakers.into_iter().for_each(Waker::wake);
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
        Job::Credentials { source, reply } => {
            let reply = Reply(Mutex::new(Some(reply)));
            let function = source.function.get(py);
            let event_loop = source.event_loop(py);
            Ok(("credentials", function, event_loop, reply).into_pyobject(py)?.into_any())
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

/// A number for a server that the caller is about to start, in the hub of this thread or as a thread of its own; `None`
/// when there is one already that will do.
#[pyfunction]
pub fn new_server(in_hub: bool) -> Option<u64> {
    let hub = in_hub.then(|| THREAD.with(Arc::downgrade));
    let mut queue = queue();
    let will_do = |server: &Server| match (&server.hub, &hub) {
        (Some(its), Some(this)) => its.ptr_eq(this),
        (its, this) => its.is_none() && this.is_none(),
    };
    if queue.servers.iter().any(will_do) {
        return None;
    }
    queue.last += 1;
    let number = queue.last;
    queue.servers.push(Server { number, hub, waker: None });
    Some(number)
}

/// The server could not be started, or has ended.
#[pyfunction]
pub fn end_server(server: u64) {
    queue().servers.retain(|known| known.number != server);
    wake();
}

/// Waits for something to do.
#[pyfunction]
pub fn next_job(py: Python<'_>, server: u64) -> PyResult<Bound<'_, PyAny>> {
    let next = poll_fn(|cx| {
        {
            let mut queue = queue();
            let has_hub = queue.has_hub();
            if let Some(known) = queue.servers.iter_mut().find(|known| known.number == server) {
                known.waker = Some(cx.waker().clone());
                // Handlers and callbacks belong to the hub, if there is one.
                if known.hub.is_none() && has_hub {
                    return Poll::Pending;
                }
            }
        }
        // After the waker is there: one that comes now wakes it.
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

/// Lets the other threads run for so many seconds, also where `time.sleep` is for green threads.
#[pyfunction]
pub fn pause(py: Python<'_>, seconds: f64) {
    py.detach(|| thread::sleep(Duration::from_secs_f64(seconds)));
}

/// Asks `source` for credentials at each connect.
pub async fn credentials(source: Arc<Source>) -> Result<Credentials, Error> {
    let (reply, answer) = oneshot::channel();
    ask(Job::Credentials { source, reply });
    answer.await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Authentication, "the credentials callback ended without an answer"))
    })
}

/// Starts the service of this process.
pub fn start(py: Python<'_>) -> PyResult<()> {
    py.import("murano_messaging._service")?.call_method0("start").map(|_| ())
}

/// Does what is left at the end of the interpreter.
pub fn finish(py: Python<'_>) -> PyResult<()> {
    py.import("murano_messaging._service")?.call_method0("finish").map(|_| ())
}

/// Somebody is connecting here: sees to it that the service can be counted on.
pub fn renew(py: Python<'_>) -> PyResult<()> {
    static RENEW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    RENEW.import(py, "murano_messaging._service", "renew")?.call0().map(|_| ())
}

impl Source {
    /// A callback as it was given to `connect`.
    pub fn new(given: &Bound<'_, PyAny>, api: Api) -> PyResult<Arc<Self>> {
        if !given.is_callable() {
            let expected = "a function that returns (username, password)";
            return Err(errors::wrong_type("credentials", expected, given));
        }
        let inspect = given.py().import("inspect")?;
        let is_coroutine = |function: &Bound<'_, PyAny>| {
            inspect.call_method1("iscoroutinefunction", (function,))?.is_truthy()
        };
        if api == Api::Blocking && (is_coroutine(given)? || is_coroutine(&given.getattr("__call__")?)?) {
            return Err(PyTypeError::new_err(
                "credentials is a coroutine function: give murano_messaging.connect an ordinary one, or use \
                 murano_messaging.aio.connect",
            ));
        }
        Ok(Arc::new(Self { function: Callback::new(given.clone().unbind()), event_loop: Mutex::default() }))
    }

    fn known_loop(&self) -> MutexGuard<'_, Option<Py<PyWeakrefReference>>> {
        self.event_loop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop that runs now is the one to run a coroutine function in.
    pub fn note_loop(&self, py: Python<'_>) -> PyResult<()> {
        let event_loop = PyWeakrefReference::new(&wait::running_loop(py)?)?.unbind();
        let before = self.known_loop().replace(event_loop);
        drop(before);
        Ok(())
    }

    fn event_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.known_loop().as_ref().and_then(|event_loop| event_loop.bind(py).upgrade())
    }
}
