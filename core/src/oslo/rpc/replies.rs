//! The queue that the replies of a transport's calls come to, and who waits for them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinHandle};

use super::super::{Error, Result, body, duplicates::Duplicates, message::Reply, transport::Inner};
use crate::{Client, Consumer, ErrorKind, Queue};

/// The pause between two attempts at a reply queue that cannot be declared.
const RETRY: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(in super::super) struct Replies {
    queue: String,
    waiting: Arc<Waiting>,
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
        self.replies.get_or_try_init(|| Replies::start(self)).await
    }
}

impl Replies {
    async fn start(transport: &Inner) -> Result<Self> {
        let queue = transport.config.reply_queue();
        transport.declare_queue(&queue).await?;
        let client = transport.client.clone();
        let consumer = client.consume(queue.name()).start().await?;
        let waiting = Arc::new(Waiting::default());
        let limit = client.options().max_body_size;
        let name = queue.name().to_owned();
        // Neither holds the transport, whose drop ends the task.
        let task = tokio::spawn(keep_consuming(client, queue, consumer, waiting.clone(), limit));
        Ok(Self { queue: name, waiting, task })
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

    /// Deletes the queue: nobody will wait for its replies.
    pub async fn delete(&self, client: &Client) {
        self.task.abort();
        // It expires by itself too.
        let _ = client.delete_queue(&self.queue).await;
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Hands replies to the calls that wait. When the queue was deleted it is made again under its name, which requests in
/// flight have with them.
async fn keep_consuming(
    client: Client,
    queue: Queue,
    mut consumer: Consumer,
    waiting: Arc<Waiting>,
    limit: u64,
) {
    let mut duplicates = Duplicates::default();
    loop {
        while let Some(delivery) = consumer.next().await {
            let Ok(delivery) = delivery else { break };
            // A reply that is lost after this is lost with its caller.
            if let Err(error) = delivery.ack() {
                tracing::debug!("a reply could not be acked: {error}");
            }
            match body::decode(&delivery, limit).and_then(Reply::from_fields) {
                Ok((reply, msg_id, unique_id)) if duplicates.is_new(unique_id.as_deref()) => {
                    match waiting.lock_calls().get(&msg_id) {
                        // A receiver that is gone has given up.
                        Some(call) => drop(call.send(reply)),
                        None => tracing::info!("a reply to {msg_id}, for which nobody waits any more"),
                    }
                }
                Ok(_) => tracing::debug!("a reply came twice"),
                Err(error) => tracing::warn!("a reply that cannot be read: {error}"),
            }
        }
        if client.is_closed() {
            break;
        }
        tracing::warn!("the reply queue '{}' went away and is made again", queue.name());
        consumer = match start_again(&client, &queue).await {
            Ok(consumer) => consumer,
            Err(error) => {
                tracing::warn!("replies cannot be consumed any more: {error}");
                break;
            }
        };
    }
    // Their senders go, so that nobody waits for what cannot come.
    waiting.lock_calls().clear();
}

async fn start_again(client: &Client, queue: &Queue) -> Result<Consumer> {
    loop {
        let attempt = match client.declare_queue(queue).await {
            Ok(_) => client.consume(queue.name()).start().await,
            // It is there with other properties: somebody made it for us.
            Err(error) if error.kind() == ErrorKind::PreconditionFailed => {
                client.consume(queue.name()).start().await
            }
            Err(error) => Err(error),
        };
        match attempt {
            Ok(consumer) => return Ok(consumer),
            Err(_) if client.is_closed() => return Err(Error::Invalid("the transport is closed".into())),
            Err(error) => {
                tracing::debug!("the reply queue '{}' cannot be made again yet: {error}", queue.name());
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
