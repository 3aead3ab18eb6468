//! Listening to notifications.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::{
    super::{
        Context, Error, Result, Transport,
        link::{Destination, Link},
        message::{take_context, take_text, take_unique_id},
        source::{Arrivals, Source, put_back},
    },
    Priority,
};
use crate::Delivery;

/// The notifications that a listener holds unsettled, unless it is told otherwise.
const PREFETCH: u16 = 100;

/// A listener that has not started yet.
#[derive(Debug)]
#[must_use = "nothing is heard before start()"]
pub struct ListenerBuilder {
    transport: Transport,
    topics: Vec<String>,
    priorities: Vec<Priority>,
    exchange: Option<String>,
    pool: Option<String>,
    prefetch: u16,
}

/// Takes notifications off the queues of their topics and priorities.
#[derive(Debug)]
pub struct Listener {
    arrived: mpsc::Receiver<Notification>,
}

/// A notification. It is settled by [`Self::ack`] or [`Self::requeue`]; one that is dropped goes back to its queue when the
/// listener ends.
#[derive(Debug)]
pub struct Notification {
    /// What happened, e.g. `compute.instance.create.end`.
    pub event_type: String,
    /// Who sent it.
    pub publisher_id: String,
    /// How important it is; `None` for a priority that is not known.
    pub priority: Option<Priority>,
    /// The context it was sent in.
    pub context: Context,
    /// What it says.
    pub payload: Value,
    /// Its id; the same when it is delivered again.
    pub message_id: String,
    /// When it was sent, as its sender writes times.
    pub timestamp: String,
    delivery: Delivery,
}

impl Notification {
    /// The payload as a type. [`Error::Malformed`] if it is not what the type asks for.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(&self.payload).map_err(|error| {
            Error::Malformed(format!("the payload of {} is another: {error}", self.event_type))
        })
    }

    /// Whether it was delivered before.
    pub fn redelivered(&self) -> bool {
        self.delivery.redelivered()
    }

    /// It is done.
    pub fn ack(&self) -> Result<()> {
        Ok(self.delivery.ack()?)
    }

    /// It goes back to its queue, to be delivered again.
    pub fn requeue(&self) -> Result<()> {
        Ok(self.delivery.requeue()?)
    }

    fn from_fields(mut fields: Map<String, Value>, delivery: Delivery) -> Self {
        let context = take_context(&mut fields);
        take_unique_id(&mut fields);
        let mut text = |key: &str| take_text(&mut fields, key).unwrap_or_default();
        Self {
            event_type: text("event_type"),
            publisher_id: text("publisher_id"),
            priority: Priority::from_name(&text("priority")),
            message_id: text("message_id"),
            timestamp: text("timestamp"),
            payload: fields.remove("payload").unwrap_or_default(),
            context,
            delivery,
        }
    }
}

impl Listener {
    /// Prepares a listener to the notifications of `topics`, of every priority.
    pub fn of<T: Into<String>>(
        transport: &Transport,
        topics: impl IntoIterator<Item = T>,
    ) -> ListenerBuilder {
        ListenerBuilder {
            transport: transport.clone(),
            topics: topics.into_iter().map(Into::into).collect(),
            priorities: Priority::ALL.to_vec(),
            exchange: None,
            pool: None,
            prefetch: PREFETCH,
        }
    }

    /// The next notification; `None` when the transport was closed. What cannot be read is dropped with a warning.
    pub async fn next(&mut self) -> Option<Notification> {
        self.arrived.recv().await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The tasks see that it is closed.
        self.arrived.close();
        while let Ok(notification) = self.arrived.try_recv() {
            put_back(&notification.delivery);
        }
    }
}

impl ListenerBuilder {
    /// Only these priorities.
    pub fn priorities(mut self, priorities: impl IntoIterator<Item = Priority>) -> Self {
        self.priorities = priorities.into_iter().collect();
        self
    }

    /// Another exchange than the control exchange.
    pub fn exchange(mut self, exchange: impl Into<String>) -> Self {
        self.exchange = Some(exchange.into());
        self
    }

    /// A pool of listeners that gets a copy of every notification and shares them out among its members, beside the
    /// listeners without a pool. Its queue collects notifications while no member listens.
    pub fn pool(mut self, pool: impl Into<String>) -> Self {
        self.pool = Some(pool.into());
        self
    }

    /// How many notifications of each queue are unsettled at a time.
    pub fn prefetch(mut self, messages: u16) -> Self {
        self.prefetch = messages;
        self
    }

    /// Declares the queues, binds them, and listens. Must be called within a tokio runtime.
    pub async fn start(self) -> Result<Listener> {
        if self.topics.is_empty() || self.priorities.is_empty() {
            return Err(Error::Invalid("a listener has topics and priorities".into()));
        }
        // The bound is that of the prefetch; one place makes a queue wait for the application.
        let (sender, arrived) = mpsc::channel(1);
        let listener = Listener { arrived };
        let link = self.transport.link();
        for topic in &self.topics {
            for priority in &self.priorities {
                let destination = Destination::of_notifications(
                    &link.config,
                    self.exchange.as_deref(),
                    topic,
                    *priority,
                    self.pool.as_deref(),
                );
                let prefetch = Some(self.prefetch);
                let source = Source { link: link.clone(), destination, prefetch, stream: false };
                // Here, so that a start that fails says so.
                let arrivals = source.start().await?;
                tokio::spawn(listen(arrivals, link.clone(), sender.clone()));
            }
        }
        Ok(listener)
    }
}

/// Takes notifications off one queue, until the listener is dropped.
async fn listen(mut arrivals: Arrivals, link: Arc<Link>, sender: mpsc::Sender<Notification>) {
    loop {
        let delivery = tokio::select! {
            biased;
            () = sender.closed() => return,
            delivery = arrivals.next() => delivery,
        };
        let Some(delivery) = delivery else { return };
        let notification = match link.decode(&delivery) {
            Ok(fields) => Notification::from_fields(fields, delivery),
            Err(error) => {
                tracing::warn!("a notification that cannot be read is dropped: {error}");
                if let Err(error) = delivery.reject() {
                    tracing::debug!("it could not be rejected: {error}");
                }
                continue;
            }
        };
        if let Err(unsent) = sender.send(notification).await {
            put_back(&unsent.0.delivery);
            return;
        }
    }
}
