//! The faults that the embedded broker plays for tests.

use std::{sync::Arc, time::Duration};

use murano_messaging::{
    Broker, Client, ErrorKind, Event, Events, Exchange, Message, Options, Queue, broker::Observed,
};
use murano_testkit::{eventually, within};

const STEP: Duration = Duration::from_secs(20);

async fn client(broker: &Broker) -> Client {
    let options =
        Options::new().connector(Arc::new(broker.clone())).operation_timeout(Duration::from_secs(10));
    within("connecting", STEP, options.connect()).await.unwrap()
}

async fn until(events: &mut Events, what: &str, is: impl Fn(&Event) -> bool) -> Event {
    within(what, STEP, async {
        loop {
            let event = events.next().await.expect("the client lives");
            if is(&event) {
                return event;
            }
        }
    })
    .await
}

#[tokio::test]
async fn connections_are_closed_with_a_code() {
    let broker = Broker::new();
    let client = client(&broker).await;
    let mut events = client.events();
    broker.close_connections(320, "closed by the test");
    let lost = until(&mut events, "the loss", |event| matches!(event, Event::Lost { .. })).await;
    let Event::Lost { reason, .. } = lost else { unreachable!() };
    assert_eq!(reason.kind(), ErrorKind::ConnectionForced);
    assert_eq!(reason.reply_text(), Some("CONNECTION_FORCED - closed by the test"));
    until(&mut events, "the recovery", |event| matches!(event, Event::Recovered { .. })).await;
}

#[tokio::test]
async fn a_restart_keeps_what_is_durable() {
    let broker = Broker::new();
    // What one client declares, another finds: nothing is declared again by recovery.
    let owner = client(&broker).await;
    owner.declare_queue(&Queue::new("durable")).await.unwrap();
    owner.declare_queue(&Queue::new("transient").durable(false)).await.unwrap();
    owner.declare_queue(&Queue::new("exclusive").exclusive(true)).await.unwrap();
    owner.declare_exchange(&Exchange::fanout("passing").durable(false)).await.unwrap();
    for queue in ["durable", "transient"] {
        owner.publish("", queue, Message::text("kept")).await.unwrap();
        owner.publish("", queue, Message::text("lost").persistent(false)).await.unwrap();
    }
    owner.close().await.unwrap();
    broker.restart();
    let client = client(&broker).await;
    assert_eq!(client.queue_info("durable").await.unwrap().message_count, 1);
    let kept = client.get_no_ack("durable").await.unwrap().unwrap();
    assert_eq!(kept.body(), "kept");
    for gone in ["transient", "exclusive"] {
        assert_eq!(client.queue_info(gone).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(client.check_exchange("passing").await.unwrap_err().kind(), ErrorKind::NotFound);
    client.check_exchange("amq.topic").await.unwrap();
}

#[tokio::test]
async fn an_alarm_blocks_publishers_and_nobody_else() {
    let broker = Broker::new();
    let client = client(&broker).await;
    client.declare_queue(&Queue::new("q")).await.unwrap();
    client.publish("", "q", Message::text("before")).await.unwrap();
    let mut events = client.events();
    broker.block("low on memory");
    let blocked = until(&mut events, "the alarm", |event| matches!(event, Event::Blocked { .. })).await;
    assert!(matches!(blocked, Event::Blocked { reason, .. } if reason == "low on memory"));
    let consumer = client.consume("q").start().await.unwrap();
    let publishing = client.clone();
    let publish = tokio::spawn(async move { publishing.publish("", "q", Message::text("after")).await });
    let before = within("a delivery", STEP, consumer.next()).await.unwrap().unwrap();
    before.ack().unwrap();
    eventually("the ack has arrived", STEP, || async {
        broker.queue_depth("q").is_some_and(|depth| depth.ready + depth.unacked == 0)
    })
    .await;
    assert!(!publish.is_finished());
    broker.unblock();
    within("the publish", STEP, publish).await.unwrap().unwrap();
    let after = within("a delivery", STEP, consumer.next()).await.unwrap().unwrap();
    assert_eq!(after.body(), "after");
}

#[tokio::test(start_paused = true)]
async fn a_frozen_broker_is_noticed_and_survived() {
    let broker = Broker::new();
    let options = Options::new().connector(Arc::new(broker.clone())).heartbeat(Duration::from_secs(4));
    let client = options.connect().await.unwrap();
    client.declare_queue(&Queue::new("q")).await.unwrap();
    let mut events = client.events();
    broker.stall(true);
    let began = tokio::time::Instant::now();
    until(&mut events, "the loss", |event| matches!(event, Event::Lost { .. })).await;
    assert!(began.elapsed() <= Duration::from_secs(8), "{:?}", began.elapsed());
    broker.stall(false);
    client.publish("", "q", Message::text("after")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_refused_by_the_next_connection_holds_nothing_up() {
    let broker = Broker::new();
    let owner = client(&broker).await;
    owner.declare_queue(&Queue::new("transient").durable(false)).await.unwrap();
    owner.close().await.unwrap();
    let client = client(&broker).await;
    let mut events = client.events();
    broker.stall(true);
    let starting = tokio::spawn(client.consume("transient").start());
    // The paused clock advances only when every task waits: the request has been sent.
    tokio::time::sleep(Duration::from_secs(1)).await;
    broker.restart();
    broker.stall(false);
    let refused = within("the consumer", STEP, starting).await.unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
    until(&mut events, "the recovery", |event| matches!(event, Event::Recovered { .. })).await;
    client.declare_queue(&Queue::new("q")).await.unwrap();
}

#[tokio::test]
async fn a_broker_that_is_down_or_refuses_logins_says_so() {
    let broker = Broker::new();
    let connect = || Options::new().connector(Arc::new(broker.clone())).connect();
    broker.refuse_connections(true);
    assert_eq!(connect().await.unwrap_err().kind(), ErrorKind::ConnectFailed);
    broker.refuse_connections(false);
    broker.refuse_logins(true);
    assert_eq!(connect().await.unwrap_err().kind(), ErrorKind::Authentication);
    broker.refuse_logins(false);
    connect().await.unwrap();
}

#[tokio::test]
async fn what_happens_to_a_message_can_be_watched() {
    let broker = Broker::new();
    let (sender, seen) = std::sync::mpsc::channel();
    broker.observe(move |observed| {
        // The test may be over.
        let _ = sender.send(match observed {
            Observed::Enqueued { queue, message_id, .. } => format!("{message_id} into {queue}"),
            Observed::Delivered { redelivered, .. } => format!("delivered, again: {redelivered}"),
            Observed::Requeued { .. } => "requeued".into(),
            Observed::Acked { .. } => "acked".into(),
            _ => "something else".into(),
        });
    });
    let client = client(&broker).await;
    client.declare_queue(&Queue::new("q")).await.unwrap();
    client.publish("", "q", Message::text("x").message_id("m")).await.unwrap();
    let first = client.get_with_ack("q").await.unwrap().unwrap();
    first.requeue().unwrap();
    eventually("it is back", STEP, || async {
        broker.queue_depth("q").is_some_and(|depth| depth.ready == 1)
    })
    .await;
    client.get_with_ack("q").await.unwrap().unwrap().ack().unwrap();
    client.close().await.unwrap();
    let seen: Vec<_> = seen.try_iter().collect();
    assert_eq!(seen, ["m into q", "delivered, again: false", "requeued", "delivered, again: true", "acked"]);
}
