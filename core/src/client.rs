//! The handle that everything starts from.

mod closing;
pub(crate) mod connections;
mod topology;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};
use zeroize::Zeroizing;

use self::connections::Inner;
pub(crate) use self::topology::existing_queue;
use crate::{
    Error, ErrorKind, Result,
    delivery::Delivery,
    engine::{
        closed,
        command::{Command, Get, Pending},
        publish::Confirmation,
    },
    events::Events,
    message::{Message, check_short},
    options::{LONGEST_TIMEOUT, Options},
    publisher::Publisher,
    stats::Stats,
    wire::handshake::ServerInfo,
};

/// A connection to `RabbitMQ` that keeps itself alive. Cheap to clone; all clones are the same client.
///
/// It owns up to two connections: one for topology and consuming, and one for publishing, opened at the first publish,
/// so that a broker that blocks publishers never stops consuming and acking. Both recover by themselves
/// (see [`crate::options::Recovery`]).
///
/// The runtime that it was connected in drives it, deadlines included: they are the engine's, and no handle has a timer of
/// its own. So a runtime of one thread (`new_current_thread`) drives it only within `block_on`. A publish or another
/// operation that is awaited outside of it, with another executor, ends only when the runtime is driven again, whatever its
/// deadline; a service that blocks its runtime stops heartbeats too.
///
/// ```
/// # #[cfg(feature = "broker")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> murano_messaging::Result<()> {
/// use murano_messaging::{Client, Message, Queue};
///
/// // The embedded broker; amqp://user:password@host/vhost is RabbitMQ.
/// let client = Client::connect("memory://example").await?;
/// client.declare_queue(&Queue::new("tasks")).await?;
/// client.publish("", "tasks", Message::text("to do")).await?;
///
/// let tasks = client.consume("tasks").start().await?;
/// if let Some(delivery) = tasks.next().await {
///     let delivery = delivery?;
///     assert_eq!(delivery.body().as_ref(), b"to do");
///     delivery.ack()?;
/// }
/// client.close().await
/// # }
/// # #[cfg(not(feature = "broker"))]
/// # fn main() {}
/// ```
///
/// Dropping the last handle (client, publishers and consumers) closes it in the background: what was published is
/// flushed and confirmed first. [`Client::close`] does the same and waits for it.
#[derive(Clone)]
pub struct Client(
    pub(crate) Arc<Inner>,
    /// The deadline of this handle's operations, if it is not that of the options.
    Option<Duration>,
);

/// A reference to a [`Client`] that does not keep it open.
#[derive(Clone)]
pub struct WeakClient(Weak<Inner>);

impl WeakClient {
    /// The client, with the deadline of its options; `None` when its last handle was dropped.
    pub fn upgrade(&self) -> Option<Client> {
        self.0.upgrade().map(|inner| Client(inner, None))
    }
}

impl std::fmt::Debug for WeakClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WeakClient").finish()
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl Options {
    /// Connects with these options.
    ///
    /// Must be called within a tokio runtime, whose tasks then drive the connection. Errors: as [`Client::connect`].
    pub async fn connect(self) -> Result<Client> {
        let (inner, connected) = Inner::start(self)?;
        // From here on dropping the client, also by giving up this wait, ends the engine.
        let client = Client(inner, None);
        connected.await.unwrap_or_else(|_| Err(closed()))?;
        Ok(client)
    }
}

impl Client {
    /// Connects to the broker that `uri` names, e.g. `amqps://user:secret@rabbit-1,rabbit-2/vhost?heartbeat=10`.
    ///
    /// Must be called within a tokio runtime. Fails at once, and clearly, when the first attempt fails
    /// ([`crate::ErrorKind::ConnectFailed`], [`crate::ErrorKind::Authentication`], [`crate::ErrorKind::VhostRefused`],
    /// [`crate::ErrorKind::Tls`] ...); [`crate::options::Recovery::retry_initial`] makes it go on trying.
    pub async fn connect(uri: &str) -> Result<Self> {
        Options::from_uri(uri)?.connect().await
    }

    /// Options to connect with, where a URI does not say enough.
    pub fn builder() -> Options {
        Options::new()
    }

    /// A handle of the same client whose operations have `timeout` as their deadline, instead of
    /// [`Options::operation_timeout`]: `client.with_timeout(SECOND).queue_info("tasks")`. Publishers and consumers that are
    /// made with it have it too.
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self(self.0.clone(), Some(timeout.min(LONGEST_TIMEOUT)))
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.1.unwrap_or(self.0.options.operation_timeout)
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.timeout()
    }

    /// Asks the engine of the main connection and waits for its answer.
    pub(crate) async fn ask<T>(
        &self,
        name: String,
        command: impl FnOnce(Pending<T>) -> Command,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let asked = Pending { name, deadline: self.deadline(), to: Some(reply) };
        self.0.main.send(command(asked))?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// A handle that does not keep the client open.
    pub fn downgrade(&self) -> WeakClient {
        WeakClient(Arc::downgrade(&self.0))
    }

    // ---- publishing ------------------------------------------------------------------------------------------

    /// A handle that publishes to one exchange with one routing key. `exchange` "" is the default exchange, whose
    /// routing keys are queue names.
    pub fn publisher(&self, exchange: impl Into<Arc<str>>, routing_key: impl Into<Arc<str>>) -> Publisher {
        Publisher::new(self.0.clone(), exchange.into(), routing_key.into(), self.timeout())
    }

    /// Publishes a message and returns when the broker has taken responsibility for it (RabbitMQ, publisher confirms).
    ///
    /// With the defaults (persistent, mandatory) and a durable queue, a message is not lost after this returned.
    /// Publishing does not renew a queue's TTL (`expires`); consuming does.
    ///
    /// Errors: [`crate::ErrorKind::Unroutable`] (with the message), [`crate::ErrorKind::Nacked`],
    /// [`crate::ErrorKind::NotFound`] (no such exchange), [`crate::ErrorKind::AccessRefused`],
    /// [`crate::ErrorKind::Timeout`], [`crate::ErrorKind::Blocked`], [`crate::ErrorKind::InvalidArgument`] (nothing was
    /// sent). [`crate::Error::outcome_unknown`] says whether the broker may have taken the message all the same.
    #[doc(alias = "basic_publish")]
    pub async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        message: impl Into<Message>,
    ) -> Result<()> {
        self.publisher(exchange, routing_key).publish(message).await
    }

    /// Publishes a message; the broker's answer is awaited later. Waits only while the window is full.
    pub async fn publish_deferred(
        &self,
        exchange: &str,
        routing_key: &str,
        message: impl Into<Message>,
    ) -> Result<Confirmation> {
        self.publisher(exchange, routing_key).publish_deferred(message).await
    }

    /// As [`Self::publish_deferred`].
    #[deprecated = "renamed to `publish_deferred`"]
    pub async fn publish_nowait(
        &self,
        exchange: &str,
        routing_key: &str,
        message: impl Into<Message>,
    ) -> Result<Confirmation> {
        self.publish_deferred(exchange, routing_key, message).await
    }

    /// Writes what [`Publisher::enqueue`] has queued, from this thread if nothing else is being written; otherwise the
    /// engine does. For a caller that is about to wait for one of these publishes.
    #[doc(hidden)]
    pub fn flush(&self) {
        self.0.publishing.flush();
    }

    /// Has the engine send what [`Publisher::enqueue`] has queued.
    #[doc(hidden)]
    pub fn flush_later(&self) {
        self.0.publishing.flush_later();
    }

    // ---- consuming -------------------------------------------------------------------------------------------

    /// Takes one message off a queue (`basic.get`); `None` when it is empty. It is to be acked, and keeps a channel until
    /// it is settled. Consuming is far cheaper for more than one.
    #[doc(alias = "basic_get")]
    pub async fn get_with_ack(&self, queue: &str) -> Result<Option<Delivery>> {
        self.basic_get(queue, false).await
    }

    /// As [`Self::get_with_ack`]; the broker forgets the message at once (`no-ack`), so that it is lost with whoever has
    /// taken it.
    pub async fn get_no_ack(&self, queue: &str) -> Result<Option<Delivery>> {
        self.basic_get(queue, true).await
    }

    /// Takes one message off a queue, with or without acks.
    #[deprecated = "use get_with_ack or get_no_ack"]
    pub async fn get(&self, queue: &str, no_ack: bool) -> Result<Option<Delivery>> {
        self.basic_get(queue, no_ack).await
    }

    async fn basic_get(&self, queue: &str, no_ack: bool) -> Result<Option<Delivery>> {
        existing_queue(queue)?;
        let queue = queue.to_owned();
        let name = format!("get from queue '{queue}'");
        self.ask(name, |reply| Command::Get(Get { queue, no_ack, reply })).await
    }

    // ---- the connection --------------------------------------------------------------------------------------

    /// What happens to the connections from now on. Of a client that is closed there is one [`crate::Event::Closed`], and
    /// the end.
    pub fn events(&self) -> Events {
        // Before the look: an end that comes between the two is told to whoever has subscribed.
        let events = self.0.events.subscribe();
        match self.0.main.why_closed() {
            None => events,
            Some(error) => Events::of_closed((error.kind() != ErrorKind::Closed).then_some(error)),
        }
    }

    /// What the client did so far.
    pub fn stats(&self) -> Stats {
        let counters = &self.0.counters;
        let published = self.0.publishing.counters();
        let (in_flight, in_flight_bytes) = self.0.publishing.in_flight();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            published: published.published,
            confirmed: published.confirmed,
            returned: published.returned,
            nacked: published.nacked,
            republished: published.republished,
            in_flight: in_flight as u64,
            in_flight_bytes: in_flight_bytes as u64,
            bytes_published: published.bytes,
            delivered: read(&counters.delivered),
            bytes_delivered: read(&counters.bytes_delivered),
            acked: self.0.main.acks.settled(),
            undelivered_bytes: self.0.main.budget.bytes() as u64,
            reconnects: read(&counters.reconnects),
            recorded: read(&counters.recorded),
            main_connected: self.0.main.is_connected(),
            publish_connected: self.0.publish_link().map(|link| link.is_connected()),
        }
    }

    /// Whether the main connection is open at this moment; [`Self::stats`] has each connection. An outage ends it, a
    /// recovery brings it back. A peer that is silent counts as connected until its heartbeats are missed.
    pub fn is_connected(&self) -> bool {
        self.0.main.is_connected()
    }

    /// Whether the client was closed, or gave up.
    pub fn is_closed(&self) -> bool {
        self.0.main.is_closed()
    }

    /// Whether the broker blocks publishing, for lack of memory or disk: publishes wait until it ends, up to their deadline.
    pub fn is_blocked(&self) -> bool {
        self.0.events.is_blocked()
    }

    /// What the broker said of itself when the connection (or the last one) was opened.
    pub fn server(&self) -> Option<Arc<ServerInfo>> {
        self.0.main.server()
    }

    /// The options the client was made with.
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// Gives the broker a new secret for the login in use (RabbitMQ `connection.update-secret`; OAuth 2 tokens), on both
    /// connections. Later logins use it too, of connections that are down or were not opened yet; where there is a
    /// credentials callback, they ask that instead.
    ///
    /// Errors: [`crate::ErrorKind::Refused`] with 530 when the broker does not accept it; then later logins go on with the
    /// former one.
    pub async fn update_secret(&self, secret: &str, reason: &str) -> Result<()> {
        check_short("reason", reason)?;
        if let Some(error) = self.0.main.why_closed() {
            return Err(error);
        }
        let secret = Zeroizing::new(secret.to_owned());
        let deadline = self.deadline();
        // All are told before any is waited for. A connection that gave up has no login; its successor will have the new
        // secret.
        let told: Vec<_> = self
            .0
            .links()
            .into_iter()
            .filter_map(|link| {
                let (reply, answer) = oneshot::channel();
                let reply = Pending { name: "update the secret".into(), deadline, to: Some(reply) };
                let command =
                    Command::UpdateSecret { secret: secret.clone(), reason: reason.to_owned(), reply };
                link.send(command).is_ok().then_some(answer)
            })
            .collect();
        let mut result = Ok(());
        for answer in told {
            result = result.and(answer.await.unwrap_or_else(|_| Err(closed())));
        }
        let refused = result.as_ref().is_err_and(|error: &Error| error.reply_code().is_some());
        if !refused {
            self.0.options.secrets.renew(secret);
        }
        result
    }
}
