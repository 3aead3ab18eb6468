//! Publishes that are queued first and sent later, as they are; and what the broker says of itself.

use std::time::Duration;

use murano_messaging::{Client, ErrorKind, Message, Options, Queue};
use murano_testkit::{eventually, shared_node, unique, within};

const SOON: Duration = Duration::from_secs(10);

async fn connected(options: Options) -> (Client, String) {
    let client = options.connect().await.unwrap();
    let queue = unique("queued");
    client.declare_queue(&Queue::new(&queue).expires(Duration::from_secs(60))).await.unwrap();
    (client, queue)
}

async fn options() -> Options {
    Options::from_uri(shared_node().await).unwrap()
}

#[tokio::test]
async fn queued_publishes_are_sent_by_a_flush_as_they_are() {
    for separate in [true, false] {
        let (client, queue) = connected(options().await.separate_publish_connection(separate)).await;
        let publisher = client.publisher("", queue.as_str());
        let now: Vec<_> = (0..10).map(|_| publisher.enqueue(Message::text("now")).unwrap()).collect();
        client.flush();
        for confirmation in now {
            within("a confirm", SOON, confirmation).await.unwrap();
        }
        let later = publisher.enqueue(Message::text("later")).unwrap();
        client.flush_later();
        within("a confirm", SOON, later).await.unwrap();
        let delivery = client.get_no_ack(&queue).await.unwrap().unwrap();
        assert_eq!(delivery.message_id(), None, "it was queued without one");
        assert_eq!(client.queue_info(&queue).await.unwrap().message_count, 10);
        client.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_full_window_refuses_what_would_have_to_wait() {
    let (client, queue) = connected(options().await.window(2, 1 << 20)).await;
    let publisher = client.publisher("", queue.as_str());
    let held = [publisher.enqueue(Message::text("1")), publisher.enqueue(Message::text("2"))];
    let refused = publisher.enqueue(Message::text("3")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LimitReached);
    client.flush();
    for confirmation in held {
        within("a confirm", SOON, confirmation.unwrap()).await.unwrap();
    }
    within("a confirm", SOON, publisher.publish(Message::text("3"))).await.unwrap();
    client.close().await.unwrap();
}

#[tokio::test]
async fn a_request_is_sent_without_a_flush() {
    let (client, queue) = connected(options().await).await;
    let answers = client.consume("amq.rabbitmq.reply-to").no_ack(true).start().await.unwrap();
    let request = Message::text("request").reply_to("amq.rabbitmq.reply-to");
    let confirmation = client.publisher("", queue.as_str()).enqueue(request).unwrap();
    within("a confirm", SOON, confirmation).await.unwrap();
    answers.cancel().await.unwrap();
    client.close().await.unwrap();
}

#[tokio::test]
async fn a_delivery_without_its_body_is_still_to_be_settled() {
    let (client, queue) = connected(options().await).await;
    client.publish("", &queue, Message::text("body")).await.unwrap();
    let deliveries = client.consume(queue.as_str()).start().await.unwrap();
    let mut delivery = within("a delivery", SOON, deliveries.next()).await.unwrap().unwrap();
    assert_eq!(&delivery.take_body()[..], b"body");
    assert!(delivery.body().is_empty());
    delivery.requeue().unwrap();
    let again = within("the delivery again", SOON, deliveries.next()).await.unwrap().unwrap();
    assert_eq!(&again.body()[..], b"body");
    again.ack().unwrap();
    client.close().await.unwrap();
}

#[tokio::test]
async fn what_the_broker_says_of_itself() {
    let (client, _) = connected(options().await).await;
    let server = client.server().unwrap();
    assert_eq!(server.version, (0, 9));
    assert!(server.properties.inner().contains_key("product"));
    assert!(server.mechanisms.split(' ').any(|mechanism| mechanism == "PLAIN"), "{}", server.mechanisms);
    assert!(server.locales.contains("en_US"));
    client.close().await.unwrap();
    eventually("the end", SOON, || async { client.is_closed() }).await;
    assert_eq!(client.server(), Some(server), "it is known after the end");
}
