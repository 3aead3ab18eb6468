//! Delayed redelivery without a plugin: a copy waits in a queue with a TTL, whose dead letters go back to the first queue.
//!
//! The copy is confirmed before the delivery is acked, so nothing is lost between the two: a connection that is lost there
//! leaves both, and the message comes twice.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use crate::{
    Client, Delivery, Error, ErrorKind, FieldTable, Message, Properties, Queue, Result, Value,
    engine::{
        acks::{Lease, Settle},
        delivery_queue::DeliveryQueue,
    },
};

/// The header that counts the retries of a message.
pub const RETRIES: &str = "x-retries";
/// Where the message was published to before its first retry, which changes both.
const EXCHANGE: &str = "x-retried-exchange";
const ROUTING_KEY: &str = "x-retried-routing-key";

/// Headers by which the broker would send the copy elsewhere, or drop it: copies to other queues, and the history of dead
/// letters, in which it looks for circles.
const NOT_COPIED: [&str; 4] = ["CC", "BCC", "x-death", "x-delivery-count"];

/// An unused queue of copies goes away so long after the last of them has left it.
const UNUSED: Duration = Duration::from_secs(600);

/// When a message is delivered again, and how often. See [`Client::retry`].
#[derive(Clone, Debug)]
pub struct Retry {
    delay: Duration,
    limit: u32,
    queue: Option<String>,
}

impl Retry {
    /// Again after `delay`, 10 times at most.
    pub fn after(delay: Duration) -> Self {
        Self { delay, limit: 10, queue: None }
    }

    /// The maximum number of retries; the message is rejected then. Default: 10.
    pub fn limit(mut self, retries: u32) -> Self {
        self.limit = retries;
        self
    }

    /// The queue to come back to, for a delivery of [`Client::get`], or to another one. Default: that of the consumer.
    pub fn queue(mut self, name: impl Into<String>) -> Self {
        self.queue = Some(name.into());
        self
    }
}

impl Client {
    /// Has the message of `delivery` delivered again after a delay, and settles the delivery. Returns true, or false when the
    /// limit was reached: then it is rejected, which drops it or dead-letters it if its queue says so.
    ///
    /// A copy is published to a durable queue `QUEUE.retry.MILLISECONDS`, which is declared for it and goes away when it is
    /// not used; after its TTL the broker dead-letters it back to the queue (RabbitMQ, dead letter exchanges). The delivery
    /// is acked when the broker has confirmed the copy. The retries are counted in the header `x-retries`; the copy keeps
    /// body and properties but for `expiration`, `user_id` and the headers `CC`, `BCC`, `x-death` and `x-delivery-count`.
    /// It comes with the default exchange and the queue's name as its routing key; the first ones are in
    /// `x-retried-exchange` and `x-retried-routing-key`. A copy whose queue is gone when it is due is dropped.
    ///
    /// A stale delivery is left to the broker, which delivers it again. The user needs the permission to configure the queue
    /// of copies.
    ///
    /// Errors: as [`Client::publish`] and [`Client::declare_queue`], upon which the delivery is not settled;
    /// [`ErrorKind::InvalidArgument`] for one that was consumed without acks, whose headers cannot be read, or whose queue
    /// is not known.
    // Nothing is borrowed: a binding hands the future to another language.
    pub fn retry(
        &self,
        delivery: &Delivery,
        retry: &Retry,
    ) -> impl Future<Output = Result<bool>> + Send + use<> {
        let plan = self.plan(delivery, retry);
        let client = self.clone();
        async move { plan?.run(&client).await }
    }

    /// Whether the delivery is one of this client.
    #[doc(hidden)]
    pub fn has_delivered(&self, delivery: &Delivery) -> bool {
        delivery.lease.as_ref().is_some_and(|lease| lease.acks.is_of(&self.0.main.acks))
    }

    fn plan(&self, delivery: &Delivery, retry: &Retry) -> Result<Plan> {
        let Some(lease) = delivery.lease.clone().filter(|_| !delivery.no_ack) else {
            return Err(Error::invalid(
                "the message was consumed without acks: the broker considers it done, and a retry would double it",
            ));
        };
        if let Some(defect) = delivery.headers_error() {
            return Err(Error::invalid(format!(
                "a message whose headers cannot be read is not retried: {}",
                defect.reason
            )));
        }
        let queue = match &retry.queue {
            Some(queue) => queue.clone(),
            None => self.0.consumed_by(&delivery.consumer_tag).ok_or_else(|| {
                Error::invalid("the queue of the delivery is not known: name it, as for one of get()")
            })?,
        };
        let done = match header(delivery.properties(), RETRIES) {
            Some(Value::LongLongInt(count)) => u32::try_from(*count).unwrap_or_default(),
            Some(Value::LongInt(count)) => u32::try_from(*count).unwrap_or_default(),
            _ => 0,
        };
        let settle = Unsettled { lease, delivery_tag: delivery.delivery_tag };
        if done >= retry.limit {
            return Ok(Plan { settle, copy: None });
        }
        let properties = copied(delivery, done + 1);
        let message = Message::new(delivery.body().clone()).with_properties(properties);
        Ok(Plan { settle, copy: Some((message, waiting_room(&queue, retry.delay)?)) })
    }
}

struct Unsettled {
    lease: Arc<Lease>,
    delivery_tag: u64,
}

struct Plan {
    settle: Unsettled,
    copy: Option<(Message, Queue)>,
}

impl Plan {
    async fn run(self, client: &Client) -> Result<bool> {
        let Unsettled { lease, delivery_tag } = self.settle;
        let Some((message, queue)) = self.copy else {
            // A stream keeps its messages: an ack only lets more come.
            let how = if lease.acks.stream { Settle::Ack } else { Settle::Nack { requeue: false } };
            lease.acks.settle(delivery_tag, how)?;
            return Ok(false);
        };
        if lease.acks.is_stale(delivery_tag) {
            return Ok(true);
        }
        // Declaring it renews its expiry, too.
        let name = queue.name().to_owned();
        client.declare_queue(&queue).await?;
        let published = client.publish("", &name, message).await;
        // It comes back by itself; the record of the client is not to grow.
        client.forget(&name);
        published?;
        match lease.acks.settle(delivery_tag, Settle::Ack) {
            // Settled meanwhile by somebody else: the copy is on its way all the same.
            Err(error) if error.kind() == ErrorKind::AlreadySettled => Ok(true),
            settled => settled.map(|()| true),
        }
    }
}

/// The queue in which copies wait.
fn waiting_room(queue: &str, delay: Duration) -> Result<Queue> {
    let millis = delay.as_millis().max(1);
    if millis > u128::from(u32::MAX) {
        return Err(Error::invalid("a delay is at most 49 days, RabbitMQ's longest TTL"));
    }
    Ok(Queue::new(format!("{queue}.retry.{millis}"))
        .message_ttl(Duration::from_millis(millis as u64))
        .expires((delay + UNUSED).min(Duration::from_millis(u64::from(u32::MAX))))
        .dead_letter_exchange("")
        .dead_letter_routing_key(queue))
}

fn header<'a>(properties: &'a Properties, key: &str) -> Option<&'a Value> {
    properties.headers().as_ref()?.inner().get(key)
}

/// The properties of the copy. A `user_id` must be that of who publishes; an `expiration` would bring it back early.
fn copied(delivery: &Delivery, retries: u32) -> Properties {
    let old = delivery.properties();
    let mut headers = FieldTable::default();
    if let Some(given) = old.headers() {
        for (key, value) in given {
            if !NOT_COPIED.contains(&key.as_str())
                && !key.as_str().starts_with("x-first-death-")
                && !key.as_str().starts_with("x-last-death-")
            {
                headers.insert(key.clone(), value.clone());
            }
        }
    }
    if retries == 1 {
        headers.insert(EXCHANGE.into(), Value::LongString(delivery.exchange().into()));
        headers.insert(ROUTING_KEY.into(), Value::LongString(delivery.routing_key().into()));
    }
    headers.insert(RETRIES.into(), Value::LongLongInt(i64::from(retries)));
    let mut new = Properties::default().with_headers(headers);
    macro_rules! keep {
        ($($get:ident $set:ident),*) => {
            $(if let Some(value) = old.$get().clone() {
                new = new.$set(value);
            })*
        };
    }
    keep!(
        content_type with_content_type, content_encoding with_content_encoding, delivery_mode with_delivery_mode,
        priority with_priority, correlation_id with_correlation_id, reply_to with_reply_to,
        message_id with_message_id, timestamp with_timestamp, kind with_type, app_id with_app_id,
        cluster_id with_cluster_id
    );
    new
}

/// Finds the queue of a consumer.
#[derive(Default)]
pub(crate) struct Consumers(Mutex<Vec<Weak<DeliveryQueue>>>);

impl Consumers {
    pub fn note(&self, consumer: &Arc<DeliveryQueue>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() == known.capacity() {
            known.retain(|consumer| consumer.strong_count() > 0);
        }
        known.push(Arc::downgrade(consumer));
    }

    pub fn queue_of(&self, tag: &str) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut alive = known.iter().filter_map(Weak::upgrade);
        alive
            .find(|consumer| !tag.is_empty() && &*consumer.request.tag == tag)
            .map(|consumer| consumer.queue())
    }
}
