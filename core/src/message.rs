//! Messages: a body, its properties and headers, and how it is to be published.
//!
//! A [`Message`] is built by methods that cannot fail; what could not be taken (a short string over 255 bytes, a header
//! value that `RabbitMQ` has no type for) is remembered and fails the publish with [`ErrorKind::InvalidArgument`] before
//! anything is sent.
//!
//! [`ErrorKind::InvalidArgument`]: crate::ErrorKind::InvalidArgument

mod check;
mod value;

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

pub use amq_protocol::{
    protocol::BasicProperties as Properties,
    types::{
        AMQPValue as Value, ByteArray, DecimalValue, FieldArray, FieldTable, LongString, ShortString,
        Timestamp,
    },
};
pub use value::IntoValue;

pub(crate) use check::{MAX_TTL_MS, check_short, check_table, millis};
pub(crate) use value::with_entry;

use crate::Result;

const TRANSIENT: u8 = 1;
const PERSISTENT: u8 = 2;

/// A message to publish, or one that came back or was delivered.
///
/// Cheap to clone as far as the body goes; properties and headers are copied.
///
/// ```
/// # use std::time::Duration;
/// # use murano_messaging::message::Message;
/// let message = Message::text("hello")
///     .correlation_id("plan-17")
///     .expiration(Duration::from_secs(60))
///     .header("attempt", 1);
/// assert!(message.is_persistent());
/// ```
#[derive(Clone)]
pub struct Message {
    pub(crate) properties: Properties,
    pub(crate) body: Bytes,
    /// `None` leaves it to the publisher's default.
    pub(crate) mandatory: Option<bool>,
    /// The first thing a builder method could not take.
    pub(crate) defect: Option<Box<str>>,
}

impl Message {
    /// A persistent message with `body` and no other property.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self {
            properties: Properties::default().with_delivery_mode(PERSISTENT),
            body: body.into(),
            mandatory: None,
            defect: None,
        }
    }

    /// A persistent message whose body is `value` as JSON, with content type `application/json`.
    ///
    /// Fails with [`ErrorKind::Json`](crate::ErrorKind::Json) if `value` cannot be serialized.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        Ok(Self::new(serde_json::to_vec(value)?).content_type("application/json"))
    }

    /// A persistent message whose body is `text`, with content type `text/plain` and content encoding `utf-8`.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(text.into()).content_type("text/plain").content_encoding("utf-8")
    }

    /// Whether the broker is to keep the message on disk (`delivery-mode` 2, the default) or only in memory (1).
    pub fn persistent(mut self, persistent: bool) -> Self {
        let mode = if persistent { PERSISTENT } else { TRANSIENT };
        self.properties = self.properties.with_delivery_mode(mode);
        self
    }

    /// Whether the publish fails when no queue takes the message (`mandatory` of `basic.publish`).
    ///
    /// Unset, [`Publisher::mandatory`](crate::Publisher::mandatory) and then
    /// [`Options::mandatory`](crate::Options::mandatory) decide; where nothing is said, a publish is mandatory, to whatever
    /// exchange. Two publishes are not, because RabbitMQ returns them although they arrive: a message with an `x-delay`
    /// header above 0 (the delayed message exchange), and an answer to a `amq.rabbitmq.reply-to` address.
    pub fn mandatory(mut self, mandatory: bool) -> Self {
        self.mandatory = Some(mandatory);
        self
    }

    /// MIME type of the body; at most 255 bytes.
    pub fn content_type(self, value: impl Into<String>) -> Self {
        self.short("content_type", value.into(), Properties::with_content_type)
    }

    /// Encoding of the body, e.g. `gzip`; at most 255 bytes.
    pub fn content_encoding(self, value: impl Into<String>) -> Self {
        self.short("content_encoding", value.into(), Properties::with_content_encoding)
    }

    /// Priority in a queue that was declared with `max_priority`; higher is sooner.
    pub fn priority(mut self, priority: u8) -> Self {
        self.properties = self.properties.with_priority(priority);
        self
    }

    /// What the answer will be told apart by; at most 255 bytes.
    pub fn correlation_id(self, value: impl Into<String>) -> Self {
        self.short("correlation_id", value.into(), Properties::with_correlation_id)
    }

    /// The queue to answer to; at most 255 bytes.
    pub fn reply_to(self, value: impl Into<String>) -> Self {
        self.short("reply_to", value.into(), Properties::with_reply_to)
    }

    /// How long the message may wait in a queue (per-message TTL), in whole milliseconds, rounded up. Zero expires it
    /// unless a consumer is ready. `RabbitMQ` takes at most ten years (3,650 days).
    pub fn expiration(mut self, ttl: Duration) -> Self {
        let millis = millis(ttl);
        if millis > MAX_TTL_MS {
            self.note(format!("expiration of {ttl:?} is longer than the 3,650 days RabbitMQ takes"));
            return self;
        }
        self.short("expiration", millis.to_string(), Properties::with_expiration)
    }

    /// The message's own id; at most 255 bytes. A message without one is given one when it is published.
    pub fn message_id(self, value: impl Into<String>) -> Self {
        self.short("message_id", value.into(), Properties::with_message_id)
    }

    /// When the message was made, in whole seconds, rounded down. Not before 1970.
    pub fn timestamp(mut self, time: SystemTime) -> Self {
        match value::unix_seconds(time) {
            Ok(seconds) => self.timestamp_secs(seconds),
            Err(error) => {
                self.note(format!("timestamp: {error}"));
                self
            }
        }
    }

    /// When the message was made, in seconds since 1970.
    pub fn timestamp_secs(mut self, seconds: u64) -> Self {
        self.properties = self.properties.with_timestamp(seconds);
        self
    }

    /// What kind of message this is, for the application (the `type` property); at most 255 bytes.
    pub fn kind(self, value: impl Into<String>) -> Self {
        self.short("kind", value.into(), Properties::with_type)
    }

    /// Who sends; at most 255 bytes. `RabbitMQ` refuses a name other than the one the connection logged in with
    /// (validated user-id).
    pub fn user_id(self, value: impl Into<String>) -> Self {
        self.short("user_id", value.into(), Properties::with_user_id)
    }

    /// Which application sends; at most 255 bytes.
    pub fn app_id(self, value: impl Into<String>) -> Self {
        self.short("app_id", value.into(), Properties::with_app_id)
    }

    /// Deprecated in AMQP 0-9-1 and passed through by `RabbitMQ`; at most 255 bytes.
    pub fn cluster_id(self, value: impl Into<String>) -> Self {
        self.short("cluster_id", value.into(), Properties::with_cluster_id)
    }

    /// Adds one header, replacing one of that name. The key is at most 255 bytes; [`IntoValue`] says which values there
    /// are. For many headers, [`headers`](Self::headers) takes a whole table at once.
    pub fn header(mut self, key: impl Into<String>, value: impl IntoValue) -> Self {
        // The protocol crate hands its table out by reference only.
        let mut headers = self.properties.headers().clone().unwrap_or_default();
        match with_entry(&mut headers, "header", key.into(), value) {
            Ok(()) => self.properties = self.properties.with_headers(headers),
            Err(error) => self.note(error.to_string()),
        }
        self
    }

    /// Sets the whole header table, replacing what was there.
    pub fn headers(mut self, headers: FieldTable) -> Self {
        self.properties = self.properties.with_headers(headers);
        self
    }

    /// Sets all properties, replacing what was there. A message without a `delivery-mode` is not persistent.
    pub fn with_properties(mut self, properties: Properties) -> Self {
        self.properties = properties;
        self
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// All properties, the header table among them.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// The value of one header.
    pub fn header_value(&self, key: &str) -> Option<&Value> {
        self.properties.headers().as_ref()?.inner().get(key)
    }

    /// Whether the broker keeps the message on disk (in durable queues).
    pub fn is_persistent(&self) -> bool {
        *self.properties.delivery_mode() == Some(PERSISTENT)
    }

    /// Whether the publish fails when no queue takes the message; `None` leaves it to the publisher's default.
    pub fn is_mandatory(&self) -> Option<bool> {
        self.mandatory
    }

    /// The body read as JSON, whatever the content type says. Fails with [`ErrorKind::Json`](crate::ErrorKind::Json).
    pub fn json_body<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// Whether the delayed message exchange would keep it for a while (`x-delay`, in milliseconds).
    pub(crate) fn is_delayed(&self) -> bool {
        match self.header_value("x-delay") {
            Some(Value::ShortShortInt(delay)) => *delay > 0,
            Some(Value::ShortShortUInt(delay)) => *delay > 0,
            Some(Value::ShortInt(delay)) => *delay > 0,
            Some(Value::ShortUInt(delay)) => *delay > 0,
            Some(Value::LongInt(delay)) => *delay > 0,
            Some(Value::LongUInt(delay)) => *delay > 0,
            Some(Value::LongLongInt(delay)) => *delay > 0,
            Some(Value::Float(delay)) => *delay > 0.0,
            Some(Value::Double(delay)) => *delay > 0.0,
            Some(Value::LongString(delay)) => std::str::from_utf8(delay.as_bytes())
                .is_ok_and(|delay| delay.trim().parse().is_ok_and(|delay: f64| delay > 0.0)),
            _ => false,
        }
    }

    /// Refuses what the broker would answer by closing the channel or the connection.
    pub(crate) fn check(&self) -> Result<()> {
        check::check_message(self)
    }

    fn short(mut self, what: &str, value: String, set: fn(Properties, ShortString) -> Properties) -> Self {
        match check::short(what, value) {
            Ok(value) => self.properties = set(self.properties, value),
            Err(error) => self.note(error.to_string()),
        }
        self
    }

    fn note(&mut self, defect: String) {
        self.defect.get_or_insert_with(|| defect.into());
    }
}

/// As [`Message::text`].
impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

/// As [`Message::text`].
impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

/// As [`Message::new`].
impl From<Vec<u8>> for Message {
    fn from(body: Vec<u8>) -> Self {
        Self::new(body)
    }
}

/// As [`Message::new`], with a copy of the body.
impl From<&[u8]> for Message {
    fn from(body: &[u8]) -> Self {
        Self::new(Bytes::copy_from_slice(body))
    }
}

/// As [`Message::new`], with a copy of the body.
impl<const N: usize> From<&[u8; N]> for Message {
    fn from(body: &[u8; N]) -> Self {
        Self::from(&body[..])
    }
}

/// As [`Message::new`].
impl From<Bytes> for Message {
    fn from(body: Bytes) -> Self {
        Self::new(body)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("body_len", &self.body.len())
            .field("properties", &self.properties)
            .field("mandatory", &self.mandatory)
            .field("defect", &self.defect)
            .finish()
    }
}

/// A mandatory message that the broker could not route (`basic.return`).
#[derive(Clone, Debug)]
pub struct Returned {
    /// Why: 312 `NO_ROUTE`.
    pub reply_code: u16,
    /// The broker's text.
    pub reply_text: String,
    /// The exchange it was published to; the default exchange is the empty name.
    pub exchange: String,
    /// The routing key it was published with.
    pub routing_key: String,
    /// The message as it came back.
    pub message: Message,
}

#[cfg(test)]
mod tests;
