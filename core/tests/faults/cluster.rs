//! Faults 20 and 21 of `docs/faults.md`: nodes of a cluster die.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use murano_messaging::{ErrorKind, Message, Queue, QueueType};
use murano_testkit::{Cluster, eventually, unique, within};

use crate::load::{LONG, Load, Received, account, client_with_queue, patient};

/// The index of the node that leads a quorum queue.
async fn leader(cluster: &Cluster, queue: &str) -> usize {
    let name = format!(
        "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{queue}\">>)), {{_, N}} = amqqueue:get_pid(Q), N."
    );
    for node in &cluster.nodes {
        if let Ok(answer) = node.eval(&name).await {
            let answer = answer.trim().trim_matches('\'').to_owned();
            return cluster.nodes.iter().position(|node| node.node_name() == answer).expect("a node of ours");
        }
    }
    panic!("no node knows the leader of {queue}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_20_and_21_cluster_nodes_die() {
    const MESSAGES: u64 = 100_000;
    let mut cluster = Cluster::start(3).await;
    let queue = unique("quorum");
    let declared = Queue::new(queue.as_str()).queue_type(QueueType::Quorum);
    let client = client_with_queue(&cluster.uri(), &declared).await;
    let consuming = patient(&cluster.uri()).connect().await.unwrap();

    // Consumes along, acking everything.
    let received = Arc::new(Mutex::new(Received::new()));
    let consumer = tokio::spawn({
        let received = received.clone();
        let deliveries = consuming.consume(queue.as_str()).prefetch(500).resume(true).start().await.unwrap();
        async move {
            while let Some(Ok(delivery)) = deliveries.next().await {
                let id = String::from_utf8(delivery.body().to_vec()).unwrap();
                // The broker tells when a copy is the same copy again.
                if !delivery.redelivered() || !received.lock().unwrap().contains_key(&id) {
                    *received.lock().unwrap().entry(id).or_default() += 1;
                }
                delivery.ack().unwrap();
            }
        }
    });
    let load = Load::start(&client, &queue, 1000);
    load.more(MESSAGES / 3).await;
    let dead = leader(&cluster, &queue).await;
    cluster.nodes[dead].kill();
    eventually("publishing goes on without the leader", LONG * 4, || async { load.so_far().0 >= MESSAGES })
        .await;
    let published = load.finish().await;
    eventually("everything is received", LONG * 2, || async {
        let received = received.lock().unwrap();
        published.confirmed.iter().all(|id| received.contains_key(id))
    })
    .await;
    account(&client, &published, &received.lock().unwrap());

    // Fault 21: with two of three gone, a publish ends at its deadline and never claims success.
    let second = (dead + 1) % 3;
    cluster.nodes[second].kill();
    let publisher = client.publisher("", queue.as_str()).timeout(Some(Duration::from_secs(5)));
    for _ in 0..3 {
        let publish = publisher.publish(Message::text("never confirmed"));
        let error = within("the deadline", LONG, publish).await.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unroutable | ErrorKind::Nacked),
            "{error}"
        );
    }
    consumer.abort();
}
