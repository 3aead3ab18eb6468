//! Fanout casts over a stream that all servers of a topic read (`rabbit_stream_fanout`).

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use murano_messaging::oslo::Context;
use murano_testkit::eventually;
use tokio::sync::Semaphore;

use crate::{
    Broker, LONG,
    peers::{client, server, slow},
};

const OPTIONS: &[(&str, &str)] = &[
    ("rabbit_stream_fanout", "true"),
    ("rabbit_qos_prefetch_count", "10"),
    ("rabbit_transient_quorum_queue", "true"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fanout_cast_over_a_stream_reaches_each_server_once() {
    let broker = Broker::rabbitmq().await;
    let transport = broker.transport(OPTIONS).await;
    let go = Arc::new(Semaphore::new(1000));
    let counts = [Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0))];
    let mut servers = Vec::new();
    for (name, calls) in ["one", "two"].iter().zip(&counts) {
        servers.push(server(&transport, &broker.topic, name, slow(calls, &go)).await);
    }
    let fanout = client(&transport, &broker.topic).with_target(|target| target.fanout(true));
    let each = |number: u32| {
        let counts = &counts;
        async move { counts.iter().all(|calls| calls.load(Ordering::SeqCst) == number) }
    };
    for number in 1..=20 {
        fanout.cast(&Context::new(), "work", ()).await.unwrap();
        eventually("each gets it", LONG, || each(number)).await;
    }
    // A connection that is lost goes on behind what was read.
    broker.cut();
    fanout.cast(&Context::new(), "work", ()).await.unwrap();
    eventually("each gets it after a cut", LONG, || each(21)).await;
    // A stream that is deleted is made again.
    let stream = format!("{}_fanout", broker.topic);
    let raw = transport.client();
    raw.delete_queue(&stream).await.unwrap();
    eventually("each gets one of the new stream", LONG, || async {
        fanout.cast(&Context::new(), "work", ()).await.unwrap();
        counts.iter().all(|calls| calls.load(Ordering::SeqCst) > 21)
    })
    .await;
    for server in servers {
        server.stop().await;
    }
    raw.delete_queue(&stream).await.unwrap();
    transport.close().await.unwrap();
}
