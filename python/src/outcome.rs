//! What an operation of the core results in, and what that is in Python.

use std::{pin::pin, sync::Arc};

use murano_messaging::{Client, Confirmation, Delivery, Error, Event, QueueInfo};
use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyList, PyType},
};

use crate::{
    client, confirmation, delivery,
    errors::OrPyErr,
    events,
    service::Source,
    wait::{self, Api, operation::Operation},
};

pub enum Outcome {
    None,
    Count(u32),
    Queue(QueueInfo),
    /// With the function that knows its credentials, if there is one.
    Client(Api, Box<Client>, Option<Arc<Source>>),
    Confirmation(Api, Confirmation),
    Delivery(Api, Option<Box<Delivery>>),
    Deliveries(Api, Vec<Delivery>),
    Event(Option<Box<Event>>),
    /// Something that is in Python already.
    Value(Py<PyAny>),
    /// The end of an asynchronous iteration.
    StopAsync,
}

impl Outcome {
    pub fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        match self {
            Self::Count(count) => Ok(count.into_pyobject(py)?.into_any()),
            Self::Queue(info) => {
                static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
                let class = CLASS.import(py, "murano_messaging._types", "QueueInfo")?;
                class.call1((info.name, info.message_count, info.consumer_count))
            }
            Self::Client(api, client, source) => client::to_python(py, api, *client, source),
            Self::Confirmation(api, confirmation) => confirmation::to_python(py, api, confirmation),
            Self::Delivery(api, Some(delivery)) => delivery::to_python(py, api, *delivery),
            Self::None | Self::Delivery(_, None) | Self::Event(None) => Ok(py.None().into_bound(py)),
            Self::Deliveries(api, deliveries) => {
                let list = PyList::empty(py);
                for delivery in deliveries {
                    list.append(delivery::to_python(py, api, delivery)?)?;
                }
                Ok(list.into_any())
            }
            Self::Event(Some(event)) => events::to_python(py, &event),
            Self::Value(value) => Ok(value.into_bound(py)),
            Self::StopAsync => Err(pyo3::exceptions::PyStopAsyncIteration::new_err(())),
        }
    }
}

/// Does `work` in the way of `api`: waits for it, or returns what to await.
pub fn run<F>(py: Python<'_>, api: Api, work: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = Result<Outcome, Error>> + Send + 'static,
{
    match api {
        Api::Blocking => block(py, work),
        Api::Asyncio => Ok(Bound::new(py, Operation::new(Box::pin(work)))?.into_any()),
    }
}

/// As [`run`], for work that takes something that is often there already: other tasks have their turns all the same.
pub fn run_fair<F>(py: Python<'_>, api: Api, work: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = Result<Outcome, Error>> + Send + 'static,
{
    match api {
        Api::Blocking => block(py, work),
        Api::Asyncio => Ok(Bound::new(py, Operation::fair(Box::pin(work)))?.into_any()),
    }
}

fn block<F>(py: Python<'_>, work: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = Result<Outcome, Error>>,
{
    wait::block(py, pin!(work))?.or_py(py)?.into_python(py)
}

/// Does the `work` that ends a block. An error of it does not replace what led out of the block, if anything did.
pub fn leave<'py, F>(
    py: Python<'py>,
    api: Api,
    led_out: Option<&Bound<'py, PyType>>,
    work: PyResult<F>,
) -> PyResult<Bound<'py, PyAny>>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let by_exception = led_out.is_some();
    let work = match work {
        Err(_) if by_exception => return run(py, api, async { Ok(Outcome::None) }),
        work => work?,
    };
    run(py, api, async move {
        match work.await {
            Err(error) if by_exception => {
                tracing::warn!(target: "murano_messaging::client", "left by an exception, and not in order: {error}");
            }
            result => result?,
        }
        Ok(Outcome::None)
    })
}
