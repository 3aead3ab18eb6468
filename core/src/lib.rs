//! A `RabbitMQ` client whose engine owns confirms, acks and recovery.
//!
//! | module | what it is |
//! |---|---|
//! | [`error`] | the error type and its kinds |
//! | [`message`] | messages, properties and header tables |
//! | [`topology`] | queues, exchanges and bindings to declare |

pub mod error;
pub mod message;
pub mod topology;
pub(crate) mod wire;

pub use error::{Error, ErrorKind, Result, TlsFailure};
pub use message::{FieldTable, IntoValue, Message, Properties, Returned, Value};
pub use topology::{Binding, Exchange, Overflow, Queue, QueueInfo, QueueType};
