//! The embedded broker on a port, for `python -m murano_messaging broker`.

use std::{io, pin::pin, thread};

use murano_messaging::Broker as Core;
use pyo3::{exceptions::PyOSError, prelude::*};
use tokio::{runtime::Builder, sync::oneshot};

use crate::{process::Owned, wait};

/// An embedded broker that is served over TCP as long as this object lives.
#[pyclass(frozen, module = "murano_messaging._native")]
pub struct ServedBroker {
    port: u16,
    /// Dropped, it ends the broker's thread.
    _serving: Owned<oneshot::Sender<()>>,
}

/// In a thread of its own: the end of the interpreter waits for what the engine has left to do, and a broker serves until
/// it is told to end.
fn serve(host: String, port: u16, started: oneshot::Sender<io::Result<u16>>, end: oneshot::Receiver<()>) {
    let serve = async |started: oneshot::Sender<_>| match Core::new().listen((host.as_str(), port)).await {
        Ok(listening) => {
            // Whoever does not wait for it any more has dropped the other end of `end`.
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

#[pymethods]
impl ServedBroker {
    #[new]
    fn new(py: Python<'_>, host: String, port: u16) -> PyResult<Self> {
        let (started, starts) = oneshot::channel();
        let (serving, end) = oneshot::channel();
        thread::Builder::new()
            .name("murano-messaging-broker".into())
            .spawn(move || serve(host, port, started, end))?;
        match wait::block(py, pin!(starts))? {
            Ok(port) => Ok(Self { port: port?, _serving: Owned::new(serving) }),
            Err(_) => Err(PyOSError::new_err("the thread of the broker has ended")),
        }
    }

    /// The port it listens on.
    #[getter]
    fn port(&self) -> u16 {
        self.port
    }
}
