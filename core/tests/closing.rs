//! Closing a client that is being closed already.

use std::time::Duration;

use murano_messaging::{Client, ErrorKind, Message, Queue};
use murano_testkit::{shared_node, unique, within};

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
