//! The queue that the replies of a transport's calls come to, and who waits for them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinHandle};

use super::super::{
    Result,
    duplicates::Duplicates,
    link::{Destination, Link},
    message::Reply,
    source::{Arrivals, Current, Source},
    transport::Inner,
};
use crate::Client;

/// How long the deletion of the queue at the end may take.
const DELETE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(in super::super) struct Replies {
    queue: String,
    waiting: Arc<Waiting>,
    consumer: Current,
    task: JoinHandle<()>,
}

/// The calls that wait, by the id of their request.
#[derive(Debug, Default)]
struct Waiting(Mutex<HashMap<String, mpsc::UnboundedSender<Reply>>>);

impl Waiting {
    fn lock_calls(&self) -> std::sync::MutexGuard<'_, HashMap<String, mpsc::UnboundedSender<Reply>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that waits for its reply. Dropping it gives the wait up.
pub(super) struct Call {
    msg_id: String,
    waiting: Arc<Waiting>,
    replies: mpsc::UnboundedReceiver<Reply>,
}

impl Call {
    /// The next reply; `None` when the client was closed.
    pub async fn next(&mut self) -> Option<Reply> {
        self.replies.recv().await
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.waiting.lock_calls().remove(&self.msg_id);
    }
}

impl Inner {
    /// The reply queue, declared and consumed at the first call.
    pub(super) async fn replies(&self) -> Result<&Replies> {
        self.replies.get_or_try_init(|| Replies::start(&self.link)).await
    }
}

impl Replies {
    async fn start(link: &Arc<Link>) -> Result<Self> {
        let queue = link.config.reply_queue();
        let name = queue.name().to_owned();
        let destination = Destination { exchange: None, queue, routing_key: name.clone() };
        let source = Source { link: link.clone(), destination, prefetch: None, stream: false };
        let arrivals = source.start().await?;
        let consumer = arrivals.current();
        let waiting = Arc::new(Waiting::default());
        // The task does not hold the transport, whose drop ends it.
        let task = tokio::spawn(hand_out(arrivals, link.clone(), waiting.clone()));
        Ok(Self { queue: name, waiting, consumer, task })
    }

    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Waits for the replies to a request from now on.
    pub(super) fn expect(&self, msg_id: &str) -> Call {
        let (sender, replies) = mpsc::unbounded_channel();
        self.waiting.lock_calls().insert(msg_id.to_owned(), sender);
        Call { msg_id: msg_id.to_owned(), waiting: self.waiting.clone(), replies }
    }

    /// Deletes the queue: nobody will wait for its replies. Needs no runtime around it.
    pub async fn delete(&self, client: &Client) {
        self.task.abort();
        // It expires by itself too: a broker that is away is not waited for.
        if client.is_connected() {
            // First, so that it does not look like a queue that was lost.
            self.consumer.cancel(DELETE).await;
            let _ = client.with_timeout(DELETE).delete_queue(&self.queue).await;
        }
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Hands replies to the calls that wait. A queue that was deleted is made again under its name, which requests in flight
/// have with them.
async fn hand_out(mut arrivals: Arrivals, link: Arc<Link>, waiting: Arc<Waiting>) {
    let mut duplicates = Duplicates::default();
    while let Some(delivery) = arrivals.next().await {
        // A reply that is lost after this is lost with its caller.
        if let Err(error) = delivery.ack() {
            tracing::debug!("a reply could not be acked: {error}");
        }
        let (reply, msg_id) = match link.decode(&delivery).and_then(Reply::from_fields) {
            Ok((reply, msg_id, unique_id)) if duplicates.is_new(unique_id.as_deref()) => (reply, msg_id),
            Ok(_) => {
                tracing::debug!("a reply came twice");
                continue;
            }
            Err(error) => {
                tracing::warn!("a reply that cannot be read: {error}");
                match link.decode_leniently(&delivery).and_then(Reply::call_of) {
                    Some(msg_id) => (Reply::Unreadable(error), msg_id),
                    None => continue,
                }
            }
        };
        match waiting.lock_calls().get(&msg_id) {
            // A receiver that is gone has given up.
            Some(call) => drop(call.send(reply)),
            None => tracing::info!("a reply to {msg_id}, for which nobody waits any more"),
        }
    }
    // Their senders go, so that nobody waits for what cannot come.
    waiting.lock_calls().clear();
}
