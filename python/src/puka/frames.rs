//! Results as Puka's dicts: one class for each method of AMQP, in `murano_messaging/compat/puka/spec.py`.

use std::sync::Arc;

use murano_messaging::{Delivery, Error, QueueInfo, ServerInfo, TlsFailure};
use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyString, PyTuple, PyType},
};

use super::fields::{self, BodyType};

/// The classes of frames that have no content; the order is that of [`CLASSES`].
#[derive(Clone, Copy, Debug)]
pub enum Frame {
    /// Without a name: what Puka gave for a confirmed publish.
    Bare,
    ConnectionCloseOk,
    ExchangeDeclareOk,
    ExchangeDeleteOk,
    ExchangeBindOk,
    ExchangeUnbindOk,
    QueueBindOk,
    QueueUnbindOk,
    QueuePurgeOk,
    QueueDeleteOk,
    QosOk,
    QueueDeclareOk,
    CancelOk,
    GetEmpty,
    GetOk,
    Deliver,
    Return,
    ConnectionStart,
}

const CLASSES: [&str; 18] = [
    "Frame",
    "FrameConnectionCloseOk",
    "FrameExchangeDeclareOk",
    "FrameExchangeDeleteOk",
    "FrameExchangeBindOk",
    "FrameExchangeUnbindOk",
    "FrameQueueBindOk",
    "FrameQueueUnbindOk",
    "FrameQueuePurgeOk",
    "FrameQueueDeleteOk",
    "FrameBasicQosOk",
    "FrameQueueDeclareOk",
    "FrameBasicCancelOk",
    "FrameBasicGetEmpty",
    "FrameBasicGetOk",
    "FrameBasicDeliver",
    "FrameBasicReturn",
    "FrameConnectionStart",
];

/// A result that nobody has asked for yet.
pub enum Given {
    Empty(Frame),
    Queue(QueueInfo),
    Count(Frame, u32),
    Cancelled(String),
    Connected(Option<Arc<ServerInfo>>),
    GetEmpty,
    Delivery(Box<Delivered>),
    Failed(Error),
    /// A delivery tag was settled, by a method of class `basic`, that the broker has not given.
    UnknownTag {
        tag: u64,
        method: u16,
    },
}

/// A delivery on its way to the application.
pub struct Delivered {
    pub core: Delivery,
    /// By what number the application settles it.
    pub tag: u64,
}

fn spec(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static MODULE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("murano_messaging.compat.puka.spec")?.into_any().unbind())
    })?;
    Ok(module.bind(py))
}

fn make(py: Python<'_>, frame: Frame) -> PyResult<Bound<'_, PyDict>> {
    static KNOWN: PyOnceLock<Vec<Py<PyType>>> = PyOnceLock::new();
    let known = KNOWN.get_or_try_init(py, || {
        let module = spec(py)?;
        CLASSES
            .iter()
            .map(|name| Ok(module.getattr(*name)?.cast_into::<PyType>()?.unbind()))
            .collect::<PyResult<Vec<_>>>()
    })?;
    Ok(known[frame as usize].bind(py).call0()?.cast_into::<PyDict>()?)
}

/// A result in Python. `promise` is its promise's number.
pub fn to_python<'py>(
    py: Python<'py>,
    given: &Given,
    promise: u64,
    body_type: BodyType,
) -> PyResult<Bound<'py, PyDict>> {
    match given {
        Given::Empty(frame) => make(py, *frame),
        Given::Queue(info) => {
            let frame = make(py, Frame::QueueDeclareOk)?;
            frame.set_item("queue", &info.name)?;
            frame.set_item("message_count", info.message_count)?;
            frame.set_item("consumer_count", info.consumer_count)?;
            Ok(frame)
        }
        Given::Count(kind, count) => {
            let frame = make(py, *kind)?;
            frame.set_item("message_count", count)?;
            Ok(frame)
        }
        Given::Cancelled(tag) => {
            let frame = make(py, Frame::CancelOk)?;
            frame.set_item("consumer_tag", tag)?;
            Ok(frame)
        }
        Given::GetEmpty => {
            let frame = make(py, Frame::GetEmpty)?;
            frame.set_item("cluster_id", "")?;
            frame.set_item("empty", true)?;
            Ok(frame)
        }
        Given::Connected(server) => {
            let frame = make(py, Frame::ConnectionStart)?;
            if let Some(server) = server {
                frame.set_item("version_major", server.version.0)?;
                frame.set_item("version_minor", server.version.1)?;
                frame.set_item("server_properties", fields::to_dict(py, &server.properties)?)?;
                frame.set_item("mechanisms", &server.mechanisms)?;
                frame.set_item("locales", &server.locales)?;
            }
            Ok(frame)
        }
        Given::Delivery(delivered) => delivery(py, delivered, promise, body_type),
        Given::Failed(error) => failed(py, error, body_type),
        Given::UnknownTag { tag, method } => unknown_tag(py, *tag, *method),
    }
}

fn delivery<'py>(
    py: Python<'py>,
    delivered: &Delivered,
    promise: u64,
    body_type: BodyType,
) -> PyResult<Bound<'py, PyDict>> {
    let core = &delivered.core;
    let message_count = core.message_count();
    let frame = make(py, if message_count.is_some() { Frame::GetOk } else { Frame::Deliver })?;
    if message_count.is_none() {
        frame.set_item(pyo3::intern!(py, "consumer_tag"), core.consumer_tag())?;
    }
    frame.set_item(pyo3::intern!(py, "delivery_tag"), delivered.tag)?;
    frame.set_item(pyo3::intern!(py, "redelivered"), core.redelivered())?;
    frame.set_item(pyo3::intern!(py, "exchange"), core.exchange())?;
    frame.set_item(pyo3::intern!(py, "routing_key"), core.routing_key())?;
    if let Some(count) = message_count {
        frame.set_item(pyo3::intern!(py, "message_count"), count)?;
    }
    frame.set_item(pyo3::intern!(py, "body"), fields::body(py, core.body(), body_type)?)?;
    frame.set_item(pyo3::intern!(py, "headers"), fields::headers(py, core.properties())?)?;
    frame.set_item(pyo3::intern!(py, "promise_number"), promise)?;
    Ok(frame)
}

fn tls_failure(failure: TlsFailure) -> String {
    format!("{failure:?}")
}

/// What RabbitMQ closes the channel with.
fn unknown_tag(py: Python<'_>, tag: u64, method: u16) -> PyResult<Bound<'_, PyDict>> {
    let text = format!("PRECONDITION_FAILED - unknown delivery tag {tag}");
    let reply = (406, &text, 60, method);
    let none = py.None();
    let arguments = ("PreconditionFailed", &text, reply, &none, &none, &none);
    Ok(spec(py)?.call_method1("failed", arguments)?.cast_into::<PyDict>()?)
}

/// The frame of an error, with its exception: which one is decided in `spec.py`.
fn failed<'py>(py: Python<'py>, error: &Error, body_type: BodyType) -> PyResult<Bound<'py, PyDict>> {
    let kind = PyString::new(py, &format!("{:?}", error.kind()));
    let reply = match error.reply() {
        Some(reply) => {
            (reply.code, &reply.text, reply.class_id, reply.method_id).into_pyobject(py)?.into_any()
        }
        None => py.None().into_bound(py),
    };
    let returned = match error.returned() {
        Some(returned) => {
            let frame = make(py, Frame::Return)?;
            frame.set_item("reply_code", returned.reply_code)?;
            frame.set_item("reply_text", &returned.reply_text)?;
            frame.set_item("exchange", &returned.exchange)?;
            frame.set_item("routing_key", &returned.routing_key)?;
            frame.set_item("body", fields::body(py, returned.message.body(), body_type)?)?;
            frame.set_item("headers", fields::headers(py, returned.message.properties())?)?;
            frame.into_any()
        }
        None => py.None().into_bound(py),
    };
    let tls = error.tls_failure().map(tls_failure);
    let arguments =
        (kind, error.to_string(), reply, returned, tls, error.implied_reply_code()).into_pyobject(py)?;
    let frame = spec(py)?.call_method1("failed", arguments.cast_into::<PyTuple>()?)?;
    Ok(frame.cast_into::<PyDict>()?)
}
