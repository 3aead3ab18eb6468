//! Faults 6 and 7 of `docs/faults.md`: the broker runs out of memory, or of disk, or of both.

use std::time::Duration;

use murano_messaging::{ErrorKind, Event, Message, Queue, events::Role};
use murano_testkit::{Node, unique, within};

use crate::load::{LONG, client_with_queue, expect_event};

#[tokio::test(flavor = "multi_thread")]
async fn fault_06_memory_alarm() {
    let node = Node::start().await;
    let queue = unique("q");
    let client = client_with_queue(&node.uri(), &Queue::new(queue.as_str())).await;
    for number in 0..20 {
        client.publish("", &queue, Message::text(format!("{number}"))).await.unwrap();
    }
    let consumer = client.consume(queue.as_str()).prefetch(5).start().await.unwrap();
    node.ctl(&["set_vm_memory_high_watermark", "0.00001"]).await.unwrap();

    let short = client.publisher("", queue.as_str()).timeout(Some(Duration::from_secs(3)));
    // The broker says `blocked` to a connection that publishes.
    let (first, second) = within("both deadlines hold", LONG, async {
        tokio::join!(short.publish(Message::text("first")), short.publish(Message::text("second")))
    })
    .await;
    for error in [first.unwrap_err(), second.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Blocked, "{error}");
    }
    // Consuming and acking continue.
    for _ in 0..20 {
        let delivery = within("a delivery during the alarm", LONG, consumer.next()).await.unwrap().unwrap();
        delivery.ack().unwrap();
    }
    // So does topology.
    within("the counts", LONG, client.queue_info(&queue)).await.unwrap();

    let waiting = {
        let publisher = client.publisher("", queue.as_str()).timeout(Some(LONG));
        tokio::spawn(async move { publisher.publish(Message::text("waits")).await })
    };
    node.ctl(&["set_vm_memory_high_watermark", "0.4"]).await.unwrap();
    within("the publish that waited", LONG, waiting).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_07_two_alarms_overlap() {
    let node = Node::start().await;
    let queue = unique("q");
    let client = client_with_queue(&node.uri(), &Queue::new(queue.as_str())).await;
    client.publish("", &queue, Message::text("opens the connection")).await.unwrap();
    let events = &mut client.events();
    node.ctl(&["set_vm_memory_high_watermark", "0.00001"]).await.unwrap();
    node.ctl(&["set_disk_free_limit", "900GB"]).await.unwrap();
    let short = client.publisher("", queue.as_str()).timeout(Some(Duration::from_secs(2)));
    assert_eq!(short.publish(Message::text("x")).await.unwrap_err().kind(), ErrorKind::Blocked);
    expect_event("blocked", events, |event| {
        matches!(event, Event::Blocked { role: Role::Publish, .. }).then_some(())
    })
    .await;
    node.ctl(&["set_vm_memory_high_watermark", "0.4"]).await.unwrap();
    // One alarm is left.
    assert_eq!(short.publish(Message::text("y")).await.unwrap_err().kind(), ErrorKind::Blocked);
    node.ctl(&["set_disk_free_limit", "1MB"]).await.unwrap();
    expect_event("unblocked", events, |event| {
        matches!(event, Event::Unblocked { role: Role::Publish }).then_some(())
    })
    .await;
    let publisher = client.publisher("", queue.as_str()).timeout(Some(LONG));
    within("publishing goes on", LONG, publisher.publish(Message::text("z"))).await.unwrap();
}
