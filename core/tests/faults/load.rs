//! The publisher of the example `cluster`, which continues through every fault, and an account of its messages.

use std::{collections::BTreeMap, time::Duration};

use murano_messaging::{Client, Event, Events, Options, Queue};
use murano_testkit::within;

#[path = "../../examples/cluster/publishing.rs"]
mod publishing;

pub use publishing::{Published, Publishing as Load};

pub const LONG: Duration = Duration::from_secs(60);

/// Publishes that wait for their confirms at any time, where a test does not need more.
pub const IN_FLIGHT: usize = 200;

/// Options whose deadlines are longer than any fault of these tests lasts.
pub fn patient(uri: &str) -> Options {
    Options::from_uri(uri).unwrap().operation_timeout(Duration::from_secs(120))
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
