//! The one place where errors become Python exceptions (`murano_messaging/errors.py`).

use murano_messaging::{Error, ErrorKind, TlsFailure};
use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError},
    prelude::*,
    sync::PyOnceLock,
    types::PyType,
};

use crate::{message, process, runtime};

/// The exception class of a kind.
fn class_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidArgument => "InvalidArgumentError",
        ErrorKind::ConnectFailed => "ConnectFailedError",
        ErrorKind::ConnectionLost => "ConnectionLostError",
        ErrorKind::ConnectionForced => "ConnectionForcedError",
        ErrorKind::Closed => "ClosedError",
        ErrorKind::Cancelled => "PublishCancelledError",
        ErrorKind::Authentication => "AuthenticationError",
        ErrorKind::VhostRefused => "VhostRefusedError",
        ErrorKind::LimitReached => "LimitReachedError",
        ErrorKind::Tls => "TlsError",
        ErrorKind::Timeout => "OperationTimeoutError",
        ErrorKind::Blocked => "BlockedError",
        ErrorKind::Unroutable => "UnroutableError",
        ErrorKind::Nacked => "NackedError",
        ErrorKind::NotFound => "NotFoundError",
        ErrorKind::AccessRefused => "AccessRefusedError",
        ErrorKind::ResourceLocked => "ResourceLockedError",
        ErrorKind::PreconditionFailed => "PreconditionFailedError",
        ErrorKind::Refused => "RefusedError",
        ErrorKind::ConsumerCancelled => "ConsumerCancelledError",
        ErrorKind::AlreadySettled => "AlreadySettledError",
        ErrorKind::Protocol => "ProtocolError",
        ErrorKind::Json => "JsonError",
        // A kind that this version does not know is still one of ours.
        _ => "MessagingError",
    }
}

fn tls_failure_name(failure: TlsFailure) -> &'static str {
    match failure {
        TlsFailure::Expired => "expired",
        TlsFailure::WrongName => "wrong_name",
        TlsFailure::UnknownIssuer => "unknown_issuer",
        TlsFailure::UnsupportedCertificate => "unsupported_certificate",
        TlsFailure::ProtocolVersion => "protocol_version",
        TlsFailure::NothingInCommon => "nothing_in_common",
        TlsFailure::ClientCertificateRequired => "client_certificate_required",
        TlsFailure::ClientCertificateRefused => "client_certificate_refused",
        TlsFailure::NotTls => "not_tls",
        _ => "other",
    }
}

/// The class of that name in `murano_messaging.errors`.
pub fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyType>> {
    static MODULE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || {
        py.import("murano_messaging.errors").map(|module| module.into_any().unbind())
    })?;
    Ok(module.bind(py).getattr(name)?.cast_into::<PyType>()?)
}

/// Has the classes at hand, also when the interpreter ends and nothing can be imported any more.
pub fn load(py: Python<'_>) -> PyResult<()> {
    class(py, "MessagingError").map(|_| ())
}

fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let value = class(py, class_name(error.kind()))?.call1((text(error),))?;
    if let Some(reply) = error.reply() {
        value.setattr("reply_code", reply.code)?;
        value.setattr("reply_text", &reply.text)?;
    }
    if error.outcome_unknown() {
        value.setattr("outcome_unknown", true)?;
    }
    if let Some(returned) = error.returned() {
        value.setattr("reply_code", returned.reply_code)?;
        value.setattr("reply_text", &returned.reply_text)?;
        value.setattr("returned", message::returned(py, returned)?)?;
    }
    if let Some(failure) = error.tls_failure() {
        value.setattr("tls_failure", tls_failure_name(failure))?;
    }
    Ok(value)
}

fn text(error: &Error) -> String {
    let mut text = error.to_string();
    if error.kind() == ErrorKind::Closed && process::is_exiting() {
        text.push_str(" (the interpreter is ending, and has closed all clients)");
    }
    text
}

/// The exception for an error, as a value.
pub fn to_value<'py>(py: Python<'py>, error: &Error) -> Bound<'py, PyAny> {
    to_py(py, error).into_value(py).into_bound(py).into_any()
}

/// The exception for an error.
pub fn to_py(py: Python<'_>, error: &Error) -> PyErr {
    match exception(py, error) {
        Ok(value) => PyErr::from_value(value),
        // What it is made of cannot be imported any more.
        Err(_) if process::is_exiting() => PyRuntimeError::new_err(text(error)),
        // Only when the package is broken.
        Err(error) => error,
    }
}

/// An argument that cannot be; nothing was sent.
pub fn invalid(message: impl Into<String>) -> PyErr {
    let error = Error::new(ErrorKind::InvalidArgument, message);
    Python::attach(|py| to_py(py, &error))
}

/// An argument of a wrong type, which is named with its module: NumPy's `bool` is none of Python's.
pub fn wrong_type(what: &str, expected: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let class = value.get_type();
    let found = class.fully_qualified_name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("{what} must be {expected}, not {found}"))
}

/// The use of something that was made in an earlier generation: before a fork, in the child.
pub fn forked(made_in: u32) -> PyErr {
    let text = if runtime::was_abandoned(made_in) {
        "the thread that drove the connections of this client has ended: make a new one (call connect())"
    } else {
        "this client belongs to the parent process: a forked child makes its own (call connect() after fork)"
    };
    Python::attach(|py| match class(py, "ForkedError").and_then(|class| class.call1((text,))) {
        Ok(value) => PyErr::from_value(value),
        Err(_) => PyRuntimeError::new_err(text),
    })
}

/// Results of the core, in methods that Python calls.
pub trait OrPyErr<T> {
    fn or_py(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrPyErr<T> for Result<T, Error> {
    fn or_py(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| to_py(py, &error))
    }
}

/// The end of the time that an operation had; whether it was done is not known.
pub fn timed_out(py: Python<'_>, message: &str) -> PyErr {
    to_py(py, &Error::new(ErrorKind::Timeout, message).with_outcome_unknown())
}

/// A body that is not the JSON that was asked for.
pub fn json(py: Python<'_>, message: &str) -> PyErr {
    to_py(py, &Error::new(ErrorKind::Json, message))
}
