//! Faults 1, 2, 3, 5 and 8 of `docs/faults.md`: the broker restarts, dies, closes all connections, freezes.

use std::time::{Duration, Instant};

use murano_messaging::{ErrorKind, Queue, events::Role};
use murano_testkit::{Node, unique, within};

use crate::load::{
    IN_FLIGHT, LONG, Load, account, client_with_queue, empty_queue, expect_event, expect_recovered, patient,
};

#[tokio::test(flavor = "multi_thread")]
async fn fault_01_broker_restarts_with_publishes_unconfirmed() {
    let node = Node::start().await;
    let queue = unique("q");
    let client = client_with_queue(&node.uri(), &Queue::new(queue.as_str())).await;
    let load = Load::start(&client, &queue, IN_FLIGHT);
    load.more(1000).await;
    node.ctl(&["stop_app"]).await.unwrap();
    node.ctl(&["start_app"]).await.unwrap();
    load.more(1000).await;
    let published = load.finish().await;
    let received = empty_queue(&client, &queue).await;
    account(&client, &published, &received);
    assert!(client.stats().reconnects >= 2, "both connections were lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_02_broker_killed_while_publishing() {
    let mut node = Node::start().await;
    let queue = unique("q");
    let client = client_with_queue(&node.uri(), &Queue::new(queue.as_str())).await;
    // RabbitMQ 3.10 writes its list of queues some time after declare-ok; killed before that, it starts without the queue
    // and all that it has confirmed for it.
    node.eval("mnesia:dump_log().").await.unwrap();
    let load = Load::start(&client, &queue, IN_FLIGHT);
    load.more(2000).await;
    node.kill();
    node.start_again();
    load.more(1000).await;
    let published = load.finish().await;
    let received = empty_queue(&client, &queue).await;
    account(&client, &published, &received);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_03_operator_closes_all_connections() {
    let node = Node::start().await;
    let queue = unique("q");
    let client = client_with_queue(&node.uri(), &Queue::new(queue.as_str())).await;
    let events = &mut client.events();
    let load = Load::start(&client, &queue, IN_FLIGHT);
    load.more(500).await;
    for _ in 0..3 {
        node.ctl(&["close_all_connections", "maintenance"]).await.unwrap();
        let started = Instant::now();
        expect_recovered(events, Role::Main).await;
        println!("recovered {:?} after the command returned", started.elapsed());
        load.more(500).await;
    }
    let published = load.finish().await;
    let received = empty_queue(&client, &queue).await;
    account(&client, &published, &received);
}

/// Fault 8 is in here: an ack for a delivery of the lost connection.
#[tokio::test(flavor = "multi_thread")]
async fn fault_08_ack_for_a_delivery_of_a_lost_connection() {
    let node = Node::start().await;
    let queue = unique("q");
    let client = client_with_queue(&node.uri(), &Queue::new(queue.as_str())).await;
    client.publish("", &queue, murano_messaging::Message::text("one")).await.unwrap();
    let consumer = client.consume(queue.as_str()).start().await.unwrap();
    let before = within("the delivery", LONG, consumer.next()).await.unwrap().unwrap();
    assert!(!before.redelivered() && !before.is_stale());

    let events = &mut client.events();
    node.ctl(&["close_all_connections", "test"]).await.unwrap();
    expect_recovered(events, Role::Main).await;
    assert!(before.is_stale());
    before.ack().unwrap();

    let after = within("the redelivery", LONG, consumer.next()).await.unwrap().unwrap();
    assert!(after.redelivered());
    assert_eq!(after.body(), before.body());
    after.ack().unwrap();
    // The channel is sound: had the stale ack been sent, the broker would have closed it.
    client.publish("", &queue, murano_messaging::Message::text("two")).await.unwrap();
    let last = within("the next delivery", LONG, consumer.next()).await.unwrap().unwrap();
    assert_eq!(&last.body()[..], b"two");
    last.ack().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_05_broker_frozen() {
    let node = Node::start().await;
    let queue = unique("q");
    let client = patient(&node.uri())
        .heartbeat(Duration::from_secs(2))
        .operation_timeout(Duration::from_secs(3))
        .connect()
        .await
        .unwrap();
    client.declare_queue(&Queue::new(queue.as_str())).await.unwrap();
    client.publish("", &queue, murano_messaging::Message::text("before")).await.unwrap();
    let events = &mut client.events();
    node.freeze();
    let started = Instant::now();
    // Operations end at their deadline.
    let error = within("the deadline holds", LONG, client.queue_info(&queue)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let lost = expect_event("the silence is noticed", events, |event| match event {
        murano_messaging::Event::Lost { reason, .. } => Some(reason),
        _ => None,
    })
    .await;
    println!("noticed after {:?}: {lost}", started.elapsed());
    // Twice the heartbeat, and the margin of a busy machine.
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    let publish = client.publish("", &queue, murano_messaging::Message::text("lost"));
    let error = within("the deadline of a publish holds", LONG, publish).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    node.thaw();
    let publisher = client.publisher("", queue.as_str()).timeout(Some(LONG));
    publisher.publish(murano_messaging::Message::text("after")).await.unwrap();
    let received = empty_queue(&client, &queue).await;
    assert_eq!(received.get("before"), Some(&1));
    assert_eq!(received.get("after"), Some(&1));
}
