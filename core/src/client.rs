//! The handle that everything starts from.

use std::{
    sync::{
        Arc, Mutex, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use amq_protocol::{
    protocol::{AMQPClass, exchange, queue},
    types::ShortString,
};
use tokio::{sync::oneshot, time::Instant};
use zeroize::Zeroizing;

use crate::{
    Error, ErrorKind, Result,
    delivery::Delivery,
    engine::{
        Engine, Setup, closed,
        command::{Answer, Call, Command, Get, Pending, TopologyChange},
        link::Link,
        publishing::{Confirmation, Publishing},
        window::Window,
    },
    error::{NOT_FOUND, PRECONDITION_FAILED},
    events::{EventSender, Events, Role},
    ids::Ids,
    message::{Message, check_short},
    options::{LONGEST_TIMEOUT, Options},
    publisher::Publisher,
    stats::{Counters, Stats},
    topology::{Binding, Exchange, Queue, QueueInfo},
    wire::handshake::ServerInfo,
};

/// A connection to `RabbitMQ` that keeps itself alive. Cheap to clone; all clones are the same client.
///
/// It owns up to two connections: one for topology and consuming, and one for publishing, opened at the first publish,
/// so that a broker that blocks publishers never stops consuming and acking. Both recover by themselves
/// (see [`crate::options::Recovery`]).
///
/// Dropping the last handle (client, publishers and consumers) closes it in the background: what was published is
/// flushed and confirmed first. [`Client::close`] does the same and waits for it.
#[derive(Clone)]
pub struct Client(pub(crate) Arc<Inner>);

/// A [`Client`] that this does not keep open.
#[derive(Clone)]
pub struct WeakClient(Weak<Inner>);

impl WeakClient {
    /// The client; `None` when its last handle was dropped.
    pub fn upgrade(&self) -> Option<Client> {
        self.0.upgrade().map(Client)
    }
}

impl std::fmt::Debug for WeakClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WeakClient").finish()
    }
}

pub(crate) struct Inner {
    pub options: Arc<Options>,
    runtime: tokio::runtime::Handle,
    pub main: Arc<Link>,
    pub publishing: Arc<Publishing>,
    /// The publishing connection, once there is one.
    publish_link: Mutex<Option<Arc<Link>>>,
    pub events: EventSender,
    counters: Arc<Counters>,
    pub ids: Ids,
    next_consumer: AtomicU64,
    /// Fanout exchanges that this client declared: publishing to them is not mandatory by default.
    fanouts: RwLock<std::collections::BTreeSet<String>>,
    /// The windows of the direct reply consumers, closed ones too until there is another.
    requests: Mutex<Vec<Arc<Publishing>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for link in self.links() {
            let deadline = Instant::now() + self.options.operation_timeout;
            let reply = Pending { name: "close".into(), deadline, to: None };
            // The engine being gone is as good.
            let _ = link.send(Command::Close { drain: false, reply });
        }
    }
}

impl Inner {
    fn publish_link(&self) -> Option<Arc<Link>> {
        self.publish_link.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn links(&self) -> Vec<Arc<Link>> {
        // Publishing first: its confirms may depend on nothing, but a consumer's last acks may follow a publish.
        self.publish_link().into_iter().chain([self.main.clone()]).collect()
    }

    /// The window for a publish, with a connection to carry it.
    pub fn publishing_for(&self, message: &Message) -> Result<Arc<Publishing>> {
        if let Some(reply_to) = message.properties.reply_to()
            && reply_to.as_str() == DIRECT_REPLY_TO
        {
            let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            return requests.iter().rfind(|requests| is_open(requests)).cloned().ok_or_else(|| {
                let text = format!(
                    "a message with reply_to '{DIRECT_REPLY_TO}' is published after consuming that queue: do that first, with \
                     no_ack (RabbitMQ, direct reply-to)"
                );
                Error::foreseen(PRECONDITION_FAILED, text)
            });
        }
        if self.publishing.link().is_none_or(|link| link.is_closed()) {
            self.open_publish_link()?;
        }
        Ok(self.publishing.clone())
    }

    /// Starts the publishing connection, at the first publish or after it gave up.
    fn open_publish_link(&self) -> Result<()> {
        let mut slot = self.publish_link.lock().unwrap_or_else(PoisonError::into_inner);
        // With the lock, so that a close that has closed the main connection finds every other that there will be.
        if let Some(error) = self.main.why_closed() {
            return Err(error);
        }
        if slot.as_ref().is_some_and(|link| !link.is_closed()) || !self.options.separate_publish_connection {
            return Ok(());
        }
        let link = Link::new(self.options.delivery_buffer);
        self.publishing.attach(&link);
        self.publishing.with(Window::reopen);
        let engine = Engine::new(Setup {
            role: Role::Publish,
            options: self.options.clone(),
            link: link.clone(),
            publishing: Some(self.publishing.clone()),
            events: self.events.clone(),
            counters: self.counters.clone(),
            after: Some(self.main.clone()),
        });
        // Nobody waits for the first connection as such: what fails it fails the publishes that wait for it.
        let (first, _) = oneshot::channel();
        self.runtime.spawn(engine.run(first));
        *slot = Some(link);
        Ok(())
    }

    pub fn is_fanout(&self, exchange: &str) -> bool {
        !exchange.is_empty()
            && (exchange == "amq.fanout"
                || self.fanouts.read().unwrap_or_else(PoisonError::into_inner).contains(exchange))
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.options.operation_timeout
    }

    /// Asks the engine of the main connection and waits for its answer.
    pub async fn ask<T>(&self, name: String, command: impl FnOnce(Pending<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let asked = Pending { name, deadline: self.deadline(), to: Some(reply) };
        self.main.send(command(asked))?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    pub fn next_consumer(&self) -> u64 {
        self.next_consumer.fetch_add(1, Ordering::Relaxed)
    }

    pub fn set_requests(&self, requests: Arc<Publishing>) {
        let mut known = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(is_open);
        known.push(requests);
    }
}

fn is_open(publishing: &Arc<Publishing>) -> bool {
    !publishing.with(|window| window.is_closed())
}

/// The pseudo-queue of RabbitMQ's direct reply-to.
pub(crate) const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

impl Options {
    /// Connects with these options.
    ///
    /// Must be called within a tokio runtime, whose tasks then drive the connection. Errors: as [`Client::connect`].
    pub async fn connect(self) -> Result<Client> {
        let options = Arc::new(self.complete()?);
        let link = Link::new(options.delivery_buffer);
        let publishing = Publishing::new(options.window_messages, options.window_bytes);
        let events = EventSender::new();
        let counters = Arc::new(Counters::default());
        let shared = !options.separate_publish_connection;
        if shared {
            publishing.attach(&link);
        }
        let engine = Engine::new(Setup {
            role: Role::Main,
            options: options.clone(),
            link: link.clone(),
            publishing: shared.then(|| publishing.clone()),
            events: events.clone(),
            counters: counters.clone(),
            after: None,
        });
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| Error::invalid("connect() is called outside of a tokio runtime"))?;
        let ids = Ids::new(options.seed);
        // From here on dropping the client, also by giving up this wait, ends the engine.
        let client = Client(Arc::new(Inner {
            options,
            runtime,
            main: link,
            publishing,
            publish_link: Mutex::new(None),
            events,
            counters,
            ids,
            next_consumer: AtomicU64::new(1),
            fanouts: RwLock::default(),
            requests: Mutex::default(),
        }));
        let (first, connected) = oneshot::channel();
        client.0.runtime.spawn(engine.run(first));
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

    /// A handle that does not keep the client open.
    pub fn downgrade(&self) -> WeakClient {
        WeakClient(Arc::downgrade(&self.0))
    }

    // ---- topology --------------------------------------------------------------------------------------------

    async fn call(&self, name: String, method: AMQPClass, effect: TopologyChange) -> Result<Answer> {
        self.0.ask(name, |reply| Command::Call(Call { method, effect, reply })).await
    }

    /// Declares a queue (AMQP 0-9-1 section 1.7.2.1); the name in the answer is the broker's for a server-named one.
    ///
    /// Errors: [`crate::ErrorKind::PreconditionFailed`] when it exists with other properties,
    /// [`crate::ErrorKind::ResourceLocked`] when it is exclusive to another connection,
    /// [`crate::ErrorKind::InvalidArgument`] for what no broker can serve.
    pub async fn declare_queue(&self, queue: &Queue) -> Result<QueueInfo> {
        queue.check()?;
        let name = format!("declare queue '{}'", queue.name());
        let method = AMQPClass::Queue(queue::AMQPMethod::Declare(queue.declare()));
        match self.call(name, method, TopologyChange::DeclareQueue(queue.clone())).await? {
            Answer::Queue(info) => Ok(info),
            other => Err(unexpected(&other)),
        }
    }

    /// The counts of a queue that exists (passive declare); [`crate::ErrorKind::NotFound`] when it does not.
    pub async fn queue_info(&self, queue: &str) -> Result<QueueInfo> {
        let declare =
            queue::Declare { queue: existing_queue(queue)?, passive: true, ..queue::Declare::default() };
        let method = AMQPClass::Queue(queue::AMQPMethod::Declare(declare));
        match self.call(format!("look up queue '{queue}'"), method, TopologyChange::None).await? {
            Answer::Queue(info) => Ok(info),
            other => Err(unexpected(&other)),
        }
    }

    /// Deletes a queue and returns how many messages went with it. A queue that does not exist counts as deleted.
    pub async fn delete_queue(&self, queue: &str) -> Result<u32> {
        self.delete_queue_if(queue, false, false).await
    }

    /// Deletes a queue only if nobody consumes it (`if_unused`) and it holds nothing (`if_empty`);
    /// [`crate::ErrorKind::PreconditionFailed`] otherwise.
    pub async fn delete_queue_if(&self, queue: &str, if_unused: bool, if_empty: bool) -> Result<u32> {
        let delete = queue::Delete { queue: existing_queue(queue)?, if_unused, if_empty, nowait: false };
        let method = AMQPClass::Queue(queue::AMQPMethod::Delete(delete));
        let effect = TopologyChange::DeleteQueue(queue.to_owned());
        count(self.call(format!("delete queue '{queue}'"), method, effect).await?)
    }

    /// Drops the messages of a queue that nobody has in work; returns how many.
    pub async fn purge_queue(&self, queue: &str) -> Result<u32> {
        let purge = queue::Purge { queue: existing_queue(queue)?, nowait: false };
        let method = AMQPClass::Queue(queue::AMQPMethod::Purge(purge));
        count(self.call(format!("purge queue '{queue}'"), method, TopologyChange::None).await?)
    }

    /// Declares an exchange (AMQP 0-9-1 section 1.6.2.1). Errors: as [`Self::declare_queue`].
    pub async fn declare_exchange(&self, exchange: &Exchange) -> Result<()> {
        exchange.check()?;
        let method = AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange.declare()));
        let effect = TopologyChange::DeclareExchange(exchange.clone());
        self.call(format!("declare exchange '{}'", exchange.name()), method, effect).await?;
        let mut fanouts = self.0.fanouts.write().unwrap_or_else(PoisonError::into_inner);
        if exchange.is_fanout() {
            fanouts.insert(exchange.name().to_owned());
        } else {
            fanouts.remove(exchange.name());
        }
        Ok(())
    }

    /// Checks that an exchange exists (passive declare); [`crate::ErrorKind::NotFound`] when it does not.
    pub async fn check_exchange(&self, exchange: &str) -> Result<()> {
        let declare = exchange::Declare {
            exchange: short("exchange name", exchange)?,
            passive: true,
            ..exchange::Declare::default()
        };
        let method = AMQPClass::Exchange(exchange::AMQPMethod::Declare(declare));
        self.call(format!("look up exchange '{exchange}'"), method, TopologyChange::None).await.map(|_| ())
    }

    /// Deletes an exchange. One that does not exist counts as deleted.
    pub async fn delete_exchange(&self, exchange: &str) -> Result<()> {
        self.delete_exchange_if(exchange, false).await
    }

    /// Deletes an exchange only if nothing is bound to it (`if_unused`).
    pub async fn delete_exchange_if(&self, exchange: &str, if_unused: bool) -> Result<()> {
        let delete =
            exchange::Delete { exchange: short("exchange name", exchange)?, if_unused, nowait: false };
        let method = AMQPClass::Exchange(exchange::AMQPMethod::Delete(delete));
        let effect = TopologyChange::DeleteExchange(exchange.to_owned());
        self.call(format!("delete exchange '{exchange}'"), method, effect).await?;
        self.0.fanouts.write().unwrap_or_else(PoisonError::into_inner).remove(exchange);
        Ok(())
    }

    /// Binds a queue or an exchange to an exchange (AMQP 0-9-1 section 1.7.2.3; RabbitMQ exchange-to-exchange bindings).
    pub async fn bind(&self, binding: &Binding) -> Result<()> {
        binding.check()?;
        let name = format!("bind '{}' to exchange '{}'", binding.destination(), binding.source());
        self.call(name, binding.bind_method(), TopologyChange::Bind(binding.clone())).await.map(|_| ())
    }

    /// Removes a binding.
    pub async fn unbind(&self, binding: &Binding) -> Result<()> {
        binding.check()?;
        let name = format!("unbind '{}' from exchange '{}'", binding.destination(), binding.source());
        self.call(name, binding.unbind_method(), TopologyChange::Unbind(binding.clone())).await.map(|_| ())
    }

    /// Drops the queue or exchange of this name from the record, with its bindings: it stays at the broker and is not
    /// declared again after a reconnect.
    pub fn forget(&self, name: &str) {
        // A client that is closed has no record.
        let _ = self.0.main.send(Command::Forget { name: name.to_owned() });
    }

    // ---- publishing ------------------------------------------------------------------------------------------

    /// A handle that publishes to one exchange with one routing key. `exchange` "" is the default exchange, whose
    /// routing keys are queue names.
    pub fn publisher(&self, exchange: impl Into<Arc<str>>, routing_key: impl Into<Arc<str>>) -> Publisher {
        Publisher::new(self.clone(), exchange.into(), routing_key.into())
    }

    /// Publishes a message and returns when the broker has taken responsibility for it (RabbitMQ, publisher confirms).
    ///
    /// With the defaults (persistent, mandatory) and a durable queue, a message is not lost after this returned.
    /// Publishing does not renew a queue's TTL (`expires`); consuming does.
    ///
    /// Errors: [`crate::ErrorKind::Unroutable`] (with the message), [`crate::ErrorKind::Nacked`],
    /// [`crate::ErrorKind::NotFound`] (no such exchange), [`crate::ErrorKind::Timeout`] (outcome unknown),
    /// [`crate::ErrorKind::Blocked`], [`crate::ErrorKind::InvalidArgument`] (nothing was sent).
    pub async fn publish(&self, exchange: &str, routing_key: &str, message: Message) -> Result<()> {
        self.publisher(exchange, routing_key).publish(message).await
    }

    /// Publishes a message; the broker's answer is awaited later. Waits only while the window is full.
    pub async fn publish_nowait(
        &self,
        exchange: &str,
        routing_key: &str,
        message: Message,
    ) -> Result<Confirmation> {
        self.publisher(exchange, routing_key).publish_nowait(message).await
    }

    /// Writes what [`Publisher::enqueue`] has queued, from this thread if nothing else is being written; otherwise the
    /// engine does. For a caller that is about to wait for one of these publishes.
    pub fn flush(&self) {
        self.0.publishing.flush_from_caller();
    }

    /// Has the engine send what [`Publisher::enqueue`] has queued.
    pub fn flush_later(&self) {
        self.0.publishing.wake_engine();
    }

    // ---- consuming -------------------------------------------------------------------------------------------

    /// Takes one message off a queue (`basic.get`); `None` when it is empty. With `no_ack` the broker forgets it at
    /// once; without, the message keeps a channel until it is settled. Consuming is far cheaper for more than one.
    pub async fn get(&self, queue: &str, no_ack: bool) -> Result<Option<Delivery>> {
        existing_queue(queue)?;
        let queue = queue.to_owned();
        let name = format!("get from queue '{queue}'");
        self.0.ask(name, |reply| Command::Get(Get { queue, no_ack, reply })).await
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
            acked: self.0.main.settled(),
            undelivered_bytes: self.0.main.undelivered() as u64,
            reconnects: read(&counters.reconnects),
            recorded: read(&counters.recorded),
        }
    }

    /// Whether the client was closed, or gave up.
    pub fn is_closed(&self) -> bool {
        self.0.main.is_closed()
    }

    /// What the broker said of itself when the connection (or the last one) was opened.
    pub fn server(&self) -> Option<Arc<ServerInfo>> {
        self.0.main.server()
    }

    /// The options the client was made with.
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// Gives the broker a new secret for the login in use (RabbitMQ `connection.update-secret`; OAuth 2 tokens). The
    /// next login asks the credentials callback, not this.
    pub async fn update_secret(&self, secret: &str, reason: &str) -> Result<()> {
        check_short("reason", reason)?;
        let deadline = self.0.deadline();
        for link in self.0.links() {
            let (reply, answer) = oneshot::channel();
            let asked = Pending { name: "update the secret".into(), deadline, to: Some(reply) };
            let command = Command::UpdateSecret {
                secret: Zeroizing::new(secret.to_owned()),
                reason: reason.to_owned(),
                reply: asked,
            };
            link.send(command)?;
            answer.await.unwrap_or_else(|_| Err(closed()))?;
        }
        Ok(())
    }

    /// Closes the client in order: publishes are flushed and confirmed, consumers cancelled, acks sent, the connections
    /// closed. What takes longer than the operation timeout is dropped, with [`crate::ErrorKind::Timeout`].
    pub async fn close(&self) -> Result<()> {
        self.end(false, self.0.options.operation_timeout).await
    }

    /// As [`Self::close`], and waits up to `timeout` for the application to settle the deliveries it has in work: what
    /// a SIGTERM handler wants. Consumers end at once; what they had not handed out goes back to its queue.
    pub async fn drain(&self, timeout: Duration) -> Result<()> {
        self.end(true, timeout).await
    }

    async fn end(&self, drain: bool, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout.min(LONGEST_TIMEOUT);
        // Consumers first: while their deliveries are settled, answers may still be published, also for the first time.
        let main = end_link(&self.0.main, drain, deadline).await;
        let publish = match self.0.publish_link() {
            Some(link) => end_link(&link, drain, deadline).await,
            None => Ok(()),
        };
        self.0.publishing.with(|window| {
            if !window.is_closed() {
                window.close(&closed());
            }
        });
        publish.and(main)
    }
}

/// Has the engine of a connection end it, and waits for that.
async fn end_link(link: &Link, drain: bool, deadline: Instant) -> Result<()> {
    let (reply, answer) = oneshot::channel();
    let reply = Pending { name: "close".into(), deadline, to: Some(reply) };
    // An engine that is gone has nothing left to close.
    if link.send(Command::Close { drain, reply }).is_err() {
        return Ok(());
    }
    answer.await.unwrap_or(Ok(()))
}

fn short(what: &str, value: &str) -> Result<ShortString> {
    check_short(what, value)?;
    ShortString::try_new(value).map_err(|error| Error::invalid(format!("{what}: {error}")))
}

/// The name of a queue that exists. The broker takes the empty one for the queue that was declared last on the channel,
/// which may be anybody's.
pub(crate) fn existing_queue(name: &str) -> Result<ShortString> {
    if name.is_empty() {
        return Err(Error::foreseen(
            NOT_FOUND,
            "the queue's name is empty; that of a server-named queue is in the answer to its declare",
        ));
    }
    short("queue name", name)
}

fn count(answer: Answer) -> Result<u32> {
    match answer {
        Answer::Count(count) => Ok(count),
        other => Err(unexpected(&other)),
    }
}

/// The engine checks that a reply belongs to its method, so this is never seen.
fn unexpected(answer: &Answer) -> Error {
    Error::protocol(format!("the broker answered with {answer:?}"))
}
