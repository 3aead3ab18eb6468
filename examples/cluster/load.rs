//! A publisher that goes on through every fault, a consumer that counts, and what became of each message.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use murano_messaging::{Client, Error, ErrorKind, Message, Result};
use murano_testkit::eventually;
use tokio::task::JoinHandle;

/// Publishes that wait for their confirms at any time.
const IN_FLIGHT: usize = 500;

/// What became of the publishes.
#[derive(Default)]
pub struct Published {
    /// The ids of those that were confirmed.
    pub confirmed: BTreeSet<String>,
    /// How many the broker refused: a node that stops refuses what it has not stored, and the publisher is told.
    pub nacked: u64,
    /// The errors of the others.
    pub failed: Vec<Error>,
}

/// A running publisher.
pub struct Publishing {
    stop: Arc<AtomicBool>,
    confirmed: Arc<AtomicU64>,
    longest_gap: Arc<Mutex<Duration>>,
    task: JoinHandle<Published>,
}

impl Publishing {
    /// Publishes numbered messages to `queue` until it is told to stop.
    pub fn start(client: &Client, queue: &str) -> Self {
        let (stop, confirmed, longest_gap) =
            <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<Mutex<Duration>>)>::default();
        let publisher = client.publisher("", queue);
        let task = tokio::spawn({
            let (stop, count, longest_gap) = (stop.clone(), confirmed.clone(), longest_gap.clone());
            async move {
                let mut published = Published::default();
                let mut pending = VecDeque::new();
                let mut last = Instant::now();
                for number in 0_u64.. {
                    let stopping = stop.load(Ordering::Relaxed);
                    if !stopping {
                        let id = format!("m{number:08}");
                        match publisher.publish_deferred(Message::new(id.clone().into_bytes())).await {
                            Ok(confirmation) => pending.push_back((id, confirmation)),
                            Err(error) => published.failed.push(error),
                        }
                    }
                    while pending.len() > if stopping { 0 } else { IN_FLIGHT } {
                        let Some((id, confirmation)) = pending.pop_front() else { break };
                        match confirmation.await {
                            Ok(()) => {
                                let mut longest = longest_gap.lock().unwrap_or_else(PoisonError::into_inner);
                                *longest = longest.max(last.elapsed());
                                last = Instant::now();
                                published.confirmed.insert(id);
                                count.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(error) if error.kind() == ErrorKind::Nacked => published.nacked += 1,
                            Err(error) => published.failed.push(error),
                        }
                    }
                    if stopping {
                        break;
                    }
                }
                published
            }
        });
        Self { stop, confirmed, longest_gap, task }
    }

    /// The number of confirms, and the longest time without one since it was asked last.
    pub fn so_far(&self) -> (u64, Duration) {
        let mut longest = self.longest_gap.lock().unwrap_or_else(PoisonError::into_inner);
        (self.confirmed.load(Ordering::Relaxed), std::mem::take(&mut *longest))
    }

    /// Waits until `count` more are confirmed.
    pub async fn more(&self, count: u64) {
        let target = self.confirmed.load(Ordering::Relaxed) + count;
        eventually("publishes are confirmed", super::PATIENCE, || async {
            self.confirmed.load(Ordering::Relaxed) >= target
        })
        .await;
    }

    /// Stops, and waits for the confirms of all that was sent.
    pub async fn finish(self) -> Published {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the publisher does not panic")
    }
}

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
