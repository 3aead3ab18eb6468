//! What all handles of a client share: its connections, and the way to them.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::oneshot;

use super::{Client, DIRECT_REPLY_TO};
use crate::{
    Error, Result,
    engine::{Engine, Setup, closed, link::Link, publishing::Publishing},
    error::PRECONDITION_FAILED,
    events::{EventSender, Role},
    ids::Ids,
    message::Message,
    options::Options,
    request::Requests,
    stats::Counters,
};

pub(crate) struct Inner {
    pub options: Arc<Options>,
    runtime: tokio::runtime::Handle,
    pub main: Arc<Link>,
    /// The publishes, and the link of the connection that carries them: `main`, or one of their own once there is one.
    pub publishing: Arc<Publishing>,
    pub events: EventSender,
    pub counters: Arc<Counters>,
    pub ids: Ids,
    next_consumer: AtomicU64,
    /// Fanout exchanges that this client declared: publishing to them is not mandatory by default.
    pub fanouts: RwLock<BTreeSet<String>>,
    /// The windows of the direct reply consumers, closed ones too until there is another.
    requests: Mutex<Vec<Arc<Publishing>>>,
    pub direct_requests: Requests,
}

impl Inner {
    /// The links of all connections that were opened.
    pub fn links(&self) -> Vec<Arc<Link>> {
        // Publishing first: its confirms may depend on nothing, but a consumer's last acks may follow a publish.
        self.publish_link().into_iter().chain([self.main.clone()]).collect()
    }

    /// The link of the publishing connection, once there is one.
    pub fn publish_link(&self) -> Option<Arc<Link>> {
        self.publishing.link().filter(|link| !Arc::ptr_eq(link, &self.main))
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
        let opened = self.publishing.attach_anew(|current| {
            // Under the lock of the link, so that a close that has closed the main connection finds every other that
            // there will be.
            if let Some(error) = self.main.why_closed() {
                return Err(error);
            }
            if current.is_some_and(|link| !link.is_closed()) || !self.options.separate_publish_connection {
                return Ok(None);
            }
            Ok(Some(Link::new(self.options.delivery_buffer)))
        })?;
        if let Some(link) = opened {
            let engine = Engine::new(Setup {
                role: Role::Publish,
                options: self.options.clone(),
                link,
                publishing: Some(self.publishing.clone()),
                events: self.events.clone(),
                counters: self.counters.clone(),
                after: Some(self.main.clone()),
            });
            // Nobody waits for the first connection as such: what fails it fails the publishes that wait for it.
            let (first, _) = oneshot::channel();
            self.runtime.spawn(engine.run(first));
        }
        Ok(())
    }

    pub fn is_fanout(&self, exchange: &str) -> bool {
        !exchange.is_empty()
            && (exchange == "amq.fanout"
                || self.fanouts.read().unwrap_or_else(PoisonError::into_inner).contains(exchange))
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

impl Options {
    /// Connects with these options.
    ///
    /// Must be called within a tokio runtime, whose tasks then drive the connection. Errors: as [`Client::connect`].
    pub async fn connect(self) -> Result<Client> {
        let options = Arc::new(self.complete()?);
        let link = Link::new(options.delivery_buffer);
        let publishing = Publishing::new(options.window_messages, options.window_bytes);
        let events = EventSender::new(options.short_lived);
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
        let inner = Arc::new(Inner {
            options,
            runtime,
            main: link,
            publishing,
            events,
            counters,
            ids,
            next_consumer: AtomicU64::new(1),
            fanouts: RwLock::default(),
            requests: Mutex::default(),
            direct_requests: Requests::default(),
        });
        let client = Client(inner, None);
        let (first, connected) = oneshot::channel();
        client.0.runtime.spawn(engine.run(first));
        connected.await.unwrap_or_else(|_| Err(closed()))?;
        Ok(client)
    }
}
