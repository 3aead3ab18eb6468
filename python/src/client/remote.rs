//! RPC and notifications: what `_rpc.py` and `_notifications.py` begin with.

use pyo3::{prelude::*, types::PyDict};

use super::BaseClient;
use crate::rpc::{self, RpcTransport};

#[pymethods]
impl BaseClient {
    #[pyo3(signature = (options=None))]
    fn _rpc_transport<'py>(
        &self,
        py: Python<'py>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, RpcTransport>> {
        rpc::transport(py, self.api, self.core()?, self.transports.get()?, options)
    }
}
