//! Restarts of the broker, and a node of their own for the tests that need one.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use murano_messaging::{Exchange, Message, oslo::Context};
use murano_testkit::{Node, eventually};
use tokio::sync::Semaphore;

use crate::{
    Broker, LONG, limits,
    peers::{client, server, slow},
    warnings,
};

/// A service whose queues are durable finds a control exchange that is not, as peers without durability declare it.
/// Casts survive the restart, and those after it arrive, whoever sends them.
async fn problem_06_and_12_a_restart_with_casts_queued<F: Future<Output = ()>>(
    broker: &Broker,
    restart: impl FnOnce() -> F,
) {
    warnings::keep();
    let options = [("amqp_durable_queues", "true")];
    let (transport, peer) = (broker.transport(&options).await, broker.transport(&[]).await);
    peer.client().declare_exchange(&Exchange::topic(broker.exchange()).durable(false)).await.unwrap();
    let (calls, go) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(1000)));
    let running_topic = format!("{}-running", broker.topic);
    let running = server(&transport, &running_topic, "one", slow(&calls, &go)).await;
    let waiting = client(&transport, &broker.topic);
    for _ in 0..50 {
        waiting.cast(&Context::new(), "work", ()).await.unwrap();
    }
    assert_eq!(warnings::of("with other properties", &format!("exchange '{}'", broker.exchange())), 1);
    restart().await;
    // Queued before the restart, and sent after it without a server.
    for _ in 0..50 {
        waiting.cast(&Context::new(), "work", ()).await.unwrap();
    }
    let (late_calls, late_go) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(1000)));
    let late = server(&transport, &broker.topic, "two", slow(&late_calls, &late_go)).await;
    eventually("all hundred", LONG, || async { late_calls.load(Ordering::SeqCst) == 100 }).await;
    // The running server is reached by peers that declare nothing of its queues.
    let request = || Message::text("{\"method\": \"work\", \"args\": {}}").mandatory(true);
    eventually("a request is routed to the running server", LONG, || async {
        peer.client().publish(&broker.exchange(), &running_topic, request()).await.is_ok()
    })
    .await;
    eventually("it is served", LONG, || async { calls.load(Ordering::SeqCst) >= 1 }).await;
    running.stop().await;
    late.stop().await;
    transport.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn problem_06_and_12_on_the_embedded_broker() {
    let broker = Broker::embedded();
    let embedded = broker.as_embedded().unwrap();
    problem_06_and_12_a_restart_with_casts_queued(&broker, || async { embedded.restart() }).await;
}

/// One node for all that needs its own: it takes longer to start than the tests take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn problems_06_12_15_16_and_17_on_a_node_of_their_own() {
    let limit = format!("max_message_size = {}", limits::LIMIT);
    let mut node = Node::builder().config(&limit).start().await;
    let uri = node.uri();
    limits::problem_15_a_request_over_the_limit_says_size_and_limit(&Broker::at(&uri).await).await;
    limits::problem_16_a_reply_over_the_limit_is_a_failure(&Broker::at(&uri).await).await;
    // Problem 17: servers and transports that have ended leave none of the queues whose names nobody will use again.
    let queues = node.ctl(&["list_queues", "name"]).await.unwrap();
    assert!(!queues.contains("_fanout_") && !queues.contains("reply_"), "{queues}");
    let broker = Broker::at(&uri).await;
    let node = &mut node;
    let restart = move || async move {
        node.stop().await;
        node.start_again();
    };
    problem_06_and_12_a_restart_with_casts_queued(&broker, restart).await;
}
