//! Closing a client that is busy: being closed already, or with publishes that wait for their connection.

use std::time::Duration;

use murano_messaging::{Client, ErrorKind, Message, Options, Queue};
use murano_testkit::{Proxy, shared_node, unique, within};

#[tokio::test]
async fn a_second_close_waits_for_the_same_end() {
    let client = Client::connect(shared_node().await).await.unwrap();
    let queue = unique("closing");
    client.declare_queue(&Queue::new(&queue).expires(Duration::from_secs(60))).await.unwrap();
    client.publish("", &queue, Message::text("work")).await.unwrap();
    let deliveries = client.consume(&queue).start().await.unwrap();
    let delivery = within("a delivery", Duration::from_secs(10), deliveries.next()).await.unwrap().unwrap();

    let drain = tokio::spawn({
        let client = client.clone();
        async move { client.drain(Duration::from_secs(60)).await }
    });
    // The drain has begun when the consumer has ended.
    assert!(within("the end of the consumer", Duration::from_secs(10), deliveries.next()).await.is_none());
    let early = client.drain(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(early.kind(), ErrorKind::Timeout, "{early}");
    let close = tokio::spawn({
        let client = client.clone();
        async move { client.close().await }
    });
    tokio::task::yield_now().await;
    assert!(!drain.is_finished() && !close.is_finished(), "a delivery is still in work");

    delivery.ack().unwrap();
    within("the drain", Duration::from_secs(10), drain).await.unwrap().unwrap();
    within("the close", Duration::from_secs(10), close).await.unwrap().unwrap();
    assert!(client.is_closed());
}

#[tokio::test]
async fn what_was_published_before_the_connection_was_there_is_sent_by_close() {
    let client = Client::connect(shared_node().await).await.unwrap();
    let queue = unique("closing");
    client.declare_queue(&Queue::new(&queue).expires(Duration::from_secs(60))).await.unwrap();
    let mut pending = Vec::new();
    for _ in 0..100 {
        pending.push(client.publish_nowait("", &queue, Message::text("early")).await.unwrap());
    }
    client.close().await.unwrap();
    for confirmation in pending {
        within("a confirm", Duration::from_secs(1), confirmation).await.unwrap();
    }
}

#[tokio::test]
async fn a_close_does_not_wait_for_a_connection_that_cannot_be_made() {
    let uri = shared_node().await;
    let port = uri.rsplit(':').next().and_then(|port| port.parse().ok()).expect("the URI ends with the port");
    let proxy = Proxy::start(port).await;
    let client = Options::from_uri(&proxy.uri())
        .unwrap()
        .operation_timeout(Duration::from_millis(500))
        .connect()
        .await
        .unwrap();
    let publish = client.publish_nowait("", "nowhere", Message::text("never")).await.unwrap();
    proxy.refuse(true);
    drop(within("the close", Duration::from_secs(10), client.close()).await);
    within("the failure", Duration::from_secs(10), publish).await.unwrap_err();
}
