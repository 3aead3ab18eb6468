//! The embedded broker: served on a port, and made to fail in tests.

use std::{
    io,
    pin::pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use murano_messaging::Broker as Core;
use pyo3::{
    exceptions::PyOSError,
    prelude::*,
    sync::PyOnceLock,
    types::{PyTuple, PyType},
};
use tokio::{runtime::Builder, sync::oneshot};

use crate::{arguments, errors, process::Owned, runtime, wait};

/// An embedded RabbitMQ for tests and development, in this process. **It keeps nothing on disk.**
///
/// * `name`: the broker that `memory://name` means in this process, made if there is none; a new one without it. Letters,
///   digits, `.`, `_` and `-`.
///
/// Clients in this process connect to `uri`; others to what `listen` returns. There is the user `guest` with password `guest`,
/// and the virtual host `/`.
///
/// A broker lives as long as the process, also when nothing refers to it any more: `memory://name` finds what an earlier test
/// left. `forget`, or the end of a `with` block, lets go of it.
///
/// >>> with mm.Broker() as broker, mm.connect(broker.uri) as client:
/// ...     _ = client.declare_queue("tasks")
/// ...     client.publish(b"one", routing_key="tasks")
/// ...     broker.restart()
/// ...     broker.queue_depth("tasks")
/// QueueDepth(ready=1, unacked=0, consumers=0)
#[pyclass(frozen, weakref, module = "murano_messaging")]
pub struct Broker {
    core: Owned<Core>,
    name: String,
    /// Dropped, each ends the thread that serves a port.
    serving: Mutex<Vec<Owned<oneshot::Sender<()>>>>,
}

/// In a thread of its own: the end of the interpreter waits for what the engine has left to do, and a broker serves until
/// it is told to end.
fn serve(
    core: Core,
    host: String,
    port: u16,
    started: oneshot::Sender<io::Result<u16>>,
    end: oneshot::Receiver<()>,
) {
    let serve = async |started: oneshot::Sender<_>| match core.listen((host.as_str(), port)).await {
        Ok(listening) => {
            // The end is told by dropping the other side of `end`.
            let _ = started.send(Ok(listening.port()));
            let _ = end.await;
        }
        Err(error) => drop(started.send(Err(error))),
    };
    match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(serve(started)),
        Err(error) => drop(started.send(Err(error))),
    }
}

impl Broker {
    /// Does something to the broker, and has the connections notice.
    fn change(&self, py: Python<'_>, change: impl FnOnce(&Core) + Send) -> PyResult<()> {
        let core = self.core.get()?;
        // The engines may hold the broker's lock.
        py.detach(|| change(core));
        runtime::call_back(py);
        Ok(())
    }
}

#[pymethods]
impl Broker {
    #[new]
    #[pyo3(signature = (name=None), text_signature = "(name=None)")]
    fn new(name: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let name = match name {
            Some(name) => arguments::text("name", name)?,
            None => format!("murano-messaging.{}", NUMBER.fetch_add(1, Ordering::Relaxed)),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || !name.chars().all(fits) {
            return Err(errors::invalid(format!(
                "{name:?} cannot be the name of an embedded broker: letters, digits, '.', '_' and '-'"
            )));
        }
        Ok(Self { core: Owned::new(Core::named(&name)), name, serving: Mutex::default() })
    }

    // ---- reaching it -----------------------------------------------------------------------------------------

    /// What clients in this process connect to: `memory://name`.
    #[getter]
    fn uri(&self) -> String {
        format!("memory://{}", self.name)
    }

    /// Serves the broker over TCP, for other processes and other libraries, until it is forgotten or this object is gone; returns
    /// the URI. Port 0 is a free one. Raises `OSError` when the address cannot be had.
    #[pyo3(signature = (host="127.0.0.1", port=0))]
    fn listen(&self, py: Python<'_>, host: &str, port: u16) -> PyResult<String> {
        let core = self.core.get()?.clone();
        let (started, starts) = oneshot::channel();
        let (serving, end) = oneshot::channel();
        let address = host.to_owned();
        thread::Builder::new()
            .name("murano-messaging-broker".into())
            .spawn(move || serve(core, address, port, started, end))?;
        let port = match wait::block(py, pin!(starts))? {
            Ok(port) => port?,
            Err(_) => return Err(PyOSError::new_err("the thread of the broker has ended")),
        };
        self.serving.lock().unwrap_or_else(PoisonError::into_inner).push(Owned::new(serving));
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        Ok(format!("amqp://guest:guest@{host}:{port}"))
    }

    /// Lets go of the broker: `memory://name` is a new one from now on, and its ports are closed. Clients that are connected stay
    /// so.
    fn forget(&self, py: Python<'_>) -> PyResult<()> {
        self.core.get()?;
        let serving = std::mem::take(&mut *self.serving.lock().unwrap_or_else(PoisonError::into_inner));
        py.detach(|| {
            drop(serving);
            Core::forget(&self.name);
        });
        Ok(())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.forget(py)
    }

    // ---- watching it -----------------------------------------------------------------------------------------

    /// What a queue of virtual host `/` holds, as `QueueDepth`; `None` when there is none of that name.
    fn queue_depth<'py>(&self, py: Python<'py>, queue: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let core = self.core.get()?;
        let Some(depth) = py.detach(|| core.queue_depth(queue)) else { return Ok(None) };
        let class = CLASS.import(py, "murano_messaging._types", "QueueDepth")?;
        class.call1((depth.ready, depth.unacked, depth.consumers)).map(Some)
    }

    /// How many connections are open.
    fn connections(&self, py: Python<'_>) -> PyResult<usize> {
        let core = self.core.get()?;
        Ok(py.detach(|| core.connections()))
    }

    // ---- users and virtual hosts -----------------------------------------------------------------------------

    /// Adds a user, or gives it another password.
    fn add_user(&self, py: Python<'_>, name: &str, password: &str) -> PyResult<()> {
        self.change(py, |core| core.add_user(name, password))
    }

    /// Removes a user; its connections stay.
    fn remove_user(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        self.change(py, |core| core.remove_user(name))
    }

    /// Whom SASL EXTERNAL logs in as: clients in this process. `None` refuses it.
    fn external_user(&self, py: Python<'_>, name: Option<&str>) -> PyResult<()> {
        self.change(py, |core| core.external_user(name))
    }

    /// Adds a virtual host.
    fn add_vhost(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        self.change(py, |core| core.add_vhost(name))
    }

    /// The largest message body that is taken, in bytes (128 MiB by default); 406 for a larger one.
    fn max_message_size(&self, py: Python<'_>, bytes: u64) -> PyResult<()> {
        self.change(py, |core| core.max_message_size(bytes))
    }

    // ---- faults ----------------------------------------------------------------------------------------------

    /// Closes every connection with a reply code and text, as `rabbitmqctl close_all_connections` does with 320.
    #[pyo3(signature = (code=320, text="CONNECTION_FORCED - closed by a test"))]
    fn close_connections(&self, py: Python<'_>, code: u16, text: &str) -> PyResult<()> {
        self.change(py, |core| core.close_connections(code, text))
    }

    /// Cuts every connection, without a word.
    fn drop_connections(&self, py: Python<'_>) -> PyResult<()> {
        self.change(py, Core::drop_connections)
    }

    /// Raises an alarm, as for lack of memory: connections that publish are told and no longer read.
    #[pyo3(signature = (reason="low on memory"))]
    fn block(&self, py: Python<'_>, reason: &str) -> PyResult<()> {
        self.change(py, |core| core.block(reason))
    }

    /// Ends the alarm.
    fn unblock(&self, py: Python<'_>) -> PyResult<()> {
        self.change(py, Core::unblock)
    }

    /// Freezes the broker, or lets it go on: connections stay open and nothing is read or written, heartbeats included.
    #[pyo3(signature = (stalled=true), text_signature = "($self, stalled=True)")]
    fn stall(&self, py: Python<'_>, stalled: bool) -> PyResult<()> {
        self.change(py, |core| core.stall(stalled))
    }

    /// Restarts the broker: connections end without a word; durable queues and exchanges stay, with the bindings between them
    /// and their persistent messages.
    fn restart(&self, py: Python<'_>) -> PyResult<()> {
        self.change(py, Core::restart)
    }

    /// Whether logins are refused, whatever the password.
    #[pyo3(signature = (refuse=true), text_signature = "($self, refuse=True)")]
    fn refuse_logins(&self, py: Python<'_>, refuse: bool) -> PyResult<()> {
        self.change(py, |core| core.refuse_logins(refuse))
    }

    /// Whether new connections are refused, as by a broker that is down.
    #[pyo3(signature = (refuse=true), text_signature = "($self, refuse=True)")]
    fn refuse_connections(&self, py: Python<'_>, refuse: bool) -> PyResult<()> {
        self.change(py, |core| core.refuse_connections(refuse))
    }

    fn __repr__(&self) -> String {
        format!("<Broker {}>", self.uri())
    }
}
