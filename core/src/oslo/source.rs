//! A queue that messages come from for as long as the client is open: it is made again whenever it goes away.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    Result,
    link::{Destination, Link},
};
use crate::{Consumer, Delivery, Event, Events, events::Role};

/// The pause after the first failed attempt at a queue that cannot be declared or consumed, and the longest. They double in
/// between and are jittered: many consumers may wait for the same broker.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A queue to consume.
#[derive(Debug)]
pub(super) struct Source {
    pub link: Arc<Link>,
    pub destination: Destination,
    /// How many messages are unsettled at a time; `None` is the client's default.
    pub prefetch: Option<u16>,
    /// It is a stream, which is read from its last messages on.
    pub stream: bool,
}

/// Puts a message back into its queue that nobody has seen.
pub(super) fn put_back(delivery: &Delivery) {
    if let Err(error) = delivery.nack(true) {
        tracing::debug!("a message could not be put back: {error}");
    }
}

/// The consumer of now: another one after the queue was deleted and made again.
#[derive(Clone, Debug)]
pub(super) struct Current(Arc<Mutex<Arc<Consumer>>>);

impl Current {
    fn set(&self, consumer: Arc<Consumer>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = consumer;
    }

    /// Stops consuming: what was not handed out goes back to the queue.
    pub async fn cancel(&self, timeout: Duration) {
        let consumer = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Err(error) = consumer.cancel_within(timeout).await {
            tracing::debug!("a consumer could not be cancelled: {error}");
        }
    }
}

/// The deliveries of a source.
#[derive(Debug)]
pub(super) struct Arrivals {
    source: Source,
    consumer: Arc<Consumer>,
    current: Current,
    events: Events,
}

impl Source {
    /// Declares the queue and consumes it. Later failures are retried; the first is the caller's.
    pub async fn start(self) -> Result<Arrivals> {
        // Before the declaration: a reconnect behind it is not missed.
        let events = self.link.client.events();
        let consumer = Arc::new(self.consume().await?);
        let current = Current(Arc::new(Mutex::new(consumer.clone())));
        Ok(Arrivals { source: self, consumer, current, events })
    }

    async fn consume(&self) -> Result<Consumer> {
        self.link.declare(&self.destination).await?;
        let mut consume = self.link.client.consume(self.name());
        if let Some(prefetch) = self.prefetch {
            consume = consume.prefetch(prefetch);
        }
        if self.stream {
            consume = consume.stream_offset("last");
        }
        Ok(consume.start().await?)
    }

    fn name(&self) -> &str {
        self.destination.queue.name()
    }
}

impl Arrivals {
    /// What stops the consumer of now, from outside of the task that waits for its deliveries.
    pub fn current(&self) -> Current {
        self.current.clone()
    }

    /// The next delivery; `None` when the client was closed.
    pub async fn next(&mut self) -> Option<Delivery> {
        loop {
            tokio::select! {
                biased;
                delivery = self.consumer.next() => match delivery {
                    Some(Ok(delivery)) => return Some(delivery),
                    ended => self.start_again(ended.and_then(std::result::Result::err)).await?,
                },
                Some(event) = self.events.next() => self.after(event).await,
            }
        }
    }

    /// A reconnect declares what this client declared. What it used as it was, and what depends on that, it does not.
    async fn after(&self, event: Event) {
        let Event::Recovered { role: Role::Main, restored } = event else { return };
        if restored.failed.is_empty() {
            return;
        }
        if let Err(error) = self.source.link.declare_anew(&self.source.destination).await {
            tracing::warn!("queue '{}' could not be declared after a reconnect: {error}", self.source.name());
        }
    }

    /// Declares and consumes until it succeeds; `None` when the client was closed.
    async fn start_again(&mut self, ended: Option<crate::Error>) -> Option<()> {
        let (link, queue) = (&self.source.link, self.source.name());
        if link.client.is_closed() {
            return None;
        }
        if let Some(error) = ended {
            tracing::warn!("queue '{queue}' went away and is made again: {error}");
        }
        let mut pause = FIRST_PAUSE;
        let consumer = loop {
            match self.source.consume().await {
                Ok(consumer) => break Arc::new(consumer),
                Err(_) if link.client.is_closed() => return None,
                Err(error) => tracing::warn!("queue '{queue}' cannot be consumed yet: {error}"),
            }
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        self.current.set(consumer.clone());
        self.consumer = consumer;
        Some(())
    }
}
