//! Faults 9, 13 and 14 of `docs/faults.md`: queues and channels that vanish under a consumer.

use std::time::Duration;

use murano_messaging::{Binding, ErrorKind, Event, Message, Queue, QueueType, events::Role};
use murano_testkit::{Node, broker_version, unique, within};

use crate::load::{LONG, client_with_queue, expect_event, expect_recovered};

#[tokio::test(flavor = "multi_thread")]
async fn fault_09_queue_deleted_while_consuming() {
    let uri = murano_testkit::shared_node().await;
    let queue = unique("q");
    let client = client_with_queue(uri, &Queue::new(queue.as_str())).await;
    let other = client_with_queue(uri, &Queue::new(queue.as_str())).await;
    let ends = client.consume(queue.as_str()).start().await.unwrap();
    let resumes = client.consume(queue.as_str()).resume(true).start().await.unwrap();
    let events = &mut client.events();
    other.delete_queue(&queue).await.unwrap();

    let error = within("the end", LONG, ends.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConsumerCancelled, "{error}");
    assert!(within("the end after the error", LONG, ends.next()).await.is_none());

    // A queue that is declared again before the broker has told the consumer keeps it: RabbitMQ looks for one of the same name
    // first (as after a failover), and then there is nothing to resume.
    expect_event("the consumer is interrupted", events, |event| {
        matches!(event, Event::ConsumerCancelled { resumes: true, .. }).then_some(())
    })
    .await;
    other.declare_queue(&Queue::new(queue.as_str())).await.unwrap();
    expect_event("the consumer resumes", events, |event| {
        matches!(event, Event::ConsumerResumed { .. }).then_some(())
    })
    .await;
    other.publish("", &queue, Message::text("again")).await.unwrap();
    let delivery = within("a delivery after resuming", LONG, resumes.next()).await.unwrap().unwrap();
    delivery.ack().unwrap();
    other.delete_queue(&queue).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_13_consumer_ack_timeout() {
    let node = Node::start().await;
    node.eval("application:set_env(rabbit, consumer_timeout, 3000), application:set_env(rabbit, channel_tick_interval, 500).")
        .await
        .unwrap();
    if broker_version(&node.uri()) >= (4, 3) {
        return ack_timeout_of_a_quorum_queue(&node).await;
    }
    let (slow, quick) = (unique("slow"), unique("quick"));
    let client = client_with_queue(&node.uri(), &Queue::new(slow.as_str())).await;
    client.declare_queue(&Queue::new(quick.as_str())).await.unwrap();
    let resuming = client.consume(slow.as_str()).prefetch(1).resume(true).start().await.unwrap();
    let unaffected = client.consume(quick.as_str()).start().await.unwrap();
    client.publish("", &slow, Message::text("kept too long")).await.unwrap();
    let first = within("the delivery", LONG, resuming.next()).await.unwrap().unwrap();
    // Never acked: the broker loses its patience, the message comes again.
    let second = within("the redelivery", LONG, resuming.next()).await.unwrap().unwrap();
    assert!(second.redelivered() && first.is_stale());
    second.ack().unwrap();
    client.publish("", &quick, Message::text("x")).await.unwrap();
    within("the other consumer", LONG, unaffected.next()).await.unwrap().unwrap().ack().unwrap();

    let ending = client.consume(quick.as_str()).prefetch(1).start().await.unwrap();
    drop(unaffected);
    client.publish("", &quick, Message::text("y")).await.unwrap();
    let _held = within("the delivery", LONG, ending.next()).await.unwrap().unwrap();
    let error = within("the end", LONG, ending.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error}");
    assert_eq!(error.reply_code(), Some(406));
    assert_eq!(client.stats().reconnects, 0);
}

/// Since 4.3 the queue watches over this, and only a quorum queue does: it cancels the consumer, within a minute or so.
async fn ack_timeout_of_a_quorum_queue(node: &Node) {
    let slow = unique("slow");
    let declared = Queue::new(slow.as_str()).queue_type(QueueType::Quorum);
    let client = client_with_queue(&node.uri(), &declared).await;
    let resuming = client.consume(slow.as_str()).prefetch(1).resume(true).start().await.unwrap();
    client.publish("", &slow, Message::text("kept too long")).await.unwrap();
    let first = within("the delivery", LONG, resuming.next()).await.unwrap().unwrap();
    let second = within("the redelivery", 4 * LONG, resuming.next()).await.unwrap().unwrap();
    assert!(second.redelivered());
    // The channel stays, so an ack that comes too late is sent; the broker takes it.
    first.ack().unwrap();
    second.ack().unwrap();
    drop((first, second));
    resuming.cancel().await.unwrap();
    let ending = client.consume(slow.as_str()).prefetch(1).start().await.unwrap();
    client.publish("", &slow, Message::text("y")).await.unwrap();
    let _held = within("the delivery", LONG, ending.next()).await.unwrap().unwrap();
    let error = within("the end", 4 * LONG, ending.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConsumerCancelled, "{error}");
    assert_eq!(client.stats().reconnects, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_14_server_named_queue_across_a_reconnect() {
    let node = Node::start().await;
    let client = client_with_queue(&node.uri(), &Queue::new(unique("q"))).await;
    let named = client.declare_queue(&Queue::server_named().exclusive(true).auto_delete(true)).await.unwrap();
    client.bind(&Binding::queue(named.name.as_str(), "amq.topic").routing_key("a.*")).await.unwrap();
    let consumer = client.consume(named.name.as_str()).start().await.unwrap();
    let tag = consumer.tag();
    let events = &mut client.events();
    node.ctl(&["close_all_connections", "test"]).await.unwrap();
    let renamed = expect_event("the application is told", events, |event| match event {
        Event::QueueRenamed { old, new } => Some((old, new)),
        _ => None,
    })
    .await;
    assert_eq!(renamed.0, named.name);
    let restored = expect_recovered(events, Role::Main).await;
    assert!(restored.failed.is_empty(), "{:?}", restored.failed);
    assert_eq!((restored.queues, restored.bindings, restored.consumers), (2, 1, 1));
    assert_eq!(consumer.queue(), renamed.1);
    assert_eq!(consumer.tag(), tag);
    within("publishing along the binding", LONG, client.publish("amq.topic", "a.b", Message::text("x")))
        .await
        .unwrap();
    let delivery = within("the delivery", LONG, consumer.next()).await.unwrap().unwrap();
    assert_eq!(delivery.routing_key(), "a.b");
    delivery.ack().unwrap();
    tokio::time::timeout(Duration::from_millis(300), consumer.next()).await.expect_err("only one");
}
