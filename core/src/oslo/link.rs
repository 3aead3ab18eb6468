//! What every part of a transport needs: the client below, what was declared through it, and publishing to queues that may
//! not be there.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{Config, Result, body};
use crate::{Binding, Client, ErrorKind, Exchange, Message, Queue};

/// The pause before a message is published again that could not be routed.
const UNROUTABLE_RETRY: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Link {
    pub client: Client,
    pub config: Config,
    /// The broker refuses queues that are neither durable nor exclusive (RabbitMQ 4.3): they are declared durable.
    refuses_transient: AtomicBool,
    /// Exchanges that are there, as far as it is known.
    exchanges: Mutex<BTreeSet<String>>,
    /// What exists with other properties, and was warned of.
    warned: Mutex<BTreeSet<String>>,
}

/// A queue with the exchange and the routing key that lead to it.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    /// `None` for the default exchange, where a queue is reached by its name.
    pub exchange: Option<Exchange>,
    pub queue: Queue,
    pub routing_key: String,
}

impl Destination {
    fn exchange_name(&self) -> &str {
        self.exchange.as_ref().map_or("", Exchange::name)
    }
}

fn lock<T>(set: &Mutex<T>) -> MutexGuard<'_, T> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// What has to be declared for a message, within the time that the message has.
async fn by(deadline: Instant, declaring: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::time::timeout_at(deadline, declaring).await.unwrap_or_else(|_| {
        let text = "the broker did not declare in time what the message is to go to; it was not sent";
        Err(crate::Error::new(ErrorKind::Timeout, text).into())
    })
}

impl Link {
    pub fn new(client: Client, config: Config) -> Self {
        Self {
            client,
            config,
            refuses_transient: AtomicBool::new(false),
            exchanges: Mutex::default(),
            warned: Mutex::default(),
        }
    }

    /// Declares an exchange, once. One that exists with other properties is used as it is, with one warning.
    async fn declare_exchange(&self, exchange: &Exchange) -> Result<()> {
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
    async fn declare_queue(&self, queue: &Queue) -> Result<()> {
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
                if !self.refuses_transient.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "the broker takes no transient queues, they are declared durable: {error}"
                    );
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Declares a destination as a server of this configuration does.
    pub async fn declare(&self, destination: &Destination) -> Result<()> {
        let Some(exchange) = &destination.exchange else {
            return self.declare_queue(&destination.queue).await;
        };
        self.declare_exchange(exchange).await?;
        self.declare_queue(&destination.queue).await?;
        let binding =
            Binding::queue(destination.queue.name(), exchange.name()).routing_key(&destination.routing_key);
        match self.client.bind(&binding).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // An auto-delete exchange, or the queue, went meanwhile.
                self.forget_exchange(exchange.name());
                self.declare_exchange(exchange).await?;
                self.declare_queue(&destination.queue).await?;
                Ok(self.client.bind(&binding).await?)
            }
            other => Ok(other?),
        }
    }

    /// Declares a destination again after a reconnect that did not bring all of it back.
    pub async fn declare_anew(&self, destination: &Destination) -> Result<()> {
        self.forget_exchange(destination.exchange_name());
        self.declare(destination).await
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

    pub fn decode_leniently(&self, delivery: &crate::Delivery) -> Option<Map<String, Value>> {
        body::decode_leniently(delivery, self.client.options().max_body_size)
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
        if let Some(exchange) = &destination.exchange {
            by(deadline, self.declare_exchange(exchange)).await?;
        }
        loop {
            let publisher = self
                .client
                .publisher(destination.exchange_name(), destination.routing_key.as_str())
                .timeout(Some(left(deadline)));
            let error = match publisher.publish(message.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::Unroutable => by(deadline, self.declare(destination)).await?,
                ErrorKind::NotFound => by(deadline, self.declare_anew(destination)).await?,
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
        let deadline = Instant::now() + timeout;
        let message = message.mandatory(false);
        for last in [false, true] {
            by(deadline, self.declare_exchange(exchange)).await?;
            let publisher = self.client.publisher(exchange.name(), "").timeout(Some(left(deadline)));
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

    /// Publishes to a queue that somebody else declares. While it is missing, which `missing` hears once, the message is
    /// published again, for the time that the configuration gives it (`kombu_missing_consumer_retry_timeout`).
    pub async fn publish_direct(&self, queue: &str, message: Message, missing: impl FnOnce()) -> Result<()> {
        let deadline = Instant::now() + self.config.missing_consumer_retry;
        let publisher = self.client.publisher("", queue);
        let message = message.mandatory(true);
        let mut missing = Some(missing);
        loop {
            match publisher.publish(message.clone()).await {
                Err(error) if error.kind() == ErrorKind::Unroutable && Instant::now() < deadline => {
                    if let Some(missing) = missing.take() {
                        missing();
                    }
                    tokio::time::sleep(UNROUTABLE_RETRY).await;
                }
                other => return Ok(other?),
            }
        }
    }
}
