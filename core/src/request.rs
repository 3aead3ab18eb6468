//! Request and reply over `RabbitMQ`'s direct reply-to: one consumer of replies for all requests of a client.
//!
//! The consumer starts at the first request. A task hands each reply to the request with its correlation id, and keeps the
//! deadlines. The reply address belongs to the connection: when that is lost, requests that the broker had confirmed fail,
//! because their replies have nowhere to go; those it had not are sent again, with the new address.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use amq_protocol::types::ShortString;
use tokio::{
    sync::{Mutex as AsyncMutex, Notify, oneshot},
    time::Instant,
};

use crate::{
    Client, Consumer, Delivery, Error, ErrorKind, Event, Events, Message, Result,
    client::connections::DIRECT_REPLY_TO,
    engine::{closed, publish::Publishing},
    events::Role,
    options::LONGEST_TIMEOUT,
};

/// How often the task of an idle client looks whether it holds the client's last handle.
const LOOK: Duration = Duration::from_secs(1);

/// The requests of a client.
#[derive(Default)]
pub(crate) struct Requests {
    /// What requests are published through, once there is a consumer of their replies.
    through: AsyncMutex<Option<Arc<Publishing>>>,
    pending: Arc<Pending>,
}

#[derive(Default)]
struct Pending {
    by_id: Mutex<BTreeMap<String, Waiting>>,
    /// A request may have the earliest deadline.
    changed: Notify,
}

/// A request without a reply.
struct Waiting {
    /// Where it went, for errors.
    to: String,
    deadline: Instant,
    timeout: Duration,
    /// Whether the broker has confirmed it, so that it is not sent again.
    confirmed: bool,
    reply: oneshot::Sender<Result<Delivery>>,
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Waiting>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.lock().values().map(|waiting| waiting.deadline).min()
    }

    fn reply(&self, reply: Delivery) {
        let id = reply.properties().correlation_id().as_ref().map(ShortString::as_str).unwrap_or_default();
        // A late reply, or one that nobody asked for.
        let Some(waiting) = self.lock().remove(id) else {
            tracing::debug!(correlation_id = id, "a reply that no request waits for");
            return;
        };
        let _ = waiting.reply.send(Ok(reply));
    }

    /// Fails those that `which` holds for.
    fn fail(&self, which: impl Fn(&Waiting) -> bool, error: impl Fn(&Waiting) -> Error) {
        let failed: Vec<_> = {
            let mut by_id = self.lock();
            let ids: Vec<_> =
                by_id.iter().filter(|(_, waiting)| which(waiting)).map(|(id, _)| id.clone()).collect();
            ids.iter().filter_map(|id| by_id.remove(id)).collect()
        };
        for waiting in failed {
            let error = error(&waiting);
            let _ = waiting.reply.send(Err(error));
        }
    }

    fn expire(&self, now: Instant) {
        self.fail(
            |waiting| waiting.deadline <= now,
            |waiting| {
                let state = if waiting.confirmed { "taken by the broker" } else { "not confirmed" };
                let text = format!(
                    "request to {}: no reply within {:?}; the request was {state}",
                    waiting.to, waiting.timeout
                );
                Error::new(ErrorKind::Timeout, text).with_outcome_unknown()
            },
        );
    }

    fn lost(&self, reason: &Error) {
        self.fail(
            |waiting| waiting.confirmed,
            |waiting| {
                let text = format!(
                    "request to {}: the connection was lost while the reply was on its way, and a reply does not find \
                     another; the request may have been carried out: {reason}",
                    waiting.to
                );
                Error::new(ErrorKind::ConnectionLost, text).with_outcome_unknown()
            },
        );
    }
}

/// Forgets its request when it is given up.
struct Forget<'a> {
    pending: &'a Pending,
    id: &'a str,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.pending.lock().remove(self.id);
    }
}

impl Client {
    /// Publishes a request and returns the reply to it (`RabbitMQ`, direct reply-to): the first message that comes back with
    /// its correlation id, which is made up if `message` has none. Many requests may wait at a time.
    ///
    /// Who replies publishes to the default exchange, with the request's `reply_to` as routing key and its
    /// `correlation_id`. Requests go over the connection that consumes. Dropping the future gives the request up.
    ///
    /// Errors: as [`Client::publish`], [`ErrorKind::Unroutable`] at once when no queue takes the request;
    /// [`ErrorKind::Timeout`] without a reply after the operation timeout, or that of [`Client::with_timeout`]; [`ErrorKind::ConnectionLost`] when the connection was lost
    /// after the broker had confirmed the request: the reply cannot arrive, and the request may have been carried out
    /// ([`Error::outcome_unknown`]). A request that was not confirmed by then is sent again.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # use std::time::Duration;
    /// use murano_messaging::{Client, Message, Queue};
    ///
    /// let client = Client::connect("memory://requests").await?;
    /// client.declare_queue(&Queue::new("double")).await?;
    /// let server = client.clone();
    /// let requests = client.consume("double").start().await?;
    /// tokio::spawn(async move {
    ///     while let Some(Ok(request)) = requests.next().await {
    ///         let number: u32 = request.json().unwrap();
    ///         let mut reply = Message::json(&(2 * number)).unwrap();
    ///         if let Some(id) = request.properties().correlation_id() {
    ///             reply = reply.correlation_id(id.as_str());
    ///         }
    ///         let to = request.properties().reply_to().clone().unwrap();
    ///         server.publish("", to.as_str(), reply).await.unwrap();
    ///         request.ack().unwrap();
    ///     }
    /// });
    /// let patient = client.with_timeout(Duration::from_secs(5));
    /// let reply = patient.request("", "double", Message::json(&21)?).await?;
    /// assert_eq!(reply.json::<u32>()?, 42);
    /// # Ok::<(), murano_messaging::Error>(()) }).unwrap();
    /// ```
    pub async fn request(&self, exchange: &str, routing_key: &str, message: Message) -> Result<Delivery> {
        let timeout = self.timeout().min(LONGEST_TIMEOUT);
        let deadline = Instant::now() + timeout;
        let through = self.replies().await?;
        let id = match message.properties.correlation_id() {
            Some(id) => id.to_string(),
            None => self.0.ids.message(),
        };
        let pending = &*self.0.direct_requests.pending;
        let (reply, replied) = oneshot::channel();
        let to = if exchange.is_empty() {
            format!("queue '{routing_key}'")
        } else {
            format!("exchange '{exchange}' with routing key '{routing_key}'")
        };
        let waiting = Waiting { to, deadline, timeout, confirmed: false, reply };
        {
            let mut by_id = pending.lock();
            if by_id.contains_key(&id) {
                return Err(Error::invalid(format!(
                    "a request with the correlation id '{id}' waits for its reply: give each its own"
                )));
            }
            by_id.insert(id.clone(), waiting);
        }
        let _forget = Forget { pending, id: &id };
        pending.changed.notify_one();
        let message = message.reply_to(DIRECT_REPLY_TO).correlation_id(id.as_str());
        let left = deadline.saturating_duration_since(Instant::now());
        let publisher = self.publisher(exchange, routing_key).timeout(Some(left)).via(through);
        publisher.publish(message).await?;
        if let Some(waiting) = pending.lock().get_mut(&id) {
            waiting.confirmed = true;
        }
        replied.await.unwrap_or_else(|_| Err(closed()))
    }

    /// What requests go through: with a consumer of their replies, started if there is none.
    async fn replies(&self) -> Result<Arc<Publishing>> {
        let requests = &self.0.direct_requests;
        let mut through = requests.through.lock().await;
        if let Some(through) = through.as_ref().filter(|through| !through.with(|window| window.is_closed())) {
            return Ok(through.clone());
        }
        let events = self.events();
        let consumer = self.consume(DIRECT_REPLY_TO).no_ack(true).of_requests().start().await?;
        let started = consumer.requests().ok_or_else(closed)?;
        *through = Some(started.clone());
        self.0.spawn(serve(consumer, events, requests.pending.clone()));
        Ok(started)
    }
}

/// Hands out replies and keeps deadlines until the consumer ends, or nobody else has the client.
async fn serve(consumer: Consumer, mut events: Events, pending: Arc<Pending>) {
    loop {
        let now = Instant::now();
        pending.expire(now);
        let wake = pending.next_deadline().map_or(now + LOOK, |deadline| deadline.min(now + LOOK));
        tokio::select! {
            biased;
            reply = consumer.next() => match reply {
                Some(Ok(reply)) => pending.reply(reply),
                Some(Err(error)) => return pending.fail(|_| true, |_| error.clone()),
                None => return pending.fail(|_| true, |_| closed()),
            },
            event = events.next() => match event {
                Some(Event::Lost { role: Role::Main, reason }) => {
                    // What had arrived before.
                    while let Poll::Ready(Some(Ok(reply))) = consumer.try_recv() {
                        pending.reply(reply);
                    }
                    pending.lost(&reason);
                }
                Some(_) => {}
                None => return pending.fail(|_| true, |_| closed()),
            },
            () = pending.changed.notified() => {}
            () = tokio::time::sleep_until(wake) => {
                if consumer.is_last_handle() {
                    return;
                }
            }
        }
    }
}
