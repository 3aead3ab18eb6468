//! What is on record for recovery stays bounded, and what has expired is not brought back.
#![cfg(feature = "broker")]

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use murano_messaging::{Broker, ErrorKind, Event, Options, Queue, events::Role};

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
