//! Requests when connections are lost, and clients that are dropped.

use std::{sync::Arc, time::Duration};

use murano_messaging::{Broker, Client, ErrorKind, Event, Message, Options, Queue};
use murano_testkit::{eventually, within};

const STEP: Duration = Duration::from_secs(30);

async fn client(broker: &Broker) -> Client {
    Options::new().connector(Arc::new(broker.clone())).connect().await.unwrap()
}

/// Asks queue `q`; returns when the broker has the request.
async fn ask(broker: &Broker, client: &Client) -> tokio::task::JoinHandle<murano_messaging::Result<String>> {
    client.declare_queue(&Queue::new("q")).await.unwrap();
    let before = broker.queue_depth("q").unwrap().ready;
    let asking = client.clone();
    let asked = tokio::spawn(async move {
        let reply = asking.request("", "q", Message::text("x")).await?;
        Ok(String::from_utf8(reply.body().to_vec()).unwrap())
    });
    eventually("the request is there", STEP, || async { broker.queue_depth("q").unwrap().ready > before })
        .await;
    asked
}

async fn reply(client: &Client, text: &str) {
    let request = client.get_no_ack("q").await.unwrap().unwrap();
    let to = request.properties().reply_to().clone().unwrap();
    let id = request.properties().correlation_id().clone().unwrap();
    client.publish("", to.as_str(), Message::text(text).correlation_id(id.as_str())).await.unwrap();
}

#[tokio::test]
async fn a_request_whose_connection_is_lost_says_so_and_the_next_is_answered() {
    let broker = Broker::new();
    let (asking, serving) = (client(&broker).await, client(&broker).await);
    let mut events = asking.events();
    let asked = ask(&broker, &asking).await;
    // One round trip behind the confirm.
    asking.queue_info("q").await.unwrap();
    tokio::task::yield_now().await;
    broker.drop_connections();
    let error = within("the request ends", STEP, asked).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
    assert!(error.outcome_unknown(), "the request is in its queue");
    assert!(error.to_string().contains("queue 'q'"), "{error}");
    while !matches!(within("an event", STEP, events.next()).await, Some(Event::Recovered { .. })) {}
    serving.purge_queue("q").await.unwrap();
    let asked = ask(&broker, &asking).await;
    reply(&serving, "after").await;
    assert_eq!(within("the reply", STEP, asked).await.unwrap().unwrap(), "after");
}

#[tokio::test]
async fn a_client_that_has_asked_is_closed_when_it_is_dropped() {
    let broker = Broker::new();
    let (asking, serving) = (client(&broker).await, client(&broker).await);
    let asked = ask(&broker, &asking).await;
    reply(&serving, "first").await;
    assert_eq!(within("the reply", STEP, asked).await.unwrap().unwrap(), "first");
    serving.close().await.unwrap();
    drop(asking);
    eventually("the client is closed", STEP, || async { broker.connections() == 0 }).await;
}

#[tokio::test]
async fn a_close_ends_requests() {
    let broker = Broker::new();
    let asking = client(&broker).await;
    let asked = ask(&broker, &asking).await;
    asking.close().await.unwrap();
    let error = within("the request ends", STEP, asked).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
}

#[tokio::test]
async fn a_request_that_is_given_up_leaves_nothing_behind() {
    let broker = Broker::new();
    let (asking, serving) = (client(&broker).await, client(&broker).await);
    let asked = ask(&broker, &asking).await;
    asked.abort();
    reply(&serving, "nobody's").await;
    let asked = ask(&broker, &asking).await;
    reply(&serving, "second").await;
    assert_eq!(within("the reply", STEP, asked).await.unwrap().unwrap(), "second");
}
