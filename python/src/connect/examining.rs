//! The checks of `murano-messaging doctor`.

use murano_messaging::doctor::{Check, examine};
use pyo3::{prelude::*, types::PyDict};

use super::{Within, options};
use crate::{outcome::run, runtime, service, wait::Api};

/// Examines each host of the URI with a temporary queue of this name (the broker's choice if empty), and calls `on_check` with
/// each check, as JSON. The options are those of `connect`.
#[pyfunction]
#[pyo3(signature = (on_check, queue, uri, **options), text_signature = "(on_check, queue, uri, **options)")]
pub fn _examine<'py>(
    py: Python<'py>,
    on_check: Py<PyAny>,
    queue: String,
    uri: &Bound<'py, PyAny>,
    options: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    // The function that knows the credentials, if there is one, is served as long as this is there.
    let (options, source) = options::options(py, Api::Blocking, Some(uri), options)?;
    let report = move |check: &Check| {
        Python::attach(|py| {
            if let Err(error) = on_check.call1(py, (check.to_json(),)) {
                error.write_unraisable(py, None);
            }
        });
    };
    let examining = async move { examine(options, &queue, report).await };
    let future = Within { runtime: runtime::handle(py)?, future: Box::pin(examining) };
    service::renew(py)?;
    run(py, Api::Blocking, async move {
        let _source = source;
        future.await.map(|_| ())
    })
}
