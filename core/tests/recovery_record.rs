//! What is on record for recovery: it stays bounded, what the broker removed by its own rules is not brought back, and
//! what it lost with the connection is.
#![cfg(feature = "broker")]

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use murano_messaging::{
    Binding, Broker, Client, ErrorKind, Event, Exchange, Message, Options, Queue,
    events::{Events, Restored, Role},
};
use tokio::time::timeout;

const COUNT: usize = 100_000;
const TTL: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_ttl_queues_leave_the_record_flat_and_none_is_resurrected() {
    let broker = Broker::new();
    let client = Options::new().connector(Arc::new(broker.clone())).connect().await.unwrap();
    client.declare_queue(&Queue::new("kept")).await.unwrap();
    client.declare_queue(&Queue::new("consumed").expires(TTL)).await.unwrap();
    let _consumer = client.consume("consumed").start().await.unwrap();
    let name = |number: usize| format!("agent-{number}");
    let mut most = 0;
    for round in 0..COUNT / 1000 {
        let queues: Vec<_> =
            (0..1000).map(|number| Queue::new(name(round * 1000 + number)).expires(TTL)).collect();
        let declares = queues.iter().map(|queue| client.declare_queue(queue));
        for declared in join_all(declares).await {
            declared.unwrap();
        }
        most = most.max(client.stats().recorded);
    }
    assert!(most <= 300, "{most} on record");
    assert!(broker.queue_depth(&name(COUNT - 1)).is_some());
    tokio::time::sleep(TTL + Duration::from_secs(1)).await;

    let mut events = client.events();
    broker.drop_connections();
    loop {
        if let Event::Recovered { role: Role::Main, .. } = events.next().await.unwrap() {
            break;
        }
    }
    for number in 0..COUNT {
        assert_eq!(broker.queue_depth(&name(number)), None, "{} is back", name(number));
    }
    assert_eq!(client.queue_info(&name(7)).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(broker.queue_depth("consumed").unwrap().consumers, 1);
    assert!(broker.queue_depth("kept").is_some());
}

async fn client_of(broker: &Broker) -> Client {
    Options::new().connector(Arc::new(broker.clone())).connect().await.unwrap()
}

/// For one step; time is paused.
const LONG: Duration = Duration::from_secs(3_600);

async fn recovered(events: &mut Events) -> Restored {
    let recovered = async {
        loop {
            if let Event::Recovered { role: Role::Main, restored } = events.next().await.unwrap() {
                return restored;
            }
        }
    };
    timeout(LONG, recovered).await.expect("the client recovers")
}

async fn lost(events: &mut Events) {
    while !matches!(events.next().await.unwrap(), Event::Lost { role: Role::Main, .. }) {}
}

/// Has the client reconnect; what it restored.
async fn reconnected(broker: &Broker, client: &Client) -> Restored {
    let mut events = client.events();
    broker.drop_connections();
    recovered(&mut events).await
}

#[tokio::test(start_paused = true)]
async fn auto_delete_exchanges_that_the_broker_removed_are_not_brought_back() {
    let broker = Broker::new();
    let client = client_of(&broker).await;
    client.declare_queue(&Queue::new("q")).await.unwrap();
    for number in 0..50 {
        let name = format!("e{number}");
        client.declare_exchange(&Exchange::fanout(name.as_str()).auto_delete(true)).await.unwrap();
        let (binding, queue) = (Binding::queue("q", name.as_str()), format!("q{number}"));
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
        assert_eq!(client.check_exchange(&name).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    client.declare_exchange(&Exchange::fanout("bound").auto_delete(true)).await.unwrap();
    client.bind(&Binding::queue("q", "bound")).await.unwrap();
    client.declare_exchange(&Exchange::fanout("never bound").auto_delete(true)).await.unwrap();

    let restored = reconnected(&broker, &client).await;
    assert_eq!((restored.exchanges, restored.bindings, restored.failed.len()), (2, 1, 0), "{restored:?}");
    for number in 0..50 {
        let error = client.check_exchange(&format!("e{number}")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "e{number} is back");
    }
    client.check_exchange("bound").await.unwrap();
    client.check_exchange("never bound").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn bindings_of_queues_that_others_have_deleted_leave_the_record() {
    const COUNT: usize = 1_000;
    let broker = Broker::new();
    let (client, other) = (client_of(&broker).await, client_of(&broker).await);
    let names: Vec<String> = (0..COUNT).map(|number| format!("theirs-{number}")).collect();
    for name in &names {
        other.declare_queue(&Queue::new(name.as_str())).await.unwrap();
        client.bind(&Binding::queue(name.as_str(), "amq.direct")).await.unwrap();
    }
    for name in &names[1..] {
        other.delete_queue(name).await.unwrap();
    }
    let restored = reconnected(&broker, &client).await;
    assert_eq!((restored.bindings, restored.failed.len()), (1, COUNT - 1));
    let restored = reconnected(&broker, &client).await;
    assert_eq!((restored.bindings, restored.failed.len()), (1, 0));
    assert_eq!(client.stats().recorded, 1);
}

#[tokio::test(start_paused = true)]
async fn an_exclusive_auto_delete_queue_lost_before_its_first_consumer_is_restored() {
    let broker = Broker::new();
    let client = client_of(&broker).await;
    client.declare_queue(&Queue::new("mine").exclusive(true).auto_delete(true)).await.unwrap();
    let named = client.declare_queue(&Queue::server_named().exclusive(true).auto_delete(true)).await.unwrap();
    for queue in ["mine", &named.name] {
        client.bind(&Binding::queue(queue, "amq.fanout")).await.unwrap();
    }
    let mut events = client.events();
    broker.drop_connections();
    let mut renamed = String::new();
    let restored = loop {
        match events.next().await.unwrap() {
            Event::QueueRenamed { old, new } => {
                assert_eq!(old, named.name);
                renamed = new;
            }
            Event::Recovered { role: Role::Main, restored } => break restored,
            _ => {}
        }
    };
    assert_eq!((restored.queues, restored.bindings), (2, 2), "{restored:?}");
    let consumers =
        [client.consume("mine").start().await.unwrap(), client.consume(renamed).start().await.unwrap()];
    client.publish("amq.fanout", "", Message::text("x")).await.unwrap();
    for consumer in consumers {
        consumer.next().await.unwrap().unwrap().ack().unwrap();
        consumer.cancel().await.unwrap();
    }
    // With its last consumer the broker has deleted each.
    let restored = reconnected(&broker, &client).await;
    assert_eq!((restored.queues, restored.bindings), (0, 0), "{restored:?}");
}

#[tokio::test(start_paused = true)]
async fn a_queue_to_be_restored_waits_for_a_free_channel() {
    let broker = Broker::new();
    let options = Options::new().connector(Arc::new(broker.clone()));
    let client = options.clone().channel_max(2).heartbeat(Duration::from_secs(200)).connect().await.unwrap();
    for name in ["a", "b"] {
        client.declare_queue(&Queue::new(name)).await.unwrap();
    }
    client.declare_queue(&Queue::new("mine").exclusive(true)).await.unwrap();
    // A refusal closes the channel of the declares, so that two consumers find room.
    client.queue_info("missing").await.unwrap_err();
    let first = client.consume("a").start().await.unwrap();
    let _second = client.consume("b").start().await.unwrap();
    let mut events = client.events();
    broker.refuse_connections(true);
    broker.drop_connections();
    lost(&mut events).await;
    // Somebody else is quicker.
    broker.refuse_connections(false);
    let thief = options.connect().await.unwrap();
    thief.declare_queue(&Queue::new("mine").exclusive(true)).await.unwrap();
    let restored = recovered(&mut events).await;
    assert_eq!((restored.queues, restored.consumers), (2, 2), "{restored:?}");
    thief.close().await.unwrap();
    // Long enough for several attempts without a channel.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(broker.queue_depth("mine"), None);
    first.cancel().await.unwrap();
    drop(first);
    let restored = recovered(&mut events).await;
    assert_eq!((restored.queues, restored.failed.len()), (1, 0), "{restored:?}");
    assert!(broker.queue_depth("mine").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_queue_for_which_no_channel_gets_free_is_told_of() {
    let broker = Broker::new();
    let options = Options::new().connector(Arc::new(broker.clone()));
    let client = options.clone().channel_max(1).heartbeat(Duration::from_secs(20)).connect().await.unwrap();
    client.declare_queue(&Queue::new("a")).await.unwrap();
    client.declare_queue(&Queue::new("mine").exclusive(true)).await.unwrap();
    client.queue_info("missing").await.unwrap_err();
    let _consumer = client.consume("a").start().await.unwrap();
    let mut events = client.events();
    broker.refuse_connections(true);
    broker.drop_connections();
    lost(&mut events).await;
    broker.refuse_connections(false);
    let thief = options.connect().await.unwrap();
    thief.declare_queue(&Queue::new("mine").exclusive(true)).await.unwrap();
    assert_eq!(recovered(&mut events).await.queues, 1);
    let restored = recovered(&mut events).await;
    assert_eq!(restored.failed.len(), 1, "{restored:?}");
    assert_eq!(restored.failed[0].what, "queue 'mine'");
    assert_eq!(restored.failed[0].error.kind(), ErrorKind::LimitReached);
}

/// Gives an operation up and has the client reconnect afterwards.
async fn given_up<T>(broker: &Broker, client: &Client, sent: bool, operation: impl Future<Output = T>) {
    let mut events = client.events();
    if sent {
        broker.stall(true);
    } else {
        broker.refuse_connections(true);
        broker.drop_connections();
        lost(&mut events).await;
    }
    assert!(timeout(Duration::from_millis(10), operation).await.is_err());
    if sent {
        broker.drop_connections();
        broker.stall(false);
    } else {
        broker.refuse_connections(false);
    }
    recovered(&mut events).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_is_not_done_after_the_reconnect() {
    for sent in [false, true] {
        let broker = Broker::new();
        let client = client_of(&broker).await;
        client.declare_queue(&Queue::new("q")).await.unwrap();
        client.publish("", "q", Message::text("kept")).await.unwrap();
        given_up(&broker, &client, sent, client.delete_queue("q")).await;
        given_up(&broker, &client, sent, client.purge_queue("q")).await;
        given_up(&broker, &client, sent, client.get_no_ack("q")).await;
        given_up(&broker, &client, sent, client.get_with_ack("q")).await;
        given_up(&broker, &client, sent, client.declare_queue(&Queue::new("given up"))).await;
        given_up(&broker, &client, sent, client.consume("q").start()).await;
        assert_eq!(client.queue_info("q").await.unwrap().message_count, 1, "sent: {sent}");
        assert_eq!(broker.queue_depth("given up"), None, "sent: {sent}");
    }
}

#[tokio::test(start_paused = true)]
async fn reconnects_are_counted_when_they_succeed() {
    let broker = Broker::new();
    let client = client_of(&broker).await;
    let mut events = client.events();
    broker.refuse_connections(true);
    broker.drop_connections();
    while !matches!(events.next().await.unwrap(), Event::Recovering { attempt: 3, .. }) {}
    assert_eq!(client.stats().reconnects, 0);
    broker.refuse_connections(false);
    recovered(&mut events).await;
    assert_eq!(client.stats().reconnects, 1);
}
