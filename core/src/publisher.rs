//! Publishing along one route.

use std::{sync::Arc, time::Duration};

use amq_protocol::types::ShortString;

use crate::{
    Error, ErrorKind, Result,
    client::connections::{DIRECT_REPLY_TO, Inner},
    engine::publish::{self, CancelOnDrop, Confirmation, Outgoing, Publishing, SendBy},
    message::{Message, check_short},
};

/// Publishes to one exchange with one routing key. Cheap to make and to clone; it keeps its client open.
///
/// ```
/// # async fn example() -> murano_messaging::Result<()> {
/// # use murano_messaging::{Client, Message, Queue};
/// let client = Client::connect("memory://publisher").await?;
/// client.declare_queue(&Queue::new("tasks")).await?;
/// let publisher = client.publisher("", "tasks");
/// // Returns when the broker has the message.
/// publisher.publish("one").await?;
/// // Many in flight: the confirms are awaited later.
/// let two = publisher.publish_deferred(Message::text("two").priority(3)).await?;
/// let three = publisher.publish_deferred(vec![0, 1, 2]).await?;
/// two.await?;
/// three.await?;
/// # client.close().await
/// # }
/// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
/// ```
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Inner>,
    exchange: Arc<str>,
    routing_key: Arc<str>,
    timeout: Option<Duration>,
    mandatory: Option<bool>,
    /// The window of a request, which goes with the consumer of its reply.
    via: Option<Arc<Publishing>>,
}

impl Publisher {
    pub(crate) fn new(
        shared: Arc<Inner>,
        exchange: Arc<str>,
        routing_key: Arc<str>,
        timeout: Duration,
    ) -> Self {
        let mandatory = shared.options.mandatory;
        Self { shared, exchange, routing_key, timeout: Some(timeout), mandatory, via: None }
    }

    /// The deadline of a publish, from the call to the confirm; `None` waits for ever. The default is the client's
    /// operation timeout.
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    /// Publishes through this window.
    pub(crate) fn via(mut self, publishing: Arc<Publishing>) -> Self {
        self.via = Some(publishing);
        self
    }

    /// Whether a publish fails when no queue takes the message, for messages that do not say so themselves
    /// ([`Message::mandatory`]). The default is the client's ([`crate::Options::mandatory`]).
    pub fn mandatory(mut self, mandatory: bool) -> Self {
        self.mandatory = Some(mandatory);
        self
    }

    /// The exchange.
    pub fn exchange(&self) -> &str {
        &self.exchange
    }

    /// The routing key.
    pub fn routing_key(&self) -> &str {
        &self.routing_key
    }

    /// Publishes and returns when the broker has confirmed. Dropping the future gives the publish up: it is not
    /// republished, and its outcome is unknown. Errors: as [`crate::Client::publish`].
    pub async fn publish(&self, message: impl Into<Message>) -> Result<()> {
        let (publishing, out) = self.prepare(message.into())?;
        CancelOnDrop(self.admit(&publishing, out, SendBy::Caller).await?).await
    }

    /// Puts the message on its way and returns a [`Confirmation`] to wait for. Waits only while the window is full.
    pub async fn publish_deferred(&self, message: impl Into<Message>) -> Result<Confirmation> {
        let (publishing, out) = self.prepare(message.into())?;
        self.admit(&publishing, out, SendBy::Engine).await
    }

    /// As [`Self::publish_deferred`].
    #[deprecated = "renamed to `publish_deferred`"]
    pub async fn publish_nowait(&self, message: impl Into<Message>) -> Result<Confirmation> {
        self.publish_deferred(message).await
    }

    /// Queues the message as it is, without a `message_id` of ours, until [`crate::Client::flush`] or
    /// [`crate::Client::flush_later`] sends it with what else is queued. Never waits: [`ErrorKind::LimitReached`] when the
    /// window is full. For bindings that write when their caller waits.
    #[doc(hidden)]
    pub fn enqueue(&self, message: impl Into<Message>) -> Result<Confirmation> {
        let (publishing, out) = self.checked(message.into())?;
        // A request goes with the consumer of its answer, which no flush knows.
        let is_request = !Arc::ptr_eq(&publishing, &self.shared.publishing);
        let send = if is_request { SendBy::Engine } else { SendBy::Nobody };
        publish::now(self.admit(&publishing, out, send))?
            .ok_or_else(|| Error::new(ErrorKind::LimitReached, "the window of publishes is full"))
    }

    fn admit<'a>(
        &'a self,
        publishing: &Arc<Publishing>,
        out: Outgoing,
        send: SendBy,
    ) -> impl Future<Output = Result<Confirmation>> + use<'a> {
        publishing.admit(out, self.timeout, send, || self.shared.open_publish_link())
    }

    /// Checks the message and gives it what it lacks.
    fn prepare(&self, mut message: Message) -> Result<(Arc<Publishing>, Outgoing)> {
        if message.properties.message_id().is_none() {
            // The prefix and the counter are far below 255 bytes.
            let id = ShortString::try_new(self.shared.ids.message()).unwrap_or_default();
            message.properties = message.properties.with_message_id(id);
        }
        self.checked(message)
    }

    fn checked(&self, message: Message) -> Result<(Arc<Publishing>, Outgoing)> {
        check_short("exchange name", &self.exchange)?;
        check_short("routing key", &self.routing_key)?;
        message.check()?;
        let publishing = match &self.via {
            Some(publishing) => publishing.clone(),
            None => self.shared.publishing_for(&message)?,
        };
        let mandatory = message
            .mandatory
            .or(self.mandatory)
            .unwrap_or_else(|| !self.is_answer() && !message.is_delayed());
        let out = Outgoing {
            exchange: self.exchange.clone(),
            routing_key: self.routing_key.clone(),
            message,
            mandatory,
        };
        Ok((publishing, out))
    }

    /// Whether the route is that of an answer (RabbitMQ, direct reply-to). To RabbitMQ its address is not a queue: mandatory,
    /// the answer would arrive and come back as well.
    fn is_answer(&self) -> bool {
        let address = self.routing_key.strip_prefix(DIRECT_REPLY_TO);
        self.exchange.is_empty() && address.is_some_and(|address| address.starts_with('.'))
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("exchange", &self.exchange)
            .field("routing_key", &self.routing_key)
            .field("timeout", &self.timeout)
            .field("mandatory", &self.mandatory)
            .finish_non_exhaustive()
    }
}
