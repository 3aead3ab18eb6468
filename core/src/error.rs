//! What can go wrong: one error type, told apart by its [`ErrorKind`].
//!
//! A message says what failed, where, and what to do. No error carries a password.

use std::{error::Error as StdError, fmt, sync::Arc};

use crate::message::Returned;

/// The result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

// Reply codes of the broker (AMQP 0-9-1 section 1.2).
pub(crate) const ACCESS_REFUSED: u16 = 403;
pub(crate) const NOT_FOUND: u16 = 404;
pub(crate) const RESOURCE_LOCKED: u16 = 405;
pub(crate) const PRECONDITION_FAILED: u16 = 406;
pub(crate) const COMMAND_INVALID: u16 = 503;

/// What kind of thing went wrong; match on this, never on the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller asked for something that cannot be; nothing was sent.
    InvalidArgument,
    /// No host of the list could be reached, or none answered within the connect deadline.
    ConnectFailed,
    /// The connection was lost and is not being recovered.
    ConnectionLost,
    /// The broker closed the connection on purpose (320, an operator or a shutdown) and it is not being recovered.
    ConnectionForced,
    /// The client was closed by its owner.
    Closed,
    /// The publish was cancelled by its owner.
    Cancelled,
    /// The broker refused the login.
    Authentication,
    /// The virtual host does not exist, or the user may not enter it.
    VhostRefused,
    /// A limit on connections or channels was reached (the broker's or the negotiated one).
    LimitReached,
    /// The TLS handshake failed; [`Error::tls_failure`] says at which check.
    Tls,
    /// The deadline passed; [`Error::outcome_unknown`] says whether the operation may have taken effect.
    Timeout,
    /// The broker blocks publishers (memory or disk alarm) and the deadline passed.
    Blocked,
    /// A mandatory message could not be routed; [`Error::returned`] has it.
    Unroutable,
    /// The broker refused responsibility for a message (`basic.nack`).
    Nacked,
    /// 404: no such queue or exchange.
    NotFound,
    /// 403: permission denied, or the queue is in exclusive use by another consumer.
    AccessRefused,
    /// 405: the queue is exclusive to another connection.
    ResourceLocked,
    /// 406: the entity exists with other properties, a delivery tag is unknown, a consumer timed out.
    PreconditionFailed,
    /// The broker refused for another reason of its own; [`Error::reply_code`] has the code.
    Refused,
    /// The broker cancelled the consumer (its queue was deleted or its node failed).
    ConsumerCancelled,
    /// The delivery was acked, nacked or rejected before.
    AlreadySettled,
    /// The peer broke the protocol or one of our bounds; the message names it.
    Protocol,
    /// A body is not the JSON that was asked for.
    Json,
}

/// Which check of a TLS handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsFailure {
    /// The broker's certificate has expired or is not valid yet.
    Expired,
    /// The broker's certificate is for another host name.
    WrongName,
    /// The broker's certificate was issued by none of the trusted authorities (self-signed ones included).
    UnknownIssuer,
    /// The broker's certificate is of a form that is not accepted (X.509 v1, a weak signature ...).
    UnsupportedCertificate,
    /// The broker speaks no TLS version that is accepted here (1.2 and 1.3).
    ProtocolVersion,
    /// The broker and we have no cipher suite, no key exchange or no kind of key in common.
    NothingInCommon,
    /// The broker wants a client certificate and none was given.
    ClientCertificateRequired,
    /// The broker does not accept the client certificate.
    ClientCertificateRefused,
    /// The peer does not speak TLS on this port.
    NotTls,
    /// Anything else; the source has the details.
    Other,
}

/// What the broker said when it refused: `connection.close` or `channel.close` (AMQP 0-9-1 section 4.10.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The AMQP reply code, e.g. 404.
    pub code: u16,
    /// The broker's text, e.g. `NOT_FOUND - no queue 'x' in vhost '/'`.
    pub text: String,
    /// Class of the method that was refused; 0 if none.
    pub class_id: u16,
    /// Id of the method that was refused; 0 if none.
    pub method_id: u16,
}

/// The error of this crate. Cheap to clone: one lost connection fails many operations.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone, Default)]
struct Details {
    source: Option<Arc<dyn StdError + Send + Sync>>,
    reply: Option<Reply>,
    returned: Option<Box<Returned>>,
    tls: Option<TlsFailure>,
    foreseen: Option<u16>,
    outcome_unknown: bool,
}

struct Inner {
    kind: ErrorKind,
    message: String,
    details: Details,
}

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), details: Details::default() }))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// An invalid argument that is not sent because the broker would answer it with `code`.
    pub(crate) fn foreseen(code: u16, message: impl Into<String>) -> Self {
        Self::invalid(message).with(|d| d.foreseen = Some(code))
    }

    /// The same error, which says where it was found.
    pub(crate) fn within(&self, place: &str) -> Self {
        let (kind, details) = (self.0.kind, self.0.details.clone());
        Self(Arc::new(Inner { kind, message: format!("{place}: {}", self.0.message), details }))
    }

    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Protocol, message)
    }

    fn with(self, change: impl FnOnce(&mut Details)) -> Self {
        let mut inner = match Arc::try_unwrap(self.0) {
            Ok(inner) => inner,
            Err(shared) => {
                Inner { kind: shared.kind, message: shared.message.clone(), details: shared.details.clone() }
            }
        };
        change(&mut inner.details);
        Self(Arc::new(inner))
    }

    /// The same error in other words.
    pub(crate) fn with_message(self, message: String) -> Self {
        let Inner { kind, details, .. } = &*self.0;
        Self(Arc::new(Inner { kind: *kind, message, details: details.clone() }))
    }

    pub(crate) fn with_source(self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.with(|d| d.source = Some(Arc::new(source)))
    }

    pub(crate) fn with_reply(self, reply: Reply) -> Self {
        self.with(|d| d.reply = Some(reply))
    }

    pub(crate) fn with_returned(self, returned: Returned) -> Self {
        self.with(|d| d.returned = Some(Box::new(returned)))
    }

    pub(crate) fn with_tls_failure(self, failure: TlsFailure) -> Self {
        self.with(|d| d.tls = Some(failure))
    }

    /// The same error of an operation that may have taken effect: [`Self::outcome_unknown`] is true of it.
    #[must_use]
    pub fn with_outcome_unknown(self) -> Self {
        self.with(|d| d.outcome_unknown = true)
    }

    /// The error for a `channel.close` or `connection.close` of the broker. `what` says what was being done.
    pub(crate) fn from_reply(what: &str, reply: Reply) -> Self {
        let kind = match reply.code {
            320 => ErrorKind::ConnectionForced,
            402 => ErrorKind::VhostRefused,
            ACCESS_REFUSED => ErrorKind::AccessRefused,
            NOT_FOUND => ErrorKind::NotFound,
            RESOURCE_LOCKED => ErrorKind::ResourceLocked,
            PRECONDITION_FAILED => ErrorKind::PreconditionFailed,
            501..=505 => ErrorKind::Protocol,
            _ => ErrorKind::Refused,
        };
        let mut text = format!("the broker answered {} {}{}", reply.code, reply.text, advice(&reply));
        if !what.is_empty() {
            text.insert_str(0, &format!("{what}: "));
        }
        Self::new(kind, text).with_reply(reply)
    }

    /// As [`Self::from_reply`], for the method of an operation. That the broker does not know what was asked for, an exchange
    /// type for instance, is no fault of the connection, although it closes the connection over it: whoever retries what a
    /// lost connection fails must not retry that.
    pub(crate) fn refusal(what: &str, reply: Reply) -> Self {
        let error = Self::from_reply(what, reply);
        if error.kind() != ErrorKind::Protocol {
            return error;
        }
        let reply = error.reply().cloned();
        let refused = Self::new(ErrorKind::Refused, error.to_string());
        reply.map_or(error, |reply| refused.with_reply(reply))
    }

    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The broker's reply, where the broker spoke.
    pub fn reply(&self) -> Option<&Reply> {
        self.0.details.reply.as_ref()
    }

    /// The broker's reply code, where the broker spoke.
    pub fn reply_code(&self) -> Option<u16> {
        self.reply().map(|reply| reply.code)
    }

    /// The broker's reply text, where the broker spoke.
    pub fn reply_text(&self) -> Option<&str> {
        self.reply().map(|reply| reply.text.as_str())
    }

    /// The reply code that the broker would have answered with, for an [`ErrorKind::InvalidArgument`] that was not sent
    /// for that reason.
    pub fn implied_reply_code(&self) -> Option<u16> {
        self.0.details.foreseen
    }

    /// The message that came back, for [`ErrorKind::Unroutable`].
    pub fn returned(&self) -> Option<&Returned> {
        self.0.details.returned.as_deref()
    }

    /// Which check of the TLS handshake failed, for [`ErrorKind::Tls`].
    pub fn tls_failure(&self) -> Option<TlsFailure> {
        self.0.details.tls
    }

    /// Whether the operation may have taken effect all the same.
    ///
    /// For a publish, `false` means that the broker certainly never saw the message, or certainly refused it. Everything
    /// else is `true`: a publish that was sent, on this connection or on one before, and whose confirm never came. A
    /// `basic.nack` counts as a refusal, although a message that is routed to several queues may be in those that took it.
    pub fn outcome_unknown(&self) -> bool {
        self.0.details.outcome_unknown
    }
}

/// What to do about a refusal.
fn advice(reply: &Reply) -> &'static str {
    let says = |text: &str| reply.text.contains(text);
    match reply.code {
        NOT_FOUND if says("no queue") || says("no exchange") => {
            "; declare it first, or check the name and the virtual host"
        }
        PRECONDITION_FAILED if says("inequivalent arg") => {
            "; it exists with another value for that argument: declare it with the same, or delete it first"
        }
        PRECONDITION_FAILED if says("timed out") || says("timeout") => {
            "; settle deliveries sooner, or raise consumer_timeout at the broker"
        }
        ACCESS_REFUSED if says("exclusive use") => "; another consumer has it for itself",
        RESOURCE_LOCKED => "; it belongs to the connection that declared it as exclusive",
        _ => "",
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &self.0.kind).field("message", &self.0.message);
        if let Some(source) = &self.0.details.source {
            debug.field("source", source);
        }
        debug.finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.details.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<serde_json::Error> for Error {
    fn from(source: serde_json::Error) -> Self {
        Self::new(ErrorKind::Json, format!("not the expected JSON: {source}")).with_source(source)
    }
}
