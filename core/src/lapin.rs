//! For services that move from lapin handler by handler: conversions between its values and those of this crate (feature
//! `lapin`). Both clients can be used in one process, on the same queues.
//!
//! Properties and field tables need none: [`Properties`](crate::Properties) is `lapin::BasicProperties`, and
//! [`FieldTable`] is `lapin::types::FieldTable`, as long as lapin is of the same major version (4).
//!
//! | lapin | here |
//! |---|---|
//! | `message::Delivery`, what it carries | [`Message`], by `From` |
//! | `message::BasicReturnMessage` | [`Returned`], by `From` |
//! | `Error` | [`Error`], by `From`, so that `?` works in a function that uses both |
//! | `options::QueueDeclareOptions` and a table | [`Queue`], by [`queue`] |
//! | `ExchangeKind`, `options::ExchangeDeclareOptions` and a table | [`Exchange`], by [`exchange`] |
//! | a handler that takes `&message::Delivery` | [`delivery`] makes one of a [`Delivery`] |
//!
//! `docs/from-lapin.md` has programs side by side, and what each fault does in both.

use ::lapin::{
    ExchangeKind,
    message::{BasicReturnMessage, Delivery as Theirs},
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    types::ShortString,
};

use crate::{Delivery, Error, ErrorKind, Exchange, FieldTable, Message, Queue, Reply, Returned};

/// What was delivered, to be published: the body and all properties, the message id among them. A message that was not
/// persistent stays so.
impl From<Theirs> for Message {
    fn from(delivery: Theirs) -> Self {
        Self::new(delivery.data).with_properties(delivery.properties)
    }
}

/// As from a whole one, with a copy of the body.
impl From<&Theirs> for Message {
    fn from(delivery: &Theirs) -> Self {
        Self::new(delivery.data.clone()).with_properties(delivery.properties.clone())
    }
}

impl From<BasicReturnMessage> for Returned {
    fn from(returned: BasicReturnMessage) -> Self {
        let BasicReturnMessage { delivery, reply_code, reply_text } = returned;
        Self {
            reply_code,
            reply_text: reply_text.to_string(),
            exchange: delivery.exchange.to_string(),
            routing_key: delivery.routing_key.to_string(),
            message: delivery.into(),
        }
    }
}

/// The error of lapin is its source. Whether a publish that failed with it may have taken effect, lapin does not say: so
/// [`Error::outcome_unknown`] is true, except where the broker refused, or nothing was sent.
impl From<::lapin::Error> for Error {
    fn from(error: ::lapin::Error) -> Self {
        use ::lapin::ErrorKind as Kind;
        if let Kind::ProtocolError(refused) = error.kind() {
            let reply = Reply {
                code: refused.get_id(),
                text: refused.get_message().to_string(),
                class_id: 0,
                method_id: 0,
            };
            return Self::from_reply("lapin", reply).with_source(error);
        }
        let (kind, outcome_unknown) = match error.kind() {
            Kind::ChannelsLimitReached => (ErrorKind::LimitReached, false),
            Kind::InvalidChannel(_) | Kind::InvalidChannelState(..) | Kind::InvalidConnectionState(_) => {
                (ErrorKind::Closed, false)
            }
            Kind::SerialisationError(_) | Kind::NoDefaultRuntime | Kind::FutureCompleted => {
                (ErrorKind::InvalidArgument, false)
            }
            Kind::AuthProviderError(_) => (ErrorKind::Authentication, false),
            Kind::InvalidProtocolVersion(_) | Kind::ParsingError(_) => (ErrorKind::Protocol, true),
            _ => (ErrorKind::ConnectionLost, true),
        };
        let ours = Self::new(kind, format!("lapin: {error}")).with_source(error);
        if outcome_unknown { ours.with_outcome_unknown() } else { ours }
    }
}

/// The queue that lapin's `queue_declare` declares. `passive` and `nowait` are left out: use
/// [`Client::queue_info`](crate::Client::queue_info) for a passive declare; a declare here always waits for its answer.
///
/// Declared by both, it is the same queue: the broker answers neither with 406.
pub fn queue(name: &str, options: QueueDeclareOptions, arguments: &FieldTable) -> Queue {
    let queue = if name.is_empty() { Queue::server_named() } else { Queue::new(name) };
    let queue = queue.durable(options.durable).exclusive(options.exclusive).auto_delete(options.auto_delete);
    arguments.into_iter().fold(queue, |queue, (key, value)| queue.argument(key.to_string(), value.clone()))
}

/// The exchange that lapin's `exchange_declare` declares, without `passive` and `nowait`; see [`queue`].
pub fn exchange(
    name: &str,
    kind: &ExchangeKind,
    options: ExchangeDeclareOptions,
    arguments: &FieldTable,
) -> Exchange {
    let kind = match kind {
        ExchangeKind::Custom(kind) => kind.as_str(),
        ExchangeKind::Direct => "direct",
        ExchangeKind::Fanout => "fanout",
        ExchangeKind::Headers => "headers",
        ExchangeKind::Topic => "topic",
    };
    let exchange = Exchange::new(name, kind)
        .durable(options.durable)
        .auto_delete(options.auto_delete)
        .internal(options.internal);
    arguments
        .into_iter()
        .fold(exchange, |exchange, (key, value)| exchange.argument(key.to_string(), value.clone()))
}

/// A delivery of ours in the form that a handler written for lapin reads. The body is copied.
///
/// Its acker belongs to no channel: `ack`, `nack` and `reject` on it do nothing and return `Ok(true)`. Settle the one it was
/// made of, after the handler.
pub fn delivery(ours: &Delivery) -> Theirs {
    let mut theirs = Theirs::mock(
        ours.delivery_tag(),
        short(ours.exchange()),
        short(ours.routing_key()),
        ours.redelivered(),
        ours.body().to_vec(),
    );
    theirs.properties = ours.properties().clone();
    theirs
}

/// What came from the broker as a short string is one.
fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap_or_default()
}
