//! What the broker answers when it will not do something, with RabbitMQ's codes and texts.

use amq_protocol::types::ShortString;

use crate::wire::frame::Violation;

/// A reply code and its text (AMQP 0-9-1 section 1.1, constants).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub code: u16,
    pub text: String,
}

impl Refusal {
    pub fn new(code: u16, text: impl AsRef<str>) -> Self {
        let name = match code {
            320 => "CONNECTION_FORCED",
            403 => "ACCESS_REFUSED",
            404 => "NOT_FOUND",
            405 => "RESOURCE_LOCKED",
            406 => "PRECONDITION_FAILED",
            501 => "FRAME_ERROR",
            502 => "SYNTAX_ERROR",
            503 => "COMMAND_INVALID",
            504 => "CHANNEL_ERROR",
            505 => "UNEXPECTED_FRAME",
            506 => "RESOURCE_ERROR",
            530 => "NOT_ALLOWED",
            540 => "NOT_IMPLEMENTED",
            _ => "INTERNAL_ERROR",
        };
        Self { code, text: format!("{name} - {}", text.as_ref()) }
    }

    pub fn access(text: impl AsRef<str>) -> Self {
        Self::new(403, text)
    }

    pub fn precondition(text: impl AsRef<str>) -> Self {
        Self::new(406, text)
    }

    pub fn no_queue(name: &str, vhost: &str) -> Self {
        Self::new(404, format!("no queue '{name}' in vhost '{vhost}'"))
    }

    pub fn no_exchange(name: &str, vhost: &str) -> Self {
        Self::new(404, format!("no exchange '{name}' in vhost '{vhost}'"))
    }

    pub fn not_implemented(text: impl AsRef<str>) -> Self {
        Self::new(540, text)
    }

    /// Whether the whole connection ends, not just the channel (the "hard errors" of the specification).
    pub fn is_hard(&self) -> bool {
        !matches!(self.code, 311 | 313 | 403..=406)
    }

    /// The text as it fits into a short string.
    pub fn short_text(&self) -> ShortString {
        let mut text = self.text.clone();
        text.truncate((0..=255.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0));
        ShortString::try_new(text).unwrap_or_default()
    }
}

impl From<Violation> for Refusal {
    fn from(fault: Violation) -> Self {
        Self::new(fault.code, fault.text)
    }
}

/// An answer, or why there is none.
pub(super) type Answer<T = ()> = Result<T, Refusal>;
