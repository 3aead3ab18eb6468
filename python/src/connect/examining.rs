//! The checks of `murano-messaging doctor`.

use murano_messaging::doctor::{Check, examine};
use pyo3::{prelude::*, types::PyDict};

use super::{Within, options};
use crate::{outcome::run, runtime, service, wait::Api};

/// Examines each host of the URI, and calls `on_check` with each check, as JSON. The options are those of `connect`.
#[pyfunction]
#[pyo3(signature = (on_check, uri=None, **options), text_signature = "(on_check, uri=None, **options)")]
pub fn _examine<'py>(
    py: Python<'py>,
    on_check: Py<PyAny>,
    uri: Option<&Bound<'py, PyAny>>,
    options: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    // The function that knows the credentials, if there is one, is served as long as this is there.
    let (options, source) = options::options(py, Api::Blocking, uri, options)?;
    let report = move |check: &Check| {
        Python::attach(|py| {
            if let Err(error) = on_check.call1(py, (check.to_json(),)) {
                error.write_unraisable(py, None);
            }
        });
    };
    let future = Within { runtime: runtime::handle(py)?, future: Box::pin(examine(options, report)) };
    service::renew(py)?;
    run(py, Api::Blocking, async move {
        let _source = source;
        future.await.map(|_| ())
    })
}
