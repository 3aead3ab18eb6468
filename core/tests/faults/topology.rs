//! Fault 15 of `docs/faults.md`, and what is recorded for a reconnect.

use std::time::{Duration, Instant};

use murano_messaging::{Binding, Client, ErrorKind, Exchange, Message, Queue, events::Role};
use murano_testkit::{Node, unique, within};

use crate::load::{LONG, client_with_queue, expect_recovered, patient};

#[tokio::test(flavor = "multi_thread")]
async fn fault_15_one_entity_cannot_be_redeclared() {
    let node = Node::start().await;
    // In the order of names the refused one is the last that is declared: what follows must not be sent on its channel.
    let (kept, changed) = (unique("a-kept"), unique("b-changed"));
    let client = client_with_queue(&node.uri(), &Queue::new(changed.as_str())).await;
    client.declare_queue(&Queue::new(kept.as_str())).await.unwrap();
    client.declare_exchange(&Exchange::fanout(kept.as_str())).await.unwrap();
    client.bind(&Binding::queue(kept.as_str(), kept.as_str())).await.unwrap();
    let consumer = client.consume(kept.as_str()).start().await.unwrap();

    // Another client redeclares it differently.
    let other = Client::connect(&node.uri()).await.unwrap();
    other.delete_queue(&changed).await.unwrap();
    other.declare_queue(&Queue::new(changed.as_str()).durable(false)).await.unwrap();

    let events = &mut client.events();
    node.ctl(&["close_all_connections", "test"]).await.unwrap();
    let restored = expect_recovered(events, Role::Main).await;
    assert_eq!(restored.failed.len(), 1, "{:?}", restored.failed);
    assert!(restored.failed[0].what.contains(&changed));
    assert_eq!(restored.failed[0].error.kind(), ErrorKind::PreconditionFailed);
    assert_eq!((restored.queues, restored.exchanges, restored.consumers), (1, 1, 1));
    assert_eq!(restored.bindings, 1);
    client.publish(&kept, "", Message::text("x")).await.unwrap();
    within("a delivery", LONG, consumer.next()).await.unwrap().unwrap().ack().unwrap();
    assert_eq!(client.stats().reconnects, 1, "no loop");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_or_expires_unused_is_not_brought_back() {
    let node = Node::start().await;
    let (deleted, expiring, consumed) = (unique("deleted"), unique("expiring"), unique("consumed"));
    let client = client_with_queue(&node.uri(), &Queue::new(deleted.as_str())).await;
    client.delete_queue(&deleted).await.unwrap();
    let ttl = Duration::from_secs(600);
    client.declare_queue(&Queue::new(expiring.as_str()).expires(ttl)).await.unwrap();
    client.declare_queue(&Queue::new(consumed.as_str()).expires(ttl)).await.unwrap();
    let consumer = client.consume(consumed.as_str()).start().await.unwrap();

    let events = &mut client.events();
    let other = Client::connect(&node.uri()).await.unwrap();
    // As if both had expired while the client was away.
    node.ctl(&["stop_app"]).await.unwrap();
    node.ctl(&["start_app"]).await.unwrap();
    expect_recovered(events, Role::Main).await;
    within("the other client is back", LONG, other.delete_queue(&expiring)).await.unwrap();

    node.ctl(&["close_all_connections", "test"]).await.unwrap();
    expect_recovered(events, Role::Main).await;
    assert_eq!(client.queue_info(&deleted).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(client.queue_info(&expiring).await.unwrap_err().kind(), ErrorKind::NotFound);
    client.queue_info(&consumed).await.unwrap();
    client.publish("", &consumed, Message::text("x")).await.unwrap();
    within("a delivery", LONG, consumer.next()).await.unwrap().unwrap().ack().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_ttl_queues_stays_flat() {
    let uri = murano_testkit::shared_node().await;
    let client = patient(uri).connect().await.unwrap();
    let prefix = unique("ttl");
    let mut most = 0;
    // More would only take longer: what is kept is bounded at 256 from the start.
    for round in 0..20 {
        let declares: Vec<_> = (0..50)
            .map(|number| {
                let client = client.clone();
                let queue =
                    Queue::new(format!("{prefix}-{round}-{number}")).expires(Duration::from_millis(500));
                tokio::spawn(async move { client.declare_queue(&queue).await })
            })
            .collect();
        for declare in declares {
            declare.await.unwrap().unwrap();
        }
        most = most.max(client.stats().recorded);
    }
    assert!(most <= 256, "{most} recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_queues_and_consumers_are_recovered_pipelined() {
    const COUNT: usize = 1000;
    let node = Node::start().await;
    let client = patient(&node.uri()).connect().await.unwrap();
    let prefix = unique("many");
    let mut tasks = Vec::new();
    for number in 0..COUNT {
        let (client, name) = (client.clone(), format!("{prefix}-{number}"));
        tasks.push(tokio::spawn(async move {
            client.declare_queue(&Queue::new(name.as_str()).durable(false)).await?;
            client.consume(name).start().await
        }));
    }
    let mut consumers = Vec::new();
    for task in tasks {
        consumers.push(task.await.unwrap().unwrap());
    }
    let events = &mut client.events();
    node.ctl(&["close_all_connections", "test"]).await.unwrap();
    let connected = crate::load::expect_event("connected", events, |event| {
        matches!(event, murano_messaging::Event::Connected { .. }).then(Instant::now)
    })
    .await;
    let restored = expect_recovered(events, Role::Main).await;
    println!("{COUNT} queues and consumers back {:?} after the connection", connected.elapsed());
    assert!(restored.failed.is_empty());
    assert_eq!((restored.queues, restored.consumers), (COUNT, COUNT));
    assert_eq!(client.stats().reconnects, 1);
}

/// A virtual host may have another default type than classic: what only quorum queues have is not refused here.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_limit_without_a_type_is_taken_where_quorum_is_the_default() {
    let node = Node::start().await;
    let added = node.ctl(&["add_vhost", "replicated", "--default-queue-type", "quorum"]).await;
    added.expect("rabbitmqctl knows the option since 3.10");
    node.ctl(&["set_permissions", "-p", "replicated", "guest", ".*", ".*", ".*"]).await.unwrap();
    let client = Client::connect(&format!("{}/replicated", node.uri())).await.unwrap();
    client.declare_queue(&Queue::new("q").delivery_limit(5)).await.unwrap();
    client.publish("", "q", Message::text("x")).await.unwrap();
}
