//! Publishing along one route.

use std::{fmt, sync::Arc, time::Duration};

use amq_protocol::types::ShortString;

use crate::{
    Client, Error, ErrorKind, Result,
    client::DIRECT_REPLY_TO,
    engine::{
        publishing::{CancelOnDrop, Confirmation, Publishing},
        window::Outgoing,
    },
    message::{Message, check_short},
};

/// Publishes to one exchange with one routing key. Cheap to make and to clone.
#[derive(Clone)]
pub struct Publisher {
    client: Client,
    exchange: Arc<str>,
    routing_key: Arc<str>,
    timeout: Option<Duration>,
    /// The window of a request, which goes with the consumer of its reply.
    via: Option<Arc<Publishing>>,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("client", &self.client)
            .field("exchange", &self.exchange)
            .field("routing_key", &self.routing_key)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Publisher {
    pub(crate) fn new(client: Client, exchange: Arc<str>, routing_key: Arc<str>) -> Self {
        let timeout = Some(client.timeout());
        Self { client, exchange, routing_key, timeout, via: None }
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

    /// The exchange.
    pub fn exchange(&self) -> &str {
        &self.exchange
    }

    /// The routing key.
    pub fn routing_key(&self) -> &str {
        &self.routing_key
    }

    /// Publishes and returns when the broker has confirmed. Dropping the future gives the publish up: it is not
    /// republished, and its outcome is unknown. Errors: as [`Client::publish`].
    pub async fn publish(&self, message: Message) -> Result<()> {
        let (publishing, out) = self.prepare(message)?;
        let confirmation = CancelOnDrop(publishing.admit(out, self.timeout).await?);
        publishing.flush_from_caller();
        confirmation.await
    }

    /// Puts the message on its way and returns a [`Confirmation`] to wait for. Waits only while the window is full.
    pub async fn publish_nowait(&self, message: Message) -> Result<Confirmation> {
        let (publishing, out) = self.prepare(message)?;
        let confirmation = publishing.admit(out, self.timeout).await?;
        publishing.wake_engine();
        Ok(confirmation)
    }

    /// Queues the message as it is, without a `message_id` of ours, until [`Client::flush`] or [`Client::flush_later`]
    /// sends it with what else is queued. Never waits: [`crate::ErrorKind::LimitReached`] when the window is full.
    pub fn enqueue(&self, message: Message) -> Result<Confirmation> {
        let (publishing, out) = self.checked(message)?;
        let admitted = publishing.admit_now(out, self.timeout)?;
        if !Arc::ptr_eq(&publishing, &self.client.0.publishing) {
            // A request goes with the consumer of its answer, which no flush knows.
            publishing.wake_engine();
        }
        admitted.ok_or_else(|| Error::new(ErrorKind::LimitReached, "the window of publishes is full"))
    }

    /// Checks the message and gives it what it lacks.
    fn prepare(&self, mut message: Message) -> Result<(Arc<Publishing>, Outgoing)> {
        if message.properties.message_id().is_none() {
            // The prefix and the counter are far below 255 bytes.
            let id = ShortString::try_new(self.client.0.ids.message()).unwrap_or_default();
            message.properties = std::mem::take(&mut message.properties).with_message_id(id);
        }
        self.checked(message)
    }

    fn checked(&self, message: Message) -> Result<(Arc<Publishing>, Outgoing)> {
        check_short("exchange name", &self.exchange)?;
        check_short("routing key", &self.routing_key)?;
        message.check()?;
        let client = &self.client.0;
        let publishing = match &self.via {
            Some(publishing) => publishing.clone(),
            None => client.publishing_for(&message)?,
        };
        // To RabbitMQ the address of an answer is not a queue: mandatory, the answer would arrive and come back as well.
        let may_be_lost =
            |exchange: &str| client.is_fanout(exchange) || is_answer(exchange, &self.routing_key);
        let mandatory = message.mandatory.unwrap_or_else(|| !may_be_lost(&self.exchange));
        let out = Outgoing {
            exchange: self.exchange.clone(),
            routing_key: self.routing_key.clone(),
            message,
            mandatory,
        };
        Ok((publishing, out))
    }
}

/// Whether the route is that of an answer (RabbitMQ, direct reply-to).
fn is_answer(exchange: &str, routing_key: &str) -> bool {
    exchange.is_empty()
        && routing_key.strip_prefix(DIRECT_REPLY_TO).is_some_and(|address| address.starts_with('.'))
}
