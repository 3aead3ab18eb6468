//! A publisher that continues through every fault, and an account of its messages.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use murano_messaging::{Client, ErrorKind, Event, Events, Message, Options, Queue};
use murano_testkit::{eventually, within};
use tokio::task::JoinHandle;

pub const LONG: Duration = Duration::from_secs(60);

/// Options whose deadlines are longer than any fault of these tests lasts.
pub fn patient(uri: &str) -> Options {
    Options::from_uri(uri).unwrap().operation_timeout(Duration::from_secs(120))
}

/// What became of the publishes.
#[derive(Debug, Default)]
pub struct Published {
    pub confirmed: BTreeSet<String>,
    pub failed: Vec<murano_messaging::Error>,
    pub nacked: u64,
    /// The longest time between two confirms.
    pub longest_gap: Duration,
}

/// Publishes numbered messages to `queue` until told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    confirmed: Arc<AtomicU64>,
    task: JoinHandle<Published>,
}

impl Load {
    pub fn start(client: &Client, queue: &str) -> Self {
        Self::with_in_flight(client, queue, 200)
    }

    /// The number of publishes in flight at any time.
    pub fn with_in_flight(client: &Client, queue: &str, in_flight: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let confirmed = Arc::new(AtomicU64::new(0));
        let publisher = client.publisher("", queue);
        let task = tokio::spawn({
            let (stop, count) = (stop.clone(), confirmed.clone());
            async move {
                let mut published = Published::default();
                let mut pending = std::collections::VecDeque::new();
                let mut last = Instant::now();
                let mut number = 0;
                loop {
                    let stopping = stop.load(Ordering::Relaxed);
                    if !stopping {
                        let id = format!("m{number:08}");
                        number += 1;
                        let message = Message::new(id.clone().into_bytes()).message_id(id.clone());
                        match publisher.publish_deferred(message).await {
                            Ok(confirmation) => pending.push_back((id, confirmation)),
                            Err(error) => published.failed.push(error),
                        }
                    }
                    // Some are in flight at any time, so that a fault always finds some.
                    while pending.len() > if stopping { 0 } else { in_flight } {
                        let Some((id, confirmation)) = pending.pop_front() else { break };
                        match confirmation.await {
                            Ok(()) => {
                                published.longest_gap = published.longest_gap.max(last.elapsed());
                                last = Instant::now();
                                published.confirmed.insert(id);
                                count.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(error) if error.kind() == ErrorKind::Nacked => published.nacked += 1,
                            Err(error) => published.failed.push(error),
                        }
                    }
                    if stopping {
                        return published;
                    }
                }
            }
        });
        Self { stop, confirmed, task }
    }

    pub fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::Relaxed)
    }

    /// Waits until `count` more are confirmed.
    pub async fn more(&self, count: u64) {
        let target = self.confirmed() + count;
        eventually("publishes are confirmed", LONG, || async { self.confirmed() >= target }).await;
    }

    pub async fn finish(self) -> Published {
        self.stop.store(true, Ordering::Relaxed);
        within("the last confirms come", LONG * 2, self.task).await.unwrap()
    }
}

/// Ids and how often each was received.
pub type Received = BTreeMap<String, u32>;

/// Takes everything out of a queue.
pub async fn empty_queue(client: &Client, queue: &str) -> Received {
    let consumer = client.consume(queue).prefetch(1000).start().await.unwrap();
    let mut received = Received::new();
    loop {
        match tokio::time::timeout(Duration::from_secs(1), consumer.next()).await {
            Ok(delivery) => {
                let delivery = delivery.unwrap().unwrap();
                *received.entry(String::from_utf8(delivery.body().to_vec()).unwrap()).or_default() += 1;
                delivery.ack().unwrap();
            }
            // Quiet, but is it empty? What is unsettled does not count as a message of the queue.
            Err(_) => {
                if client.queue_info(queue).await.unwrap().message_count == 0 {
                    return received;
                }
            }
        }
    }
}

/// Nothing confirmed is missing; there are no more copies than were sent again.
pub fn account(client: &Client, published: &Published, received: &Received) {
    assert!(published.failed.is_empty(), "{} failed: {:?}", published.failed.len(), published.failed[0]);
    let lost: Vec<_> = published.confirmed.iter().filter(|id| !received.contains_key(*id)).collect();
    assert!(lost.is_empty(), "{} confirmed messages lost: {:?}", lost.len(), &lost[..lost.len().min(5)]);
    let extra: u64 = received.values().map(|count| u64::from(*count) - 1).sum();
    let stats = client.stats();
    println!(
        "sent {} confirmed {} nacked {} received {} copies {extra} republished {} longest gap {:?}",
        stats.published,
        published.confirmed.len(),
        published.nacked,
        received.len(),
        stats.republished,
        published.longest_gap
    );
    assert!(extra <= stats.republished, "{extra} copies, {} sent again", stats.republished);
}

/// A client with a durable queue of its own.
pub async fn client_with_queue(uri: &str, queue: &Queue) -> Client {
    let client = within("connecting", LONG, patient(uri).connect()).await.unwrap();
    within("declaring", LONG, client.declare_queue(queue)).await.unwrap();
    client
}

/// Waits for an event.
pub async fn expect_event<T>(
    what: &str,
    events: &mut Events,
    mut wanted: impl FnMut(Event) -> Option<T>,
) -> T {
    within(what, LONG, async {
        loop {
            let event = events.next().await.expect("the client lives");
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    })
    .await
}

/// Waits until a connection of the role is back.
pub async fn expect_recovered(
    events: &mut Events,
    wanted: murano_messaging::events::Role,
) -> murano_messaging::events::Restored {
    expect_event("the connection is back", events, |event| match event {
        Event::Recovered { role, restored } if role == wanted => Some(restored),
        _ => None,
    })
    .await
}
