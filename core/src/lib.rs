//! A `RabbitMQ` client whose engine owns confirms, acks and recovery.
//!
//! | module | what it is |
//! |---|---|
//! | [`error`] | the error type and its kinds |
//! | [`message`] | messages, properties and header tables |

pub mod error;
pub mod message;
pub(crate) mod wire;

pub use error::{Error, ErrorKind, Result, TlsFailure};
