//! The embedded broker on a port, for `python -m murano_messaging broker`.

use std::pin::pin;

use murano_messaging::{Broker as Core, broker::Listening};
use pyo3::{exceptions::PyOSError, prelude::*};

use crate::{engine, process::Owned, wait};

/// An embedded broker that is served over TCP as long as this object lives.
#[pyclass(frozen, module = "murano_messaging._native")]
pub struct ServedBroker {
    listening: Owned<Listening>,
}

#[pymethods]
impl ServedBroker {
    #[new]
    fn new(py: Python<'_>, host: String, port: u16) -> PyResult<Self> {
        let broker = Core::new();
        let serving = engine::handle(py)?.spawn(async move { broker.listen((host.as_str(), port)).await });
        match wait::block(py, pin!(serving))? {
            Ok(Ok(listening)) => Ok(Self { listening: Owned::new(listening) }),
            Ok(Err(error)) => Err(error.into()),
            Err(error) => Err(PyOSError::new_err(error.to_string())),
        }
    }

    /// The port it listens on.
    #[getter]
    fn port(&self) -> PyResult<u16> {
        Ok(self.listening.get()?.port())
    }
}
