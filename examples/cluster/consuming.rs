//! A consumer that counts what it gets.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use murano_messaging::{Client, Result};
use tokio::task::JoinHandle;

/// Ids, and how many copies of each came.
type Received = BTreeMap<String, u32>;

/// A running consumer.
pub struct Consuming {
    received: Arc<Mutex<Received>>,
    task: JoinHandle<()>,
}

impl Consuming {
    /// Takes and acks everything that comes.
    pub async fn start(client: &Client, queue: &str) -> Result<Self> {
        let deliveries = client.consume(queue).prefetch(500).resume(true).start().await?;
        let received = Arc::new(Mutex::new(Received::new()));
        let task = tokio::spawn({
            let received = received.clone();
            async move {
                while let Some(Ok(delivery)) = deliveries.next().await {
                    let id = String::from_utf8_lossy(delivery.body()).into_owned();
                    let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
                    // One that the broker marks as redelivered is the same copy once more.
                    if !delivery.redelivered() || !received.contains_key(&id) {
                        *received.entry(id).or_default() += 1;
                    }
                    let _ = delivery.ack();
                }
            }
        });
        Ok(Self { received, task })
    }

    /// Different messages that came.
    pub fn received(&self) -> usize {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits for all of `expected`, for a while, and returns what came.
    pub async fn finish(self, expected: &BTreeSet<String>) -> Received {
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until && self.received() < expected.len() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.task.abort();
        std::mem::take(&mut *self.received.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
