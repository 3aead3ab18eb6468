//! Queues: what they can be declared with, and which of that goes together.

use std::{fmt, time::Duration};

use amq_protocol::protocol::queue::Declare;

use super::{
    Arguments, checked_short,
    queue_arguments::{
        DEAD_LETTER_EXCHANGE, DEAD_LETTER_ROUTING_KEY, DELIVERY_LIMIT, EXPIRES, MAX_AGE, MAX_LENGTH,
        MAX_LENGTH_BYTES, MAX_PRIORITY, MESSAGE_TTL, OVERFLOW, QUEUE_TYPE, SINGLE_ACTIVE_CONSUMER,
        check_argument, text,
    },
};
use crate::{
    Error, Result,
    error::ACCESS_REFUSED,
    message::{FieldTable, IntoValue, Value, check_short, millis},
};

/// How a queue keeps its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QueueType {
    /// On one node; every feature but a delivery limit.
    Classic,
    /// Replicated by consensus; durable, named, with a delivery limit, without priorities.
    Quorum,
    /// A log that consumers read from an offset and that is cut by size or age.
    Stream,
}

impl QueueType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
            Self::Stream => "stream",
        }
    }

    const ALL: [Self; 3] = [Self::Classic, Self::Quorum, Self::Stream];

    fn from_value(value: &Value) -> Option<Self> {
        let name = value.as_long_string()?.as_bytes();
        Self::ALL.into_iter().find(|kind| kind.as_str().as_bytes() == name)
    }
}

impl fmt::Display for QueueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a queue at its maximum length does (`x-overflow`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// Drops its oldest message, or dead-letters it. The default.
    DropHead,
    /// Nacks the publish.
    RejectPublish,
    /// Nacks the publish and dead-letters the message; classic queues only. Give the queue's type with it: where the virtual
    /// host's default is quorum, `RabbitMQ` takes the declare and drops from the head, confirmed messages included.
    RejectPublishDlx,
}

impl Overflow {
    fn as_str(self) -> &'static str {
        match self {
            Self::DropHead => "drop-head",
            Self::RejectPublish => "reject-publish",
            Self::RejectPublishDlx => "reject-publish-dlx",
        }
    }
}

/// A queue to declare (`queue.declare`). Durable unless said otherwise.
///
/// ```
/// # use std::time::Duration;
/// # use murano_messaging::topology::Queue;
/// // Poison messages go to a dead-letter exchange after five deliveries.
/// let orders = Queue::quorum("orders").delivery_limit(5).dead_letter_exchange("dead");
/// // One that the broker names, and that goes with the connection.
/// let answers = Queue::server_named().exclusive(true);
/// let plans = Queue::new("agent-17").expires(Duration::from_secs(3600)).max_length(1000);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    name: String,
    durable: bool,
    exclusive: bool,
    auto_delete: bool,
    expires: Option<Duration>,
    message_ttl: Option<Duration>,
    max_age: Option<Duration>,
    /// Arguments without a unit to convert are kept in the form they have on the wire.
    arguments: Arguments,
}

impl Queue {
    /// A durable queue called `name`: at most 255 bytes, and not beginning with `amq.`, which is the broker's.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            durable: true,
            exclusive: false,
            auto_delete: false,
            expires: None,
            message_ttl: None,
            max_age: None,
            arguments: Arguments::default(),
        }
    }

    /// A queue that is replicated by consensus, called `name` ([`QueueType::Quorum`]).
    pub fn quorum(name: impl Into<String>) -> Self {
        Self::new(name).queue_type(QueueType::Quorum)
    }

    /// A log that consumers read from an offset, called `name` ([`QueueType::Stream`]).
    pub fn stream(name: impl Into<String>) -> Self {
        Self::new(name).queue_type(QueueType::Stream)
    }

    /// A queue that the broker names (`amq.gen-...`); the declare answers with the name. After a lost connection it gets
    /// another name, and its bindings and consumers follow. Classic queues only.
    pub fn server_named() -> Self {
        Self::new("")
    }

    /// Whether the queue survives a restart of the broker. Its persistent messages do then, too.
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Whether only this connection may use the queue, which is deleted with it. Classic queues only.
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }

    /// Whether the queue is deleted when its last consumer goes. Classic queues only.
    pub fn auto_delete(mut self, auto_delete: bool) -> Self {
        self.auto_delete = auto_delete;
        self
    }

    /// Deletes the queue when it was unused for so long (`x-expires`, queue TTL): more than zero, at most 3,650 days, in
    /// whole milliseconds, rounded up. Consuming, declaring and getting renew it; **publishing does not**. Not for
    /// streams.
    pub fn expires(mut self, unused: Duration) -> Self {
        self.expires = Some(unused);
        self
    }

    /// Drops or dead-letters a message that waited so long (`x-message-ttl`): at most 3,650 days, in whole milliseconds,
    /// rounded up. Zero keeps only what a consumer is ready for. Not for streams.
    pub fn message_ttl(mut self, ttl: Duration) -> Self {
        self.message_ttl = Some(ttl);
        self
    }

    /// Bounds the number of ready messages (`x-max-length`). Not for streams.
    pub fn max_length(self, messages: u64) -> Self {
        self.argument(MAX_LENGTH, messages)
    }

    /// Bounds the bytes of the ready messages' bodies, or of the whole log of a stream (`x-max-length-bytes`).
    pub fn max_length_bytes(self, bytes: u64) -> Self {
        self.argument(MAX_LENGTH_BYTES, bytes)
    }

    /// What to do at the maximum length (`x-overflow`). Not for streams.
    pub fn overflow(self, overflow: Overflow) -> Self {
        self.argument(OVERFLOW, overflow.as_str())
    }

    /// Where rejected, expired and dropped messages go (`x-dead-letter-exchange`); the default exchange is the empty
    /// name. It need not exist yet. Not for streams.
    pub fn dead_letter_exchange(self, exchange: impl Into<String>) -> Self {
        self.argument(DEAD_LETTER_EXCHANGE, exchange.into())
    }

    /// The routing key of dead-lettered messages, instead of their own (`x-dead-letter-routing-key`). Needs
    /// [`dead_letter_exchange`](Self::dead_letter_exchange).
    pub fn dead_letter_routing_key(self, routing_key: impl Into<String>) -> Self {
        self.argument(DEAD_LETTER_ROUTING_KEY, routing_key.into())
    }

    /// Makes a priority queue with priorities from 0 to `priority` (`x-max-priority`); few are cheap. Classic queues
    /// only.
    pub fn max_priority(self, priority: u8) -> Self {
        self.argument(MAX_PRIORITY, priority)
    }

    /// How the queue keeps its messages (`x-queue-type`). Unset, it is the virtual host's default: classic, unless an operator
    /// chose another. Types of plugins are given as an [`argument`](Self::argument).
    pub fn queue_type(self, kind: QueueType) -> Self {
        self.argument(QUEUE_TYPE, kind.as_str())
    }

    /// How often a message may be redelivered before it is dropped or dead-lettered (`x-delivery-limit`). Quorum queues
    /// only.
    pub fn delivery_limit(self, deliveries: u32) -> Self {
        self.argument(DELIVERY_LIMIT, deliveries)
    }

    /// Whether only one consumer at a time gets messages (`x-single-active-consumer`). Not for streams.
    pub fn single_active_consumer(self, single: bool) -> Self {
        self.argument(SINGLE_ACTIVE_CONSUMER, single)
    }

    /// How long a stream keeps its messages (`x-max-age`): more than zero, in whole seconds, rounded up. Streams only.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Sets any argument by its name on the wire, also one this library does not know.
    pub fn argument(mut self, key: impl Into<String>, value: impl IntoValue) -> Self {
        self.arguments.set(key.into(), value);
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_server_named(&self) -> bool {
        self.name.is_empty()
    }

    pub(crate) fn is_single_active_consumer(&self) -> bool {
        self.arguments.table.inner().get("x-single-active-consumer").and_then(Value::as_bool).unwrap_or(false)
    }

    pub(crate) fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    /// Whether the broker deletes the queue once it was unused for some time.
    pub(crate) fn expires_unused(&self) -> bool {
        self.expires.is_some() || self.arguments.table.contains_key(EXPIRES)
    }

    /// Whether the broker deletes the queue with its last consumer.
    pub(crate) fn is_auto_delete(&self) -> bool {
        self.auto_delete
    }

    /// Whether the broker deletes the queue by itself: then it is declared again only while it is consumed.
    pub(crate) fn is_transient_record(&self) -> bool {
        self.auto_delete || self.expires_unused()
    }

    /// The type that was asked for. `None`: the default of the virtual host, or a type of a plugin.
    pub(crate) fn kind(&self) -> Option<QueueType> {
        self.arguments.table.inner().get(QUEUE_TYPE).and_then(QueueType::from_value)
    }

    /// The method that declares the queue. Only for a queue that passed [`check`](Self::check).
    pub(crate) fn declare(&self) -> Declare {
        Declare {
            queue: checked_short(&self.name),
            passive: false,
            durable: self.durable,
            exclusive: self.exclusive,
            auto_delete: self.auto_delete,
            nowait: false,
            arguments: self.wire_arguments(),
        }
    }

    /// Refuses what `RabbitMQ` would refuse or could not do, with the reason.
    pub(crate) fn check(&self) -> Result<()> {
        check_short("queue name", &self.name)?;
        self.arguments.check()?;
        if self.name.starts_with("amq.") {
            let text = format!("queue {:?}: names that begin with `amq.` are the broker's own", self.name);
            return Err(Error::foreseen(ACCESS_REFUSED, text));
        }
        self.check_arguments().map_err(|reason| Error::invalid(format!("queue {:?}: {reason}", self.name)))
    }

    fn durations(&self) -> [(&'static str, Option<Duration>); 3] {
        [(EXPIRES, self.expires), (MESSAGE_TTL, self.message_ttl), (MAX_AGE, self.max_age)]
    }

    /// A duration that is too long saturates; [`check`](Self::check) refuses it.
    fn wire_arguments(&self) -> FieldTable {
        let mut table = self.arguments.table.clone();
        for (key, duration) in self.durations() {
            let Some(duration) = duration else { continue };
            let value = if key == MAX_AGE {
                Value::LongString(format!("{}s", seconds(duration)).into())
            } else {
                Value::LongLongInt(i64::try_from(millis(duration)).unwrap_or(i64::MAX))
            };
            table.insert(checked_short(key), value);
        }
        table
    }

    fn check_arguments(&self) -> Result<(), String> {
        for (key, duration) in self.durations() {
            if duration.is_some() && self.arguments.table.contains_key(key) {
                return Err(format!("{key} is given twice, as a duration and as a raw argument"));
            }
        }
        let table = self.wire_arguments();
        if let Some(value) = table.inner().get(QUEUE_TYPE)
            && text(value).is_none()
        {
            return Err(format!("{QUEUE_TYPE} must be text"));
        }
        for (key, value) in &table {
            check_argument(key.as_str(), value)?;
        }
        if table.contains_key(DEAD_LETTER_ROUTING_KEY) && !table.contains_key(DEAD_LETTER_EXCHANGE) {
            return Err(format!("{DEAD_LETTER_ROUTING_KEY} needs {DEAD_LETTER_EXCHANGE}"));
        }
        match self.kind() {
            Some(kind) => self.check_kind(kind, &table),
            // A plugin's: only the broker knows.
            None if table.contains_key(QUEUE_TYPE) => Ok(()),
            // The virtual host's default may be any of them.
            None => {
                let [classic, others @ ..] = QueueType::ALL.map(|kind| self.check_kind(kind, &table));
                if others.iter().any(Result::is_ok) { Ok(()) } else { classic }
            }
        }
    }

    /// What each type of queue has not got.
    fn check_kind(&self, kind: QueueType, table: &FieldTable) -> Result<(), String> {
        let absent: &[&str] = match kind {
            QueueType::Classic => &[DELIVERY_LIMIT, MAX_AGE],
            QueueType::Quorum => &[MAX_PRIORITY, MAX_AGE],
            QueueType::Stream => &[
                EXPIRES,
                MESSAGE_TTL,
                MAX_LENGTH,
                OVERFLOW,
                DEAD_LETTER_EXCHANGE,
                DEAD_LETTER_ROUTING_KEY,
                MAX_PRIORITY,
                DELIVERY_LIMIT,
                SINGLE_ACTIVE_CONSUMER,
            ],
        };
        if let Some(key) = absent.iter().find(|key| table.contains_key(key)) {
            return Err(format!("a {kind} queue has no {key}"));
        }
        if kind == QueueType::Classic {
            return Ok(());
        }
        let overflow = table.inner().get(OVERFLOW);
        if overflow.and_then(text) == Some(Overflow::RejectPublishDlx.as_str().as_bytes()) {
            // RabbitMQ takes the declare and then drops from the head: confirmed messages would be lost.
            return Err(format!(
                "a {kind} queue cannot do {OVERFLOW}=reject-publish-dlx; RabbitMQ would drop messages"
            ));
        }
        let unfit = [
            (self.is_server_named(), "cannot be named by the broker"),
            (!self.durable, "must be durable"),
            (self.exclusive, "cannot be exclusive"),
            (self.auto_delete, "cannot be auto-delete"),
        ];
        match unfit.into_iter().find(|(applies, _)| *applies) {
            Some((_, reason)) => Err(format!("a {kind} queue {reason}")),
            None => Ok(()),
        }
    }
}

/// What a declare or a passive declare tells about a queue (`queue.declare-ok`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueInfo {
    /// The queue's name; of a server-named queue, the one the broker gave.
    pub name: String,
    /// Messages that wait to be delivered; those delivered and not yet acked are not counted.
    pub message_count: u32,
    /// Consumers that can get messages.
    pub consumer_count: u32,
}

/// Whole seconds, rounded up.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
