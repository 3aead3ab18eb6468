//! A publisher that continues through every fault, and what became of each message. The tests of faults have the same.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use murano_messaging::{Client, Error, ErrorKind, Message};
use murano_testkit::{eventually, within};
use tokio::task::JoinHandle;

/// Longer than any fault lasts.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of the publishes.
#[derive(Debug, Default)]
pub struct Published {
    /// The ids of those that were confirmed.
    pub confirmed: BTreeSet<String>,
    /// How many the broker refused: a node that stops refuses what it has not stored, and the publisher is told.
    pub nacked: u64,
    /// The errors of the others.
    pub failed: Vec<Error>,
    /// The longest time between two confirms.
    pub longest_gap: Duration,
}

/// A running publisher.
pub struct Publishing {
    stop: Arc<AtomicBool>,
    confirmed: Arc<AtomicU64>,
    /// Since it was asked last.
    longest_gap: Arc<Mutex<Duration>>,
    task: JoinHandle<Published>,
}

impl Publishing {
    /// Publishes numbered messages to `queue` until it is told to stop; `in_flight` of them wait for their confirms at any time,
    /// so that a fault always finds some.
    pub fn start(client: &Client, queue: &str, in_flight: usize) -> Self {
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
                        let message = Message::new(id.clone().into_bytes()).message_id(id.clone());
                        match publisher.publish_deferred(message).await {
                            Ok(confirmation) => pending.push_back((id, confirmation)),
                            Err(error) => published.failed.push(error),
                        }
                    }
                    while pending.len() > if stopping { 0 } else { in_flight } {
                        let Some((id, confirmation)) = pending.pop_front() else { break };
                        match confirmation.await {
                            Ok(()) => {
                                let gap = last.elapsed();
                                last = Instant::now();
                                published.longest_gap = published.longest_gap.max(gap);
                                let mut longest = longest_gap.lock().unwrap_or_else(PoisonError::into_inner);
                                *longest = longest.max(gap);
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
        eventually("publishes are confirmed", PATIENCE, || async {
            self.confirmed.load(Ordering::Relaxed) >= target
        })
        .await;
    }

    /// Stops, and waits for the confirms of all that was sent.
    pub async fn finish(self) -> Published {
        self.stop.store(true, Ordering::Relaxed);
        within("the last confirms come", PATIENCE * 2, self.task).await.expect("the publisher does not panic")
    }
}
