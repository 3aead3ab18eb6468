//! The connections of a service, and what was declared through them.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Map, Value};
use tokio::{sync::OnceCell, time::Instant};

use super::{Config, Result, body, rpc::Replies};
use crate::{Binding, Client, ErrorKind, Exchange, Message, Queue};

/// The pause before a message is published again that could not be routed.
const UNROUTABLE_RETRY: Duration = Duration::from_millis(250);

/// The connection that RPC clients, servers, notifiers and listeners share. Cheap to clone.
///
/// Dropping the last handle closes it; [`Self::close`] waits for that.
#[derive(Clone, Debug)]
pub struct Transport(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub client: Client,
    pub config: Config,
    /// The broker refuses queues that are neither durable nor exclusive (RabbitMQ 4.3): they are declared durable.
    refuses_transient: AtomicBool,
    /// Exchanges that are there, as far as it is known.
    exchanges: Mutex<BTreeSet<String>>,
    /// What exists with other properties, and was warned of.
    warned: Mutex<BTreeSet<String>>,
    pub replies: OnceCell<Replies>,
}

/// A queue with the exchange and the routing key that lead to it.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    pub exchange: Exchange,
    pub queue: Queue,
    pub routing_key: String,
}

impl Transport {
    /// Connects to the broker of a transport URL, e.g. `rabbit://nova:secret@rabbit-1:5672/`, with the options in its query.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::with_config(Config::from_url(url)?).await
    }

    /// Connects as the configuration says.
    pub async fn with_config(config: Config) -> Result<Self> {
        let client = config.to_client_options()?.connect().await?;
        Ok(Self(Arc::new(Inner {
            client,
            config,
            refuses_transient: AtomicBool::new(false),
            exchanges: Mutex::default(),
            warned: Mutex::default(),
            replies: OnceCell::new(),
        })))
    }

    /// The client below: its events, its statistics.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// Closes the connections in order: what was published is confirmed first. Servers and listeners are stopped before.
    pub async fn close(&self) -> Result<()> {
        if let Some(replies) = self.0.replies.get() {
            replies.delete(&self.0.client).await;
        }
        Ok(self.0.client.close().await?)
    }
}

fn lock<T>(set: &Mutex<T>) -> MutexGuard<'_, T> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    /// Declares an exchange, once. One that exists with other properties is used as it is, with one warning.
    pub async fn declare_exchange(&self, exchange: &Exchange) -> Result<()> {
        if lock(&self.exchanges).contains(exchange.name()) {
            return Ok(());
        }
        match self.client.declare_exchange(exchange).await {
            Err(error) if error.kind() == ErrorKind::PreconditionFailed => {
                self.client.check_exchange(exchange.name()).await?;
                self.warn_once(&format!("exchange '{}'", exchange.name()), &error);
            }
            other => other?,
        }
        lock(&self.exchanges).insert(exchange.name().to_owned());
        Ok(())
    }

    /// Declares a queue. One that exists with other properties is used as it is, with one warning.
    pub async fn declare_queue(&self, queue: &Queue) -> Result<()> {
        let durable = queue.clone().durable(true);
        let queue = if self.refuses_transient.load(Ordering::Relaxed) { &durable } else { queue };
        match self.client.declare_queue(queue).await {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::PreconditionFailed => {
                self.client.queue_info(queue.name()).await?;
                self.warn_once(&format!("queue '{}'", queue.name()), &error);
            }
            // RabbitMQ 4.3 ends the connection over a transient queue (541, "deprecated feature").
            Err(error) if matches!(error.reply_code(), Some(540 | 541)) && *queue != durable => {
                self.client.declare_queue(&durable).await?;
                self.refuses_transient.store(true, Ordering::Relaxed);
                self.warn_once("transient queues", &error);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Declares a destination as a server of this configuration does.
    pub async fn declare(&self, destination: &Destination) -> Result<()> {
        self.declare_exchange(&destination.exchange).await?;
        self.declare_queue(&destination.queue).await?;
        let binding = Binding::queue(destination.queue.name(), destination.exchange.name())
            .routing_key(&destination.routing_key);
        match self.client.bind(&binding).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // An auto-delete exchange, or the queue, went meanwhile.
                self.forget_exchange(destination.exchange.name());
                self.declare_exchange(&destination.exchange).await?;
                self.declare_queue(&destination.queue).await?;
                Ok(self.client.bind(&binding).await?)
            }
            other => Ok(other?),
        }
    }

    fn forget_exchange(&self, name: &str) {
        lock(&self.exchanges).remove(name);
    }

    fn warn_once(&self, what: &str, error: &crate::Error) {
        if lock(&self.warned).insert(what.to_owned()) {
            tracing::warn!("{what} exists with other properties and is used as it is: {error}");
        }
    }

    pub fn encode(&self, fields: &Map<String, Value>, envelope: bool) -> Result<Message> {
        body::encode(fields, envelope, self.config.compression)
    }

    pub fn decode(&self, delivery: &crate::Delivery) -> Result<Map<String, Value>> {
        body::decode(delivery, self.client.options().max_body_size)
    }

    /// Publishes to a destination until a queue has the message. Where no queue takes it, the queue is declared as a server
    /// of this configuration would: a message to a server that has not started yet waits for it.
    pub async fn publish_to(
        &self,
        destination: &Destination,
        message: Message,
        timeout: Duration,
    ) -> Result<()> {
        let deadline = Instant::now() + timeout;
        let message = message.mandatory(true);
        self.declare_exchange(&destination.exchange).await?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let publisher = self
                .client
                .publisher(destination.exchange.name(), destination.routing_key.as_str())
                .timeout(Some(left));
            let error = match publisher.publish(message.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::Unroutable => self.declare(destination).await?,
                ErrorKind::NotFound => {
                    self.forget_exchange(destination.exchange.name());
                    self.declare(destination).await?;
                }
                _ => return Err(error.into()),
            }
            if Instant::now() >= deadline {
                return Err(error.into());
            }
        }
    }

    /// Publishes a copy to each server of a topic that listens now.
    pub async fn publish_fanout(
        &self,
        exchange: &Exchange,
        message: Message,
        timeout: Duration,
    ) -> Result<()> {
        let message = message.mandatory(false);
        for last in [false, true] {
            self.declare_exchange(exchange).await?;
            let publisher = self.client.publisher(exchange.name(), "").timeout(Some(timeout));
            match publisher.publish(message.clone()).await {
                // It goes with its last server.
                Err(error) if error.kind() == ErrorKind::NotFound && !last => {
                    self.forget_exchange(exchange.name());
                }
                other => return Ok(other?),
            }
        }
        Ok(())
    }

    /// Publishes to a queue that somebody else declares. While it is missing, the message is published again, for the time
    /// that the configuration gives it (`kombu_missing_consumer_retry_timeout`).
    pub async fn publish_direct(&self, queue: &str, message: Message) -> Result<()> {
        let deadline = Instant::now() + self.config.missing_consumer_retry;
        let publisher = self.client.publisher("", queue);
        let message = message.mandatory(true);
        loop {
            match publisher.publish(message.clone()).await {
                Err(error) if error.kind() == ErrorKind::Unroutable && Instant::now() < deadline => {
                    tokio::time::sleep(UNROUTABLE_RETRY).await;
                }
                other => return Ok(other?),
            }
        }
    }
}
