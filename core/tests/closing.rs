//! Closing a client that is busy: being closed already, or with publishes that wait for their connection.

use std::{
    future::{Future, poll_fn},
    sync::{Arc, Mutex, OnceLock},
    task::Poll,
    time::Duration,
};

use murano_messaging::{
    Broker, Client, Error, ErrorKind, Event, Message, Options, Publisher, Queue, Recovery, events::Role,
};
use murano_testkit::{Proxy, shared_node, unique, within};
use tracing::{Level, Metadata, Subscriber, span};

#[tokio::test]
async fn a_second_close_waits_for_the_same_end() {
    let client = Client::connect(shared_node().await).await.unwrap();
    let queue = unique("closing");
    client.declare_queue(&Queue::new(&queue).expires(Duration::from_secs(60))).await.unwrap();
    client.publish("", &queue, Message::text("work")).await.unwrap();
    let deliveries = client.consume(&queue).start().await.unwrap();
    let delivery = within("a delivery", Duration::from_secs(10), deliveries.next()).await.unwrap().unwrap();

    let drain = tokio::spawn({
        let client = client.clone();
        async move { client.drain(Duration::from_secs(60)).await }
    });
    // The drain has begun when the consumer has ended.
    assert!(within("the end of the consumer", Duration::from_secs(10), deliveries.next()).await.is_none());
    let early = client.drain(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(early.kind(), ErrorKind::Timeout, "{early}");
    let close = tokio::spawn({
        let client = client.clone();
        async move { client.close().await }
    });
    tokio::task::yield_now().await;
    assert!(!drain.is_finished() && !close.is_finished(), "a delivery is still in work");

    delivery.ack().unwrap();
    within("the drain", Duration::from_secs(10), drain).await.unwrap().unwrap();
    within("the close", Duration::from_secs(10), close).await.unwrap().unwrap();
    assert!(client.is_closed());
}

/// The first publish makes its connection when the drain has begun already.
#[tokio::test]
async fn what_is_first_published_during_a_drain_is_sent() {
    let long = Duration::from_secs(10);
    let other = Client::connect(shared_node().await).await.unwrap();
    let client = Client::connect(shared_node().await).await.unwrap();
    let mut events = client.events();
    let (work, results) = (unique("closing"), unique("closing"));
    for queue in [&work, &results] {
        other.declare_queue(&Queue::new(queue).expires(Duration::from_secs(60))).await.unwrap();
    }
    other.publish("", &work, Message::text("work")).await.unwrap();
    let deliveries = client.consume(&work).start().await.unwrap();
    let delivery = within("a delivery", long, deliveries.next()).await.unwrap().unwrap();
    let drain = tokio::spawn({
        let client = client.clone();
        async move { client.drain(long).await }
    });
    assert!(within("the end of the consumer", long, deliveries.next()).await.is_none());
    let mut pending = Vec::new();
    for _ in 0..100 {
        pending.push(client.publish_deferred("", &results, Message::text("done")).await.unwrap());
    }
    delivery.ack().unwrap();
    within("the drain", long, drain).await.unwrap().unwrap();
    for confirmation in pending {
        within("a confirm", long, confirmation).await.unwrap();
    }
    within("the end of the connection", long, async {
        while !matches!(events.next().await.unwrap(), Event::Closed { role: Role::Publish, .. }) {}
    })
    .await;
    assert_eq!(other.queue_info(&results).await.unwrap().message_count, 100);
}

/// A publish waits for a place in the window and is not polled while the client is closed.
#[tokio::test]
async fn a_publish_that_waits_does_not_hold_up_the_close() {
    let long = Duration::from_secs(10);
    let options = Options::from_uri(shared_node().await).unwrap();
    let client = options.window(1, 1).operation_timeout(2 * long).connect().await.unwrap();
    let publisher = client.publisher("amq.fanout", "").mandatory(false);
    let admitted = publisher.publish_deferred("x").await.unwrap();
    let mut waiting = Box::pin(publisher.publish_deferred("y"));
    assert!(poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await);
    within("the close", long, client.close()).await.unwrap();
    admitted.await.unwrap();
    assert_eq!(waiting.await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn an_endless_drain() {
    let client = Client::connect(shared_node().await).await.unwrap();
    let publisher = client.publisher("amq.topic", "nobody").timeout(Some(Duration::MAX));
    publisher.publish(Message::text("x").mandatory(false)).await.unwrap();
    client.drain(Duration::MAX).await.unwrap();
}

#[tokio::test]
async fn what_was_published_before_the_connection_was_there_is_sent_by_close() {
    let client = Client::connect(shared_node().await).await.unwrap();
    let queue = unique("closing");
    client.declare_queue(&Queue::new(&queue).expires(Duration::from_secs(60))).await.unwrap();
    let mut pending = Vec::new();
    for _ in 0..100 {
        pending.push(client.publish_deferred("", &queue, Message::text("early")).await.unwrap());
    }
    client.close().await.unwrap();
    for confirmation in pending {
        within("a confirm", Duration::from_secs(1), confirmation).await.unwrap();
    }
}

#[tokio::test]
async fn a_close_does_not_wait_for_a_connection_that_cannot_be_made() {
    let uri = shared_node().await;
    let port = uri.rsplit(':').next().and_then(|port| port.parse().ok()).expect("the URI ends with the port");
    let proxy = Proxy::start(port).await;
    let client = Options::from_uri(&proxy.uri())
        .unwrap()
        .operation_timeout(Duration::from_millis(500))
        .connect()
        .await
        .unwrap();
    let publish = client.publish_deferred("", "nowhere", Message::text("never")).await.unwrap();
    proxy.refuse(true);
    drop(within("the close", Duration::from_secs(10), client.close()).await);
    within("the failure", Duration::from_secs(10), publish).await.unwrap_err();
}

/// Publishes in the moment in which the end of a client is told, in the thread that tells it.
struct PublishAtTheEnd {
    publisher: Arc<OnceLock<Publisher>>,
    outcome: Arc<Mutex<Option<Result<(), Error>>>>,
}

impl Subscriber for PublishAtTheEnd {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "murano_messaging::events"
    }

    fn event(&self, event: &tracing::Event<'_>) {
        // Only the event of the end has neither a host nor anything of a queue.
        let fields = event.metadata().fields();
        if let Some(publisher) = self.publisher.get()
            && *event.metadata().level() == Level::DEBUG
            && fields.field("reason").is_some()
        {
            let outcome = publisher.enqueue(Message::text("too late")).map(drop);
            *self.outcome.lock().unwrap() = Some(outcome);
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn whoever_hears_of_the_end_finds_publishes_refused() {
    let (publisher, outcome) = (Arc::default(), Arc::default());
    let told = PublishAtTheEnd { publisher: Arc::clone(&publisher), outcome: Arc::clone(&outcome) };
    let _subscribed = tracing::subscriber::set_default(told);
    let broker = Broker::named("closing");
    let client = Options::from_uri("memory://closing")
        .unwrap()
        .recovery(Recovery { enabled: false, ..Recovery::default() })
        .separate_publish_connection(false)
        .connect()
        .await
        .unwrap();
    let _ = publisher.set(client.publisher("", "nobody"));
    broker.drop_connections();
    let refused = async {
        loop {
            if let Some(outcome) = outcome.lock().unwrap().take() {
                return outcome;
            }
            tokio::task::yield_now().await;
        }
    };
    let error = within("the end", Duration::from_secs(10), refused).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
}

/// The runtime goes, and with it the connection: what was delivered is stale, and says why.
#[test]
fn deliveries_of_a_runtime_that_ended_are_stale() {
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (held, consumer) = runtime.block_on(async {
        let client = Client::connect("memory://runtime-gone").await.unwrap();
        client.declare_queue(&Queue::new("q")).await.unwrap();
        for _ in 0..3 {
            client.publish("", "q", Message::text("work")).await.unwrap();
        }
        let consumer = client.consume("q").start().await.unwrap();
        let held = within("a delivery", Duration::from_secs(10), consumer.next()).await.unwrap().unwrap();
        murano_testkit::eventually("two more wait", Duration::from_secs(10), || async {
            consumer.undelivered() == 2
        })
        .await;
        (held, consumer)
    });
    drop(runtime);
    let names_it = |error: &Error| error.to_string().contains("tokio runtime");
    assert!(held.is_stale());
    assert!(names_it(&held.ack().unwrap_err()));
    other.block_on(async {
        for _ in 0..2 {
            let delivery = consumer.next().await.unwrap().unwrap();
            assert!(delivery.is_stale());
            assert!(names_it(&delivery.ack().unwrap_err()));
        }
        let error = consumer.next().await.unwrap().unwrap_err();
        assert!(names_it(&error), "{error}");
        assert!(consumer.next().await.is_none());
    });
}

/// A delivery that is never settled uses up its own time, and not that of the publishes.
#[tokio::test(start_paused = true)]
async fn a_stuck_delivery_leaves_time_for_confirms() {
    let broker = Broker::named("stuck-delivery");
    let client = Client::connect("memory://stuck-delivery").await.unwrap();
    client.declare_queue(&Queue::new("q")).await.unwrap();
    client.publish("", "q", Message::text("work")).await.unwrap();
    let consumer = client.consume("q").start().await.unwrap();
    let stuck = consumer.next().await.unwrap().unwrap();
    broker.block("test");
    let mut events = client.events();
    while !matches!(events.next().await.unwrap(), Event::Blocked { role: Role::Publish, .. }) {}
    let mut answer = Box::pin(client.publish("", "q", Message::text("answer")));
    assert!(poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx).is_pending())).await);
    let unblock = async {
        while !matches!(events.next().await.unwrap(), Event::Closed { role: Role::Main, .. }) {}
        broker.unblock();
    };
    let (drained, confirmed, ()) = tokio::join!(client.drain(Duration::from_secs(10)), answer, unblock);
    assert_eq!(drained.unwrap_err().kind(), ErrorKind::Timeout);
    confirmed.unwrap();
    drop(stuck);
}
