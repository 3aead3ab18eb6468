//! One delivered message and what becomes of it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::{
    Error, ErrorKind, Result,
    engine::acks::{Lease, Settle},
    message::Properties,
    wire::properties::HeadersDefect,
};

/// A message from the broker (`basic.deliver` or `basic.get-ok`).
///
/// It is yours until it is acked, nacked or rejected, also after its consumer was cancelled. A delivery that is
/// dropped unsettled keeps its place in the prefetch, with a warning in the log, and goes back to the queue when its
/// consumer ends; [`crate::ConsumeBuilder::on_drop`] can have it go back at once.
///
/// ```
/// # #[cfg(feature = "broker")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> murano_messaging::Result<()> {
/// use murano_messaging::{Client, Message, Queue};
///
/// let client = Client::connect("memory://delivery-docs").await?;
/// client.declare_queue(&Queue::new("tasks")).await?;
/// client.publish("", "tasks", Message::text("clean up")).await?;
/// let consumer = client.consume("tasks").await?;
/// let delivery = consumer.next().await.unwrap()?;
/// match delivery.body().as_ref() {
///     b"clean up" => delivery.ack()?,
///     _ if delivery.redelivered() => delivery.reject()?,
///     _ => delivery.requeue()?,
/// }
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "broker"))]
/// # fn main() {}
/// ```
pub struct Delivery {
    /// `None` for one that is not to be settled and leaves nothing of its channel to the application.
    pub(crate) lease: Option<Arc<Lease>>,
    pub(crate) consumer_tag: Arc<str>,
    pub(crate) delivery_tag: u64,
    pub(crate) redelivered: bool,
    pub(crate) no_ack: bool,
    pub(crate) exchange: Arc<str>,
    pub(crate) routing_key: Arc<str>,
    pub(crate) properties: Properties,
    pub(crate) headers_error: Option<Box<HeadersDefect>>,
    pub(crate) body: Bytes,
    pub(crate) message_count: Option<u32>,
    /// Bytes of memory that its contents take.
    pub(crate) memory: usize,
    /// The application has got it.
    pub(crate) handed_out: bool,
    /// Nothing is left to be done when it is dropped.
    pub(crate) settled: AtomicBool,
}

impl Delivery {
    /// Bytes of memory that it takes while it waits in a queue that may have grown to twice its need.
    pub(crate) fn footprint(&self) -> usize {
        2 * size_of::<Self>() + self.memory
    }

    /// The message body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Takes the body out, without copying.
    pub fn into_body(mut self) -> Bytes {
        self.take_body()
    }

    /// Takes the body out, without copying, and leaves the delivery to be settled.
    pub fn take_body(&mut self) -> Bytes {
        std::mem::take(&mut self.body)
    }

    /// The body as JSON. [`ErrorKind::Json`] when it is not what `T` asks for.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// The message properties (AMQP 0-9-1 section 1.8.1). With a [`Self::headers_error`], those that could be read.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// The `message_id` property, if there is one.
    pub fn message_id(&self) -> Option<&str> {
        self.properties.message_id().as_ref().map(amq_protocol::types::ShortString::as_str)
    }

    /// Why the properties could not be read as they are, and the raw bytes; a publisher's fault, not the broker's.
    pub fn headers_error(&self) -> Option<&HeadersDefect> {
        self.headers_error.as_deref()
    }

    /// The exchange the message was published to; empty for the default exchange.
    pub fn exchange(&self) -> &str {
        &self.exchange
    }

    /// The routing key the message was published with.
    pub fn routing_key(&self) -> &str {
        &self.routing_key
    }

    /// The tag of the consumer; empty for [`crate::Client::get`].
    pub fn consumer_tag(&self) -> &str {
        &self.consumer_tag
    }

    /// The delivery tag, which counts up from 1 on the consumer's channel.
    pub fn delivery_tag(&self) -> u64 {
        self.delivery_tag
    }

    /// Whether the broker may have delivered this message before.
    pub fn redelivered(&self) -> bool {
        self.redelivered
    }

    /// How many messages were left in the queue, for [`crate::Client::get`].
    pub fn message_count(&self) -> Option<u32> {
        self.message_count
    }

    /// Whether the channel that brought it is gone (the connection was lost, the client closed, the consumer's channel
    /// closed by the broker): the broker has put the message back and will deliver it again. Settling it does nothing but
    /// say so in the log, once for a channel; where the tokio runtime of the client has ended, it is an error.
    pub fn is_stale(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.acks.is_stale(self.delivery_tag))
    }

    /// Tells the broker that the message is done (`basic.ack`). Leaves within one turn of the engine, together with
    /// other acks. [`ErrorKind::AlreadySettled`] the second time. On a stale delivery it does nothing, see
    /// [`Self::is_stale`]: a program that has side effects asks that first, because the message comes again.
    pub fn ack(&self) -> Result<()> {
        self.settle(Settle::Ack)
    }

    /// Refuses the message (RabbitMQ `basic.nack`): back to the queue, or dropped (dead-lettered if the queue says so).
    /// [`ErrorKind::InvalidArgument`] for one of a stream, which keeps its messages. [`Self::requeue`] and
    /// [`Self::reject`] say which of the two in words.
    pub fn nack(&self, requeue: bool) -> Result<()> {
        self.settle(Settle::Nack { requeue })
    }

    /// Drops the message, or dead-letters it if its queue says so.
    pub fn reject(&self) -> Result<()> {
        self.nack(false)
    }

    /// Puts the message back into its queue, at its old place if possible, as one that could not be handled. A quorum queue
    /// counts this toward its delivery limit; since RabbitMQ 4.3 it does not count [`nack`](Self::nack).
    pub fn requeue(&self) -> Result<()> {
        self.settle(Settle::Failed)
    }

    /// Gives back what was never handed out, so that nobody can have settled it.
    pub(crate) fn put_back(&self) {
        if let Some(lease) = self.lease.as_ref().filter(|_| !self.no_ack) {
            let _ = lease.acks.settle(self.delivery_tag, Settle::Nack { requeue: true });
        }
    }

    fn settle(&self, how: Settle) -> Result<()> {
        let Some(lease) = self.lease.as_ref().filter(|_| !self.no_ack) else {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "the message was consumed without acks: the broker considers it done already",
            ));
        };
        if lease.acks.stream && how != Settle::Ack {
            return Err(Error::invalid(
                "a stream keeps its messages and takes none back: ack it to get more",
            ));
        }
        let settled = lease.acks.settle(self.delivery_tag, how);
        self.settled.store(true, Ordering::Relaxed);
        settled
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.handed_out
            && !*self.settled.get_mut()
            && !self.no_ack
            && let Some(lease) = &self.lease
        {
            lease.acks.dropped(self.delivery_tag, &self.consumer_tag);
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("consumer_tag", &self.consumer_tag)
            .field("delivery_tag", &self.delivery_tag)
            .field("redelivered", &self.redelivered)
            .field("exchange", &self.exchange)
            .field("routing_key", &self.routing_key)
            .field("body_length", &self.body.len())
            .finish_non_exhaustive()
    }
}
