//! What is on record for recovery, on a real `RabbitMQ`: what the broker removed by its own rules is not brought back,
//! what it lost with the connection is, and what was given up is not done.

use std::{future::Future, time::Duration};

use murano_messaging::{
    Binding, Client, ErrorKind, Event, Exchange, Message, Queue,
    events::{Events, Restored, Role},
};
use murano_testkit::{Proxy, eventually, unique, within};
use tokio::time::timeout;

use crate::{
    load::{LONG, expect_event, expect_recovered, patient},
    network::proxy,
};

async fn client_through(proxy: &Proxy) -> Client {
    within("connecting", LONG, patient(&proxy.uri()).connect()).await.unwrap()
}

/// A client whose connections are not cut.
async fn bystander() -> Client {
    patient(murano_testkit::shared_node().await).connect().await.unwrap()
}

async fn lost(events: &mut Events) {
    expect_event("the loss", events, |event| {
        matches!(event, Event::Lost { role: Role::Main, .. }).then_some(())
    })
    .await;
}

async fn reconnected(proxy: &Proxy, client: &Client) -> Restored {
    let events = &mut client.events();
    proxy.cut();
    expect_recovered(events, Role::Main).await
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_delete_exchanges_that_rabbitmq_removed_are_not_brought_back() {
    const COUNT: usize = 50;
    let (proxy, prefix) = (proxy().await, unique("e"));
    let client = client_through(&proxy).await;
    let kept = format!("{prefix}-q");
    client.declare_queue(&Queue::new(kept.as_str())).await.unwrap();
    let name = |number: usize| format!("{prefix}-{number}");
    for number in 0..COUNT {
        let (name, queue) = (name(number), format!("{prefix}-q{number}"));
        client.declare_exchange(&Exchange::fanout(name.as_str()).auto_delete(true)).await.unwrap();
        let binding = Binding::queue(kept.as_str(), name.as_str());
        match number % 3 {
            0 => {
                client.bind(&binding).await.unwrap();
                client.unbind(&binding).await.unwrap();
            }
            1 => {
                client.declare_queue(&Queue::new(queue.as_str())).await.unwrap();
                client.bind(&Binding::queue(queue.as_str(), name.as_str())).await.unwrap();
                client.delete_queue(&queue).await.unwrap();
            }
            _ => {
                client.declare_queue(&Queue::new(queue.as_str()).auto_delete(true)).await.unwrap();
                client.bind(&Binding::queue(queue.as_str(), name.as_str())).await.unwrap();
                client.consume(queue.as_str()).start().await.unwrap().cancel().await.unwrap();
            }
        }
        // Deleting a queue removes its bindings at RabbitMQ's own pace.
        eventually("RabbitMQ has removed the exchange", LONG, || async {
            client.check_exchange(&name).await.is_err_and(|error| error.kind() == ErrorKind::NotFound)
        })
        .await;
    }
    let (bound, unbound) = (format!("{prefix}-bound"), format!("{prefix}-unbound"));
    client.declare_exchange(&Exchange::fanout(bound.as_str()).auto_delete(true)).await.unwrap();
    client.bind(&Binding::queue(kept.as_str(), bound.as_str())).await.unwrap();
    client.declare_exchange(&Exchange::fanout(unbound.as_str()).auto_delete(true)).await.unwrap();

    let restored = reconnected(&proxy, &client).await;
    assert_eq!((restored.exchanges, restored.bindings, restored.failed.len()), (2, 1, 0), "{restored:?}");
    for number in 0..COUNT {
        let error = client.check_exchange(&name(number)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{} is back", name(number));
    }
    client.check_exchange(&bound).await.unwrap();
    client.check_exchange(&unbound).await.unwrap();
    client.delete_queue(&kept).await.unwrap();
    client.delete_exchange(&unbound).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bindings_of_queues_that_others_have_deleted_leave_the_record_on_rabbitmq() {
    const COUNT: usize = 100;
    let (proxy, prefix) = (proxy().await, unique("theirs"));
    let (client, other) = (client_through(&proxy).await, bystander().await);
    let names: Vec<String> = (0..COUNT).map(|number| format!("{prefix}-{number}")).collect();
    for name in &names {
        other.declare_queue(&Queue::new(name.as_str())).await.unwrap();
        client.bind(&Binding::queue(name.as_str(), "amq.direct")).await.unwrap();
    }
    for name in &names[1..] {
        other.delete_queue(name).await.unwrap();
    }
    let restored = reconnected(&proxy, &client).await;
    assert_eq!((restored.bindings, restored.failed.len()), (1, COUNT - 1));
    let restored = reconnected(&proxy, &client).await;
    assert_eq!((restored.bindings, restored.failed.len()), (1, 0));
    assert_eq!(client.stats().recorded, 1);
    other.delete_queue(&names[0]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exclusive_auto_delete_queue_that_rabbitmq_lost_before_its_first_consumer_is_restored() {
    let (proxy, mine) = (proxy().await, unique("mine"));
    let client = client_through(&proxy).await;
    let exchange = unique("fanout");
    client.declare_exchange(&Exchange::fanout(exchange.as_str()).auto_delete(true)).await.unwrap();
    client.declare_queue(&Queue::new(mine.as_str()).exclusive(true).auto_delete(true)).await.unwrap();
    let named = client.declare_queue(&Queue::server_named().exclusive(true).auto_delete(true)).await.unwrap();
    for queue in [&mine, &named.name] {
        client.bind(&Binding::queue(queue.as_str(), exchange.as_str())).await.unwrap();
    }
    let (events, renames) = (&mut client.events(), &mut client.events());
    proxy.cut();
    let renamed = expect_event("another name", renames, |event| match event {
        Event::QueueRenamed { old, new } if old == named.name => Some(new),
        _ => None,
    })
    .await;
    // A queue that RabbitMQ still keeps for the lost connection follows.
    let mut queues = 0;
    while queues < 2 {
        let restored = expect_recovered(events, Role::Main).await;
        assert!(restored.failed.is_empty(), "{restored:?}");
        queues += restored.queues;
    }
    let consumers =
        [client.consume(mine).start().await.unwrap(), client.consume(renamed).start().await.unwrap()];
    client.publish(&exchange, "", Message::text("x")).await.unwrap();
    for consumer in consumers {
        within("a delivery", LONG, consumer.next()).await.unwrap().unwrap().ack().unwrap();
        consumer.cancel().await.unwrap();
    }
    // With its last consumer RabbitMQ has deleted each.
    let restored = reconnected(&proxy, &client).await;
    assert_eq!((restored.queues, restored.bindings), (0, 0), "{restored:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_to_be_restored_waits_for_a_free_channel_of_rabbitmq() {
    let proxy = proxy().await;
    let [a, b, mine] = ["a", "b", "mine"].map(unique);
    let client = within("connecting", LONG, patient(&proxy.uri()).channel_max(2).connect()).await.unwrap();
    for name in [&a, &b] {
        client.declare_queue(&Queue::new(name.as_str())).await.unwrap();
    }
    client.declare_queue(&Queue::new(mine.as_str()).exclusive(true)).await.unwrap();
    // A refusal closes the channel of the declares, so that two consumers find room.
    client.queue_info(&unique("missing")).await.unwrap_err();
    let first = client.consume(a.as_str()).start().await.unwrap();
    let second = client.consume(b.as_str()).start().await.unwrap();
    let events = &mut client.events();
    proxy.refuse(true);
    proxy.cut();
    lost(events).await;
    // Somebody else is quicker.
    let thief = bystander().await;
    eventually("RabbitMQ has let go of the queue", LONG, || async {
        thief.declare_queue(&Queue::new(mine.as_str()).exclusive(true)).await.is_ok()
    })
    .await;
    proxy.refuse(false);
    let restored = expect_recovered(events, Role::Main).await;
    assert_eq!((restored.queues, restored.consumers), (2, 2), "{restored:?}");
    thief.close().await.unwrap();
    first.cancel().await.unwrap();
    drop(first);
    let restored = expect_recovered(events, Role::Main).await;
    assert_eq!((restored.queues, restored.failed.len()), (1, 0), "{restored:?}");
    client.queue_info(&mine).await.unwrap();
    second.cancel().await.unwrap();
    for name in [&a, &b] {
        client.delete_queue(name).await.unwrap();
    }
}

/// Gives an operation up and has the client reconnect afterwards.
async fn given_up<T>(proxy: &Proxy, client: &Client, operation: impl Future<Output = T>) {
    let events = &mut client.events();
    proxy.refuse(true);
    proxy.cut();
    lost(events).await;
    assert!(timeout(Duration::from_millis(10), operation).await.is_err());
    proxy.refuse(false);
    expect_recovered(events, Role::Main).await;
}

/// What had left before it was given up may be done: the broker has it. Nothing has left while the link is down.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_while_the_link_was_down_is_not_done_on_rabbitmq() {
    let (proxy, queue, unwanted) = (proxy().await, unique("q"), unique("given-up"));
    let client = client_through(&proxy).await;
    client.declare_queue(&Queue::new(queue.as_str())).await.unwrap();
    client.publish("", &queue, Message::text("kept")).await.unwrap();
    given_up(&proxy, &client, client.delete_queue(&queue)).await;
    given_up(&proxy, &client, client.purge_queue(&queue)).await;
    given_up(&proxy, &client, client.get_no_ack(&queue)).await;
    given_up(&proxy, &client, client.get_with_ack(&queue)).await;
    given_up(&proxy, &client, client.declare_queue(&Queue::new(unwanted.as_str()))).await;
    given_up(&proxy, &client, client.consume(queue.as_str()).start()).await;
    let info = client.queue_info(&queue).await.unwrap();
    assert_eq!((info.message_count, info.consumer_count), (1, 0));
    assert_eq!(client.queue_info(&unwanted).await.unwrap_err().kind(), ErrorKind::NotFound);
    client.delete_queue(&queue).await.unwrap();
}
