//! A server: it takes requests off the queues of its topic, calls the methods, and sends the replies.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinHandle,
    time::Instant,
};

use super::{
    super::{
        Error, Failure, Result, Target, Transport,
        duplicates::Duplicates,
        link::{Destination, Link},
        message::{CallFields, Reply, Request},
        source::{Arrivals, Current, Source, put_back},
        topology::routing_key,
    },
    endpoint::{self, Endpoint},
};
use crate::{Delivery, ErrorKind};

/// The requests that a server works on at a time, unless it is told otherwise.
const CONCURRENCY: u16 = 64;

/// How long the broker may take to stop a queue's deliveries.
const CANCEL: Duration = Duration::from_secs(30);

/// Callers whose reply queue is gone: for how long, and how many of them, replies to them are not tried.
const GONE_FOR: Duration = Duration::from_secs(60);
const GONE_CALLERS: usize = 200;

/// When a request is acked, which decides what becomes of it when the server dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AckOn {
    /// Just before its method is called, as stock servers do: a method that is being called when the server dies is not
    /// called again. What waits for its turn goes back to the queue.
    #[default]
    Dispatch,
    /// When its method has returned and its reply was sent: nothing is lost, and a method may be called twice.
    Done,
}

/// A server that has not started yet.
#[derive(Debug)]
#[must_use = "nothing is served before start()"]
pub struct Server {
    transport: Transport,
    target: Target,
    endpoints: Vec<Endpoint>,
    concurrency: u16,
    ack_on: AckOn,
}

impl Server {
    /// A server of `target`, which has a topic and the server's own name.
    pub fn new(transport: &Transport, target: Target) -> Self {
        let prefetch = transport.link().config.prefetch;
        let concurrency = if prefetch == 0 { CONCURRENCY } else { prefetch };
        Self {
            transport: transport.clone(),
            target,
            endpoints: Vec::new(),
            concurrency,
            ack_on: AckOn::default(),
        }
    }

    /// Methods to serve. Of several endpoints that take a request, the first that has the method is called.
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoints.push(endpoint);
        self
    }

    /// How many requests are worked on at a time, and how many more wait in this server; other servers of the topic get the
    /// rest. 64, or `rabbit_qos_prefetch_count`. At least 1.
    pub fn concurrency(mut self, requests: u16) -> Self {
        self.concurrency = requests.max(1);
        self
    }

    /// When requests are acked.
    pub fn ack_on(mut self, ack_on: AckOn) -> Self {
        self.ack_on = ack_on;
        self
    }

    /// Declares the queues of the topic, of this server, and for fanout casts, and begins to serve.
    ///
    /// Must be called within a tokio runtime. Errors: [`Error::Invalid`] (no topic, no server name, a version that is
    /// none), [`Error::Messaging`].
    pub async fn start(mut self) -> Result<RunningServer> {
        let target = &self.target;
        if target.topic.is_empty() || target.server.is_none() {
            return Err(Error::Invalid("a server's target has a topic and the name of the server".into()));
        }
        if let Some(endpoint) = self.endpoints.iter().find(|endpoint| !endpoint.is_valid()) {
            return Err(Error::Invalid(format!("a version is major.minor: {endpoint:?}")));
        }
        self.endpoints.push(Endpoint::ping());
        let link = self.transport.link().clone();
        let config = &link.config;
        let fanout = Destination {
            exchange: Some(config.fanout_exchange(&target.topic)),
            queue: config.fanout_queue(&target.topic),
            routing_key: String::new(),
        };
        let shared = Destination::of_topic(config, target, target.topic.clone());
        let own = Destination::of_topic(config, target, routing_key(target));
        let stream = config.stream_fanout;
        let fanout_queue = (!stream).then(|| fanout.queue.name().to_owned());
        let work = Arc::new(Work {
            link: link.clone(),
            endpoints: self.endpoints,
            ack_on: self.ack_on,
            places: Arc::new(Semaphore::new(self.concurrency.into())),
            concurrency: self.concurrency,
            duplicates: Mutex::default(),
            gone: Mutex::default(),
        });
        let mut server =
            RunningServer { work, queues: Vec::new(), fanout_queue, running: watch::Sender::new(()) };
        for (destination, stream) in [(shared, false), (own, false), (fanout, stream)] {
            let prefetch = Some(self.concurrency);
            // Here, so that a start that fails says so.
            let arrivals = Source { link: link.clone(), destination, prefetch, stream }.start().await?;
            let consumer = arrivals.current();
            let task = tokio::spawn(serve(server.work.clone(), arrivals, server.running.subscribe()));
            server.queues.push(Queue { consumer, task });
        }
        Ok(server)
    }
}

impl Destination {
    /// The queue of a topic, or of one of its servers.
    pub fn of_topic(config: &super::super::Config, target: &Target, name: String) -> Self {
        Self {
            exchange: Some(config.topic_exchange(config.exchange_name(target))),
            queue: config.topic_queue(&name),
            routing_key: name,
        }
    }
}

/// A server that serves. Dropping it ends it: it takes no more requests, and methods that are being called still reply.
#[derive(Debug)]
pub struct RunningServer {
    work: Arc<Work>,
    queues: Vec<Queue>,
    fanout_queue: Option<String>,
    /// Its drop ends the tasks.
    running: watch::Sender<()>,
}

/// A queue that is served.
#[derive(Debug)]
struct Queue {
    consumer: Current,
    task: JoinHandle<()>,
}

impl RunningServer {
    /// Takes no more requests and returns when those that were begun have their reply. Requests that wait go back to their
    /// queues, for another server or the next start.
    pub async fn stop(self) {
        drop(self.running);
        for queue in self.queues {
            queue.consumer.cancel(CANCEL).await;
            // It ends when it sees that.
            let _ = queue.task.await;
        }
        // Every place is free when no method is called any more.
        let _ = self.work.places.acquire_many(self.work.concurrency.into()).await;
        if let Some(queue) = self.fanout_queue {
            // Its name is random: nobody will consume it again. It expires by itself too.
            let _ = self.work.link.client.delete_queue(&queue).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a method came to.
type Answer = Result<serde_json::Value, Failure>;

/// What the tasks of a server share.
#[derive(Debug)]
struct Work {
    link: Arc<Link>,
    endpoints: Vec<Endpoint>,
    ack_on: AckOn,
    places: Arc<Semaphore>,
    concurrency: u16,
    duplicates: Mutex<Duplicates>,
    /// Reply queues that are gone, and since when.
    gone: Mutex<Vec<(String, Instant)>>,
}

/// Takes requests off one queue, until the server is dropped.
async fn serve(work: Arc<Work>, mut arrivals: Arrivals, mut running: watch::Receiver<()>) {
    loop {
        // A place after the delivery: a queue that has nothing must not keep the others from theirs. What waits for a place is
        // not acked.
        let delivery = tokio::select! {
            biased;
            _ = running.changed() => return,
            delivery = arrivals.next() => delivery,
        };
        let Some(delivery) = delivery else { return };
        let place = tokio::select! {
            biased;
            _ = running.changed() => None,
            place = work.places.clone().acquire_owned() => place.ok(),
        };
        match place {
            Some(place) => work.clone().begin(delivery, place),
            None => return put_back(&delivery),
        }
    }
}

impl Work {
    /// Begins to work on a request, unless it came before.
    fn begin(self: Arc<Self>, delivery: Delivery, place: OwnedSemaphorePermit) {
        let request = match self.link.decode(&delivery).and_then(Request::from_fields) {
            Ok(request) => request,
            Err(error) => {
                self.refuse(&delivery, &error, place);
                return;
            }
        };
        // It is another's by now, and comes again.
        if delivery.is_stale() {
            return;
        }
        if self.ack_on == AckOn::Dispatch {
            settle(delivery.ack());
        }
        if !lock(&self.duplicates).is_new(request.unique_id.as_deref()) && self.ack_on == AckOn::Dispatch {
            tracing::info!("a request came twice: {}", request.method);
            return;
        }
        tokio::spawn(async move {
            self.answer(request, place).await;
            if self.ack_on == AckOn::Done {
                settle(delivery.ack());
            }
        });
    }

    /// A request that cannot be read: a caller that waits is told, if it can be found out who.
    fn refuse(self: Arc<Self>, delivery: &Delivery, error: &Error, place: OwnedSemaphorePermit) {
        tracing::warn!("a request that cannot be read is dropped: {error}");
        let mut fields = self.link.decode_leniently(delivery).unwrap_or_default();
        settle(delivery.reject());
        if let Some(call) = CallFields::take(&mut fields) {
            let failure = Failure::new("ValueError", format!("the server cannot read the request: {error}"));
            tokio::spawn(async move {
                self.reply(&call, Err(failure), place).await;
            });
        }
    }

    async fn answer(self: &Arc<Self>, request: Request, place: OwnedSemaphorePermit) {
        let call = request.call.clone();
        let heartbeats = call.clone().and_then(|call| self.clone().send_heartbeats(call));
        let outcome = self.call(request).await;
        if let Some(heartbeats) = heartbeats {
            heartbeats.abort();
        }
        let Some(call) = call else {
            if let Err(failure) = outcome {
                // Nobody else will hear of it.
                tracing::warn!("a cast failed: {failure}\n{}", failure.traceback.concat().trim_end());
            }
            return;
        };
        self.reply(&call, outcome, place).await;
    }

    async fn call(&self, request: Request) -> Answer {
        let handler = endpoint::find(&self.endpoints, &request).map_err(|failure| *failure)?;
        let method = request.method.clone();
        // A task of its own, so that a panic is a failure of this request and of nothing else.
        match tokio::spawn(handler(request.context, request.args)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::new("RuntimeError", format!("{method}() panicked"))),
        }
    }

    /// Tells the caller, every half of the time that it waits without hearing, that the method is still being called.
    fn send_heartbeats(self: Arc<Self>, call: CallFields) -> Option<JoinHandle<()>> {
        let period = Duration::from_secs(call.monitor_seconds?) / 2;
        Some(tokio::spawn(async move {
            loop {
                tokio::time::sleep(period).await;
                let link = &self.link;
                let sent = match link.encode(&Reply::heartbeat(&call.msg_id), true) {
                    Ok(message) => link.client.publish("", &call.reply_q, message.mandatory(true)).await,
                    Err(_) => return,
                };
                if let Err(error) = sent {
                    tracing::debug!("a heartbeat of a call could not be sent: {error}");
                    return;
                }
            }
        }))
    }

    /// Sends the last reply. Callers that went away without a trace are many where one process had many calls: what waits for
    /// them, for a while, has no place among what is worked on.
    async fn reply(&self, call: &CallFields, outcome: Answer, place: OwnedSemaphorePermit) {
        if self.is_gone(&call.reply_q) {
            return;
        }
        let error = match self.send(call, outcome, || drop(place)).await {
            Ok(()) => return,
            Err(error) => error,
        };
        match &error {
            Error::Undeliverable(_) => {
                tracing::error!(
                    "the reply queue '{}' is gone; its replies are dropped: {error}",
                    call.reply_q
                );
                self.remember_gone(&call.reply_q);
            }
            // The broker refuses the reply itself: over its size limit, for one. The caller hears that.
            Error::Messaging(refused) if is_refusal(refused) => {
                tracing::error!("a reply was refused by the broker: {error}");
                let failure =
                    Failure::new("MessageDeliveryFailure", format!("the reply was refused: {error}"))
                        .module("oslo_messaging.exceptions");
                if let Err(error) = self.send(call, Err(failure), || ()).await {
                    tracing::error!("nor could the caller be told: {error}");
                }
            }
            _ => tracing::error!("a reply could not be sent: {error}"),
        }
    }

    async fn send(&self, call: &CallFields, outcome: Answer, missing: impl FnOnce()) -> Result<()> {
        let message = self.link.encode(&Reply::done(outcome, &call.msg_id), true)?;
        self.link.publish_direct(&call.reply_q, message, missing).await
    }

    fn is_gone(&self, reply_q: &str) -> bool {
        lock(&self.gone).iter().any(|(gone, since)| gone == reply_q && since.elapsed() < GONE_FOR)
    }

    fn remember_gone(&self, reply_q: &str) {
        let mut gone = lock(&self.gone);
        gone.retain(|(known, since)| known != reply_q && since.elapsed() < GONE_FOR);
        if gone.len() == GONE_CALLERS {
            gone.remove(0);
        }
        gone.push((reply_q.to_owned(), Instant::now()));
    }
}

fn settle(settled: crate::Result<()>) {
    if let Err(error) = settled {
        tracing::debug!("a request could not be settled: {error}");
    }
}

/// Whether the broker refused the message for what it is, so that sending it again is no use.
fn is_refusal(error: &crate::Error) -> bool {
    matches!(error.kind(), ErrorKind::PreconditionFailed | ErrorKind::Refused | ErrorKind::InvalidArgument)
}
