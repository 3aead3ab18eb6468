//! What a call or a notification may fail with.

use std::{fmt, time::Duration};

use super::Failure;

/// The result of an operation in this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong with a call, a cast or a notification.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The method was called at the server and raised.
    Remote(Box<Failure>),
    /// No answer within the timeout (oslo.messaging's `MessagingTimeout`). Whether the method was called is unknown.
    Timeout {
        /// What was called, and where.
        call: String,
        /// How long the caller waited.
        waited: Duration,
    },
    /// No queue takes the message, and none could be made (oslo.messaging's `MessageUndeliverable`).
    Undeliverable(crate::Error),
    /// The caller asked for something that cannot be: a call to all servers, a version above the cap. Nothing was sent.
    Invalid(String),
    /// What a peer sent is not in the format, or an argument or result is not what its type asks for.
    Malformed(String),
    /// The connection, or what the broker said.
    Messaging(crate::Error),
}

impl Error {
    /// The failure of the remote method, if it was called and raised.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Error::Remote(failure) => Some(failure),
            _ => None,
        }
    }

    /// Whether the caller does not know if the message was taken.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Error::Timeout { .. } => true,
            Error::Messaging(error) => error.outcome_unknown(),
            Error::Remote(_) | Error::Undeliverable(_) | Error::Invalid(_) | Error::Malformed(_) => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Remote(failure) => write!(f, "remote error: {failure}"),
            Error::Timeout { call, waited } => {
                write!(f, "no answer to {call} within {} s", waited.as_secs_f64())
            }
            Error::Undeliverable(error) => write!(f, "no queue takes the message: {error}"),
            Error::Invalid(text) | Error::Malformed(text) => f.write_str(text),
            Error::Messaging(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Messaging(error) | Error::Undeliverable(error) => Some(error),
            _ => None,
        }
    }
}

impl From<crate::Error> for Error {
    fn from(error: crate::Error) -> Self {
        match error.kind() {
            crate::ErrorKind::Unroutable => Error::Undeliverable(error),
            _ => Error::Messaging(error),
        }
    }
}
