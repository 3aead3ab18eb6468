//! A client that has stopped reading because it holds all it may: whoever ends the consumer that it holds messages for
//! does not wait for them to be read.

use std::time::Duration;

use murano_messaging::{Client, Consumer};
use murano_testkit::within;
use tokio::sync::oneshot;

use crate::{
    bytes::*,
    script::{LONG, Server, consumer_tag},
};

/// What one message takes, about, and how many fill both sockets and the client.
const SIZE: usize = 100_000;
const MESSAGES: u64 = 400;

/// A client that consumes twice: the second consumer gets one message when the first, which is full, has been cancelled.
struct Full {
    client: Client,
    first: Consumer,
    second: Consumer,
    server: Server<()>,
}

async fn full(no_ack: bool) -> Full {
    let (stalled, on_stall) = oneshot::channel();
    let server = Server::start(async move |mut peer| {
        peer.open().await;
        let first = peer.until(CONSUME).await;
        peer.answer(&first).await;
        let second = peer.until(CONSUME).await;
        peer.answer(&second).await;
        let (channel, tag) = (first.channel, consumer_tag(&first));
        let bytes: Vec<u8> =
            (1..=MESSAGES).flat_map(|number| message(channel, &tag, number, &[7; SIZE / 8])).collect();
        let rest = peer.stalled(&bytes).await;
        assert!(!rest.is_empty(), "the client takes everything");
        stalled.send(()).unwrap();
        assert!(peer.send(rest).await);
        let cancel = peer.until(CANCEL).await;
        assert_eq!(cancel.channel, channel);
        peer.answer(&cancel).await;
        peer.send(message(second.channel, &consumer_tag(&second), 1, b"for the second")).await;
        let close = peer.until(CLOSE).await;
        // RabbitMQ takes its time too; the client has read the answers to its cancels by then.
        tokio::time::sleep(Duration::from_millis(300)).await;
        peer.answer(&close).await;
        peer.stay().await;
    })
    .await;
    let options = server.options().delivery_buffer(SIZE).operation_timeout(2 * LONG);
    let client = within("connecting", LONG, options.connect()).await.unwrap();
    let first = within("consuming", LONG, client.consume("q").no_ack(no_ack).start()).await.unwrap();
    let second = within("consuming", LONG, client.consume("p").start()).await.unwrap();
    within("the client stops reading", LONG, on_stall).await.unwrap();
    Full { client, first, second, server }
}

/// The second consumer gets its message, and nothing is held any more.
async fn goes_on(client: Client, second: Consumer, server: Server<()>) {
    let delivery = within("the other consumer's message", LONG, second.next()).await.unwrap().unwrap();
    assert_eq!(delivery.body().as_ref(), b"for the second");
    assert_eq!(client.stats().undelivered_bytes, 0);
    drop((delivery, second, client));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_of_a_full_consumer() {
    let Full { client, first, second, server } = full(false).await;
    within("the cancel", LONG, first.cancel()).await.unwrap();
    assert!(first.next().await.is_none(), "what was not handed out goes back");
    drop(first);
    goes_on(client, second, server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drop_of_a_full_consumer() {
    let Full { client, first, second, server } = full(false).await;
    drop(first);
    goes_on(client, second, server).await;
}

/// Without acks the broker has forgotten them: they are still there to be read.
#[tokio::test(flavor = "multi_thread")]
async fn cancel_of_a_full_consumer_without_acks() {
    let Full { client, first, second, server } = full(true).await;
    within("the cancel", LONG, first.cancel()).await.unwrap();
    for _ in 0..MESSAGES {
        within("a message", LONG, first.next()).await.unwrap().unwrap();
    }
    assert!(first.next().await.is_none());
    drop(first);
    goes_on(client, second, server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drop_of_a_full_consumer_without_acks() {
    let Full { client, first, second, server } = full(true).await;
    drop(first);
    goes_on(client, second, server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drop_of_a_cancelled_consumer_that_holds_messages() {
    let Full { client, first, second, server } = full(true).await;
    within("the cancel", LONG, first.cancel()).await.unwrap();
    drop(first);
    goes_on(client, second, server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn close_of_a_full_client() {
    let Full { client, first, second, server } = full(false).await;
    within("the close", LONG, client.close()).await.unwrap();
    drop((first, second, client));
    server.end().await;
}

/// What the application may still read does not keep it from closing.
#[tokio::test(flavor = "multi_thread")]
async fn close_of_a_full_client_without_acks() {
    let Full { client, first, second, server } = full(true).await;
    within("closing", LONG, client.close()).await.unwrap();
    for _ in 0..MESSAGES {
        within("a message", LONG, first.next()).await.unwrap().unwrap();
    }
    assert!(first.next().await.is_none());
    drop((second, client));
    server.end().await;
}
