//! Consuming: a stream of deliveries on a channel of its own.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use amq_protocol::types::FieldTable;
use futures_core::Stream;
use tokio::time::Instant;

use crate::{
    Client, Error, Result,
    client::{connections::DIRECT_REPLY_TO, existing_queue},
    delivery::Delivery,
    engine::{
        acks::OnDrop,
        command::{Command, Pending},
        delivery_queue::{ConsumerRequest, DeliveryQueue},
        publish::Publishing,
    },
    message::{IntoValue, with_entry},
    topology::check_stream_offset,
};

/// How to consume a queue; [`ConsumeBuilder::start`] does it.
#[derive(Clone, Debug)]
#[must_use = "nothing is consumed before start()"]
pub struct ConsumeBuilder {
    client: Client,
    request: ConsumerRequest,
    tag: Option<String>,
    /// Whether its direct reply-to address is for [`Client::request`] alone.
    of_requests: bool,
    defect: Option<Error>,
}

/// The prefetch of a consumer that does not ask for another, in messages.
pub const DEFAULT_PREFETCH: u16 = 100;

impl Client {
    /// Prepares a consumer of `queue`: prefetch 100, acks expected.
    #[doc(alias = "basic_consume")]
    pub fn consume(&self, queue: impl Into<String>) -> ConsumeBuilder {
        let queue = queue.into();
        ConsumeBuilder {
            client: self.clone(),
            request: ConsumerRequest {
                queue,
                tag: "".into(),
                prefetch: DEFAULT_PREFETCH,
                no_ack: false,
                exclusive: false,
                arguments: FieldTable::default(),
                resume: false,
                on_drop: OnDrop::Keep,
                stream: false,
            },
            tag: None,
            of_requests: false,
            defect: None,
        }
    }
}

impl ConsumeBuilder {
    /// How many unsettled messages the broker sends ahead (`basic.qos`); 0 for no limit. In RabbitMQ 4 a lost connection
    /// counts against the delivery limit of all of them, if their queue is a quorum queue.
    pub fn prefetch(mut self, messages: u16) -> Self {
        self.request.prefetch = messages;
        self
    }

    /// The broker considers a message done when it has sent it: one that is lost on its way is lost.
    pub fn no_ack(mut self, no_ack: bool) -> Self {
        self.request.no_ack = no_ack;
        self
    }

    /// Refuses other consumers of the queue; fails with [`crate::ErrorKind::AccessRefused`] if there are any.
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.request.exclusive = exclusive;
        self
    }

    /// The consumer tag, instead of one that is made up. Unique among the client's consumers.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// Consumers with a higher priority get messages first (RabbitMQ `x-priority`).
    pub fn priority(self, priority: i32) -> Self {
        self.argument("x-priority", priority)
    }

    /// Where to start in a stream queue (RabbitMQ `x-stream-offset`): `"first"`, `"last"`, `"next"`, an offset, a
    /// timestamp or an interval such as `"7D"`. After a reconnect the consumer goes on behind the last message it got.
    pub fn stream_offset(mut self, offset: impl IntoValue) -> Self {
        self.request.stream = true;
        self.argument("x-stream-offset", offset)
    }

    /// Any other argument of `basic.consume`.
    pub fn argument(mut self, key: &str, value: impl IntoValue) -> Self {
        if let Err(error) =
            with_entry(&mut self.request.arguments, "consumer argument", key.to_owned(), value)
        {
            self.defect.get_or_insert(error);
        }
        self
    }

    /// After a cancel by the broker (its queue was deleted) or an error on its channel, goes on when the queue is there
    /// again, instead of ending.
    pub fn resume(mut self, resume: bool) -> Self {
        self.request.resume = resume;
        self
    }

    /// Keeps other requests with direct reply-to from being answered here.
    pub(crate) fn of_requests(mut self) -> Self {
        self.of_requests = true;
        self
    }

    /// What becomes of a delivery that is dropped unsettled while the consumer runs. Default: it keeps its place in the
    /// prefetch, and a warning in the log names consumer and delivery tag.
    pub fn on_drop(mut self, on_drop: OnDrop) -> Self {
        self.request.on_drop = on_drop;
        self
    }

    /// Starts consuming; so does awaiting the builder. Errors: [`crate::ErrorKind::NotFound`], [`crate::ErrorKind::AccessRefused`],
    /// [`crate::ErrorKind::ResourceLocked`], [`crate::ErrorKind::InvalidArgument`].
    pub async fn start(mut self) -> Result<Consumer> {
        if let Some(defect) = self.defect {
            return Err(defect);
        }
        existing_queue(&self.request.queue)?;
        check_stream_offset(&self.request.arguments)?;
        // An empty one would have the broker make one up, which cancel would not know.
        let tag = self.tag.filter(|tag| !tag.is_empty());
        let tag = tag.unwrap_or_else(|| self.client.0.ids.consumer_tag());
        // Room for the number that a restart puts behind it.
        if tag.len() > 240 {
            return Err(Error::invalid(format!("the consumer tag has {} bytes; 240 is the most", tag.len())));
        }
        let direct = self.request.queue == DIRECT_REPLY_TO;
        if direct && !self.request.no_ack {
            return Err(Error::invalid(format!(
                "'{DIRECT_REPLY_TO}' is consumed without acks: set no_ack (RabbitMQ, direct reply-to)"
            )));
        }
        if self.request.no_ack {
            // It has no meaning without acks, and some queue types refuse the combination.
            self.request.prefetch = 0;
        }
        self.request.tag = tag.into();
        let client = self.client;
        let requests = direct.then(|| {
            let options = &client.0.options;
            let requests = Publishing::on_shared_channel(
                options.window_messages,
                options.window_bytes,
                client.0.main.outbox().clone(),
            );
            if !self.of_requests {
                client.0.set_requests(requests.clone());
            }
            requests
        });
        let name = format!("consume queue '{}'", self.request.queue);
        let incoming = DeliveryQueue::new(
            client.0.next_consumer(),
            client.0.main.budget.clone(),
            self.request,
            requests,
        );
        client.0.consumers.note(&incoming);
        // Made before the answer is there, so that giving up the wait cancels the consumer.
        let consumer = Consumer { client, incoming: incoming.clone() };
        consumer.client.ask(name, |reply| Command::Consume { incoming, reply }).await?;
        Ok(consumer)
    }
}

impl IntoFuture for ConsumeBuilder {
    type Output = Result<Consumer>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Consumer>> + Send>>;

    /// [`Self::start`].
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}

/// A stream of deliveries. It survives reconnects: the same stream continues with the same tag.
///
/// ```
/// # #[cfg(feature = "broker")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> murano_messaging::Result<()> {
/// use murano_messaging::{Client, Message, Queue};
///
/// let client = Client::connect("memory://consumer-docs").await?;
/// client.declare_queue(&Queue::new("tasks")).await?;
/// client.publish("", "tasks", Message::text("clean up")).await?;
/// let consumer = client.consume("tasks").prefetch(20).await?;
/// while let Some(delivery) = consumer.next().await {
///     let delivery = delivery?;
///     println!("{:?}", delivery.body());
///     delivery.ack()?;
/// #   break;
/// }
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "broker"))]
/// # fn main() {}
/// ```
///
/// Several tasks share one as an [`Arc`]: [`Self::next`] takes `&self`, and each delivery goes to one of them. It is not
/// `Clone`, because dropping it cancels it: with an `Arc` that happens when the last task lets go.
///
/// In RabbitMQ 4 each lost connection counts against the delivery limit (20 by default) of all that a quorum queue had sent
/// ahead and nobody had settled: a smaller prefetch puts fewer messages at risk (RabbitMQ, quorum queues, poison messages).
///
/// It yields `Err` once, then `None`, when it ended for a reason ([`crate::ErrorKind::ConsumerCancelled`],
/// [`crate::ErrorKind::PreconditionFailed`] after the broker's ack timeout, the loss of a connection that is not
/// recovered), and `None` when it was cancelled or the client closed. Dropping it cancels it; deliveries that were handed
/// out can still be acked.
pub struct Consumer {
    client: Client,
    incoming: Arc<DeliveryQueue>,
}

impl Consumer {
    /// The next delivery. May be called from several tasks; each delivery goes to one of them.
    pub async fn next(&self) -> Option<Result<Delivery>> {
        self.incoming.wait().await
    }

    /// Polls for the next delivery, as [`Self::next`]; for faces that bring their own way of waiting. Only the waker of the
    /// last poll is woken: where several wait at a time, each calls [`Self::next`].
    #[doc(hidden)]
    pub fn poll_next_delivery(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery>>> {
        self.incoming.poll_next(cx)
    }

    /// A delivery that is there already, without waiting; `Pending` when there is none yet.
    pub fn try_recv(&self) -> Poll<Option<Result<Delivery>>> {
        self.incoming.try_recv()
    }

    /// [`Self::try_recv`].
    #[deprecated(note = "renamed to try_recv: `TryStreamExt::try_next` is something else")]
    pub fn try_next(&self) -> Poll<Option<Result<Delivery>>> {
        self.try_recv()
    }

    /// What publishes that are answered here go through, for a consumer of direct reply-to.
    pub(crate) fn requests(&self) -> Option<Arc<Publishing>> {
        self.incoming.requests.clone()
    }

    /// Whether nobody else has its client.
    pub(crate) fn is_last_handle(&self) -> bool {
        Arc::strong_count(&self.client.0) == 1
    }

    /// The consumer tag.
    pub fn tag(&self) -> Arc<str> {
        self.incoming.request.tag.clone()
    }

    /// The queue; a server-named one has another name after a reconnect.
    pub fn queue(&self) -> String {
        self.incoming.queue()
    }

    /// Whether it has ended: nothing more arrives. What had arrived before is still handed out.
    pub fn has_ended(&self) -> bool {
        self.incoming.has_ended()
    }

    /// What ended it, once it has ended and unless it was cancelled or its client closed; also after the stream has said so.
    pub fn failure(&self) -> Option<Error> {
        self.incoming.failure()
    }

    /// Deliveries that have arrived and were not handed out yet.
    pub fn undelivered(&self) -> usize {
        self.incoming.undelivered()
    }

    /// Deliveries handed out so far.
    pub fn delivered(&self) -> u64 {
        self.incoming.delivered()
    }

    /// Changes how many unsettled messages the broker sends ahead; 0 for no limit (not on streams). A consumer without acks
    /// has no limit, and stays without.
    ///
    /// The consumer is replaced by one with the new limit, under this same handle; a stream continues at the next offset.
    /// Deliveries that a quorum queue was just sending come later, marked as redelivered. An exclusive consumer is
    /// cancelled before its replacement starts: another client may take the queue in between.
    ///
    /// [`crate::ErrorKind::InvalidArgument`], and the limit stays, where a replacement would do harm: an exclusive consumer
    /// whose queue is auto-delete, or was not declared through this client and may be, and the single active consumer of
    /// a queue that was declared through this client, which would lose its place.
    pub async fn set_prefetch(&self, messages: u16) -> Result<()> {
        self.set_prefetch_within(messages, self.client.timeout()).await
    }

    /// As [`Self::set_prefetch`], with a deadline of its own.
    pub async fn set_prefetch_within(&self, messages: u16, timeout: Duration) -> Result<()> {
        let consumer = self.incoming.id;
        let name = format!("change the prefetch of consumer '{}'", self.tag());
        let command = |reply| Command::SetPrefetch { consumer, prefetch: messages, reply };
        self.client.with_timeout(timeout).ask(name, command).await
    }

    /// Has the broker put back everything that is unsettled on this consumer, to be delivered again
    /// (`basic.recover`, AMQP 0-9-1 section 1.8.3.16). RabbitMQ supports only `requeue = true`; the other kind is
    /// [`crate::ErrorKind::InvalidArgument`], and so is any on a stream. Deliveries in hand become stale.
    pub async fn recover(&self, requeue: bool) -> Result<()> {
        self.recover_within(requeue, self.client.timeout()).await
    }

    /// As [`Self::recover`], with a deadline of its own.
    pub async fn recover_within(&self, requeue: bool, timeout: Duration) -> Result<()> {
        if !requeue {
            return Err(Error::invalid("basic.recover without requeue is not supported by RabbitMQ"));
        }
        let consumer = self.incoming.id;
        let name = format!("recover consumer '{}'", self.tag());
        self.client.with_timeout(timeout).ask(name, |reply| Command::Recover { consumer, reply }).await
    }

    /// Stops consuming (`basic.cancel`). What was not handed out goes back to the queue; what was can still be acked.
    pub async fn cancel(&self) -> Result<()> {
        self.cancel_within(self.client.timeout()).await
    }

    /// As [`Self::cancel`], with a deadline of its own.
    pub async fn cancel_within(&self, timeout: Duration) -> Result<()> {
        let consumer = self.incoming.id;
        let name = format!("cancel consumer '{}'", self.tag());
        self.client.with_timeout(timeout).ask(name, |reply| Command::Cancel { consumer, reply }).await
    }
}

impl Stream for Consumer {
    type Item = Result<Delivery>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.incoming.poll_next(cx)
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("queue", &self.queue())
            .field("tag", &self.tag())
            .finish_non_exhaustive()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if self.incoming.has_ended() {
            return;
        }
        let no_ack = self.incoming.request.no_ack;
        if no_ack {
            // The broker has forgotten them; others are put back by the cancel.
            self.incoming.abandon();
        }
        let consumer = self.incoming.id;
        let deadline = Instant::now() + self.client.timeout();
        let reply = Pending { name: "cancel".into(), deadline, to: None };
        // An engine that is gone has no consumers.
        let _ = self.client.0.main.send(Command::Cancel { consumer, reply });
    }
}
