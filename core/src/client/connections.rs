//! What all handles of a client share: its connections, and the way to them.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::oneshot;

use crate::{
    Error, Result,
    engine::{
        Engine, Setup,
        link::Link,
        outbox::Outbox,
        publish::{Publishing, Window},
    },
    error::PRECONDITION_FAILED,
    events::{EventSender, Role},
    ids::Ids,
    message::Message,
    options::Options,
    request::Requests,
    retry::Consumers,
    stats::Counters,
};

/// The pseudo-queue of RabbitMQ's direct reply-to.
pub(crate) const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

pub(crate) struct Inner {
    pub options: Arc<Options>,
    runtime: tokio::runtime::Handle,
    pub main: Arc<Link>,
    pub publishing: Arc<Publishing>,
    /// The link of the publishing connection, once there is one.
    publish_link: Mutex<Option<Arc<Link>>>,
    pub events: EventSender,
    pub counters: Arc<Counters>,
    pub ids: Ids,
    next_consumer: AtomicU64,
    /// The windows of the direct reply consumers, closed ones too until there is another.
    requests: Mutex<Vec<Arc<Publishing>>>,
    pub direct_requests: Requests,
    /// The consumers that were started, for the queues of their deliveries.
    pub consumers: Consumers,
}

impl Inner {
    /// The links of all connections that were opened.
    pub fn links(&self) -> Vec<Arc<Link>> {
        // The order guarantees nothing, since the engines run concurrently; `Client::end` closes one after the other.
        self.publish_link().into_iter().chain([self.main.clone()]).collect()
    }

    /// The link of the publishing connection, once there is one.
    pub fn publish_link(&self) -> Option<Arc<Link>> {
        self.lock_publish_link().clone()
    }

    fn lock_publish_link(&self) -> MutexGuard<'_, Option<Arc<Link>>> {
        self.publish_link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The window for a publish. That of requests is another one.
    pub fn publishing_for(&self, message: &Message) -> Result<Arc<Publishing>> {
        if message.properties.reply_to().as_ref().is_none_or(|reply_to| reply_to.as_str() != DIRECT_REPLY_TO)
        {
            return Ok(self.publishing.clone());
        }
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().rfind(|requests| is_open(requests)).cloned().ok_or_else(|| {
            let text = format!(
                "a message with reply_to '{DIRECT_REPLY_TO}' is published after consuming that queue: do that first, with \
                 no_ack (RabbitMQ, direct reply-to)"
            );
            Error::foreseen(PRECONDITION_FAILED, text)
        })
    }

    /// Starts the publishing connection, at the first publish or after it gave up.
    pub fn open_publish_link(&self) -> Result<()> {
        let mut current = self.lock_publish_link();
        // Under the lock, so that a close that has closed the main connection finds every other that there will be.
        if let Some(error) = self.main.why_closed() {
            return Err(error);
        }
        if current.as_ref().is_some_and(|link| !link.is_closed()) || !self.options.separate_publish_connection
        {
            return Ok(());
        }
        let link = Link::with_outbox(self.options.delivery_buffer, self.publishing.outbox().clone());
        self.publishing.with(Window::serve);
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
        *current = Some(link);
        Ok(())
    }

    /// The queue of the consumer with this tag.
    pub fn consumed_by(&self, tag: &str) -> Option<String> {
        self.consumers.queue_of(tag)
    }

    /// Has the client's runtime run a task.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
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

impl Inner {
    /// Starts the main connection. Dropping what this returns ends its engine; the receiver hears how connecting went.
    pub fn start(options: Options) -> Result<(Arc<Self>, oneshot::Receiver<Result<()>>)> {
        let options = Arc::new(options.complete()?);
        let link = Link::new(options.delivery_buffer);
        let shared = !options.separate_publish_connection;
        let outbox = if shared { link.outbox().clone() } else { Outbox::new() };
        let publishing = Publishing::new(options.window_messages, options.window_bytes, outbox);
        let events = EventSender::new(options.short_lived);
        let counters = Arc::new(Counters::default());
        if shared {
            publishing.with(Window::serve);
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
        let inner = Arc::new(Self {
            options,
            runtime,
            main: link,
            publishing,
            publish_link: Mutex::new(None),
            events,
            counters,
            ids,
            next_consumer: AtomicU64::new(1),
            requests: Mutex::default(),
            direct_requests: Requests::default(),
            consumers: Consumers::default(),
        });
        let (first, connected) = oneshot::channel();
        inner.runtime.spawn(engine.run(first));
        Ok((inner, connected))
    }
}
