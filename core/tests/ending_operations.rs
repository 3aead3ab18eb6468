//! An operation over which the broker ends the connection without naming it is found, and fails once; the others are done.
#![cfg(feature = "broker")]

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use murano_messaging::{
    Broker, Client, Error, ErrorKind, Event, Message, Options, Queue,
    events::{Restored, Role},
};
use tokio::time::timeout;

/// For one step; time is paused.
const LONG: Duration = Duration::from_secs(600);

async fn client_of(broker: &Broker) -> Client {
    Options::new().connector(Arc::new(broker.clone())).connect().await.unwrap()
}

fn assert_ended(error: &Error) {
    assert_eq!((error.kind(), error.reply_code()), (ErrorKind::Refused, Some(541)), "{error}");
    assert!(error.to_string().contains("an error in the broker"), "{error}");
    assert!(error.outcome_unknown(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_operation_over_which_the_broker_ends_the_connection_fails_once_with_its_text() {
    let broker = Broker::new();
    let client = client_of(&broker).await;
    client.declare_queue(&Queue::new("q")).await.unwrap();
    let consumer = client.consume("q").start().await.unwrap();
    broker.break_at_declare("ending", true);
    let error = timeout(LONG, client.declare_queue(&Queue::new("ending"))).await.unwrap().unwrap_err();
    assert_ended(&error);
    client.publish("", "q", Message::text("x")).await.unwrap();
    consumer.next().await.unwrap().unwrap().ack().unwrap();
    client.declare_queue(&Queue::new("another")).await.unwrap();
    assert_eq!(client.stats().reconnects, 1);
}

#[tokio::test(start_paused = true)]
async fn the_operation_that_ends_the_connection_is_found_among_others() {
    let broker = Broker::new();
    let client = client_of(&broker).await;
    let names: Vec<String> = (0..20).map(|number| format!("q{number}")).collect();
    for name in &names {
        client.declare_queue(&Queue::new(format!("consumed-{name}"))).await.unwrap();
    }
    broker.break_at_declare("q7", true);
    let queues: Vec<_> = names.iter().map(|name| Queue::new(name.as_str())).collect();
    let declares = join_all(queues.iter().map(|queue| client.declare_queue(queue)));
    let consumes = join_all(names.iter().map(|name| client.consume(format!("consumed-{name}")).start()));
    let (declared, consumed) = timeout(LONG, async { tokio::join!(declares, consumes) }).await.unwrap();
    for (name, result) in names.iter().zip(declared) {
        if name == "q7" {
            assert_ended(&result.unwrap_err());
        } else {
            result.unwrap();
        }
    }
    assert!(consumed.iter().all(Result::is_ok));
    assert_eq!(client.stats().reconnects, 2);
    // What follows is not done one after the other any more.
    client.declare_queue(&Queue::new("another")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_recorded_queue_over_which_the_broker_ends_the_connection_is_told_of_and_left_out() {
    let broker = Broker::new();
    let client = client_of(&broker).await;
    let mut consumers = Vec::new();
    for number in 0..5 {
        let name = format!("q{number}");
        client.declare_queue(&Queue::new(name.as_str())).await.unwrap();
        consumers.push(client.consume(name).start().await.unwrap());
    }
    broker.break_at_declare("q3", true);
    for failed in [1, 0] {
        let mut events = client.events();
        broker.drop_connections();
        let recovered = async {
            loop {
                if let Event::Recovered { role: Role::Main, restored } = events.next().await.unwrap() {
                    return restored;
                }
            }
        };
        let restored: Restored = timeout(LONG, recovered).await.unwrap();
        assert_eq!((restored.queues, restored.consumers), (4, 5), "{restored:?}");
        assert_eq!(restored.failed.len(), failed, "{restored:?}");
        if let [told] = &restored.failed[..] {
            assert_eq!(told.what, "queue 'q3'");
            assert_eq!(told.error.reply_code(), Some(541));
        }
    }
    assert_eq!(client.stats().reconnects, 4);
}
