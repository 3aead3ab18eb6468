//! Three RabbitMQ nodes on this machine, a quorum queue, a publisher and a consumer that know all three hosts. The node that
//! leads the queue is killed under load and started again; then each node is restarted in turn. Everything is counted.
//!
//! `make cluster`, or `cargo run -p murano-messaging --example cluster`. It needs rabbitmq-server, takes some two minutes, and
//! fails if a confirmed message is missing, or if there are more copies than publishes that were sent again.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use murano_messaging::{Client, Message, Options, Queue, Result};
use murano_testkit::{Cluster, eventually};

mod consuming;
mod publishing;

use consuming::Consuming;
use publishing::Publishing;

/// Longer than any of the faults below lasts.
const PATIENCE: Duration = Duration::from_secs(120);
/// Publishes that wait for their confirms at any time.
const IN_FLIGHT: usize = 500;
/// Confirms that show that publishing goes on.
const SOME: u64 = 5_000;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cluster: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<bool> {
    println!("starting three nodes");
    let mut cluster = Cluster::start(3).await;
    let uri = cluster.uri();
    println!("{}", uri.replace("guest:guest@", ""));
    costs(&uri).await?;

    let queue = "cluster-example";
    let connect = || Options::from_uri(&uri).map(|options| options.operation_timeout(PATIENCE));
    let publisher = connect()?.connection_name("publisher").connect().await?;
    publisher.declare_queue(&Queue::quorum(queue)).await?;
    let consumer = connect()?.connection_name("consumer").connect().await?;
    let consuming = Consuming::start(&consumer, queue).await?;
    let publishing = Publishing::start(&publisher, queue, IN_FLIGHT);

    println!("\n{:44} {:>9} {:>9} {:>12}", "under load", "confirmed", "received", "longest gap");
    let report = |what: &str| {
        let (confirmed, gap) = publishing.so_far();
        println!("{what:44} {confirmed:9} {:9} {:>9} ms", consuming.received(), gap.as_millis());
    };
    publishing.more(SOME).await;
    report("all is well");

    let leader = leader(&cluster, queue).await;
    cluster.nodes[leader].kill();
    publishing.more(SOME).await;
    report(&format!("node {leader}, which led the queue, is killed"));
    cluster.nodes[leader].start_again();
    whole(&cluster, queue).await;
    report("it is back");

    for index in 0..cluster.nodes.len() {
        cluster.nodes[index].stop().await;
        publishing.more(SOME).await;
        cluster.nodes[index].start_again();
        // The next one may go only when the queue has all of its copies again.
        whole(&cluster, queue).await;
        report(&format!("node {index} is restarted"));
    }

    let published = publishing.finish().await;
    let received = consuming.finish(&published.confirmed).await;
    let stats = (publisher.stats(), consumer.stats());
    let lost = published.confirmed.iter().filter(|id| !received.contains_key(*id)).count();
    let copies: u64 = received.values().map(|count| u64::from(*count) - 1).sum();
    println!();
    println!("confirmed            {:9}", published.confirmed.len());
    println!("refused (told so)    {:9}", published.nacked);
    println!("failed otherwise     {:9}", published.failed.len());
    println!("lost                 {lost:9}");
    println!("sent again           {:9}", stats.0.republished);
    println!("copies of these      {copies:9}");
    println!("reconnects           {:9}", stats.0.reconnects + stats.1.reconnects);
    if let Some(error) = published.failed.first() {
        println!("the first failure: {error}");
    }
    consumer.delete_queue(queue).await?;
    publisher.close().await?;
    consumer.close().await?;
    Ok(lost == 0 && published.failed.is_empty() && copies <= stats.0.republished)
}

/// What a replicated queue costs: persistent messages of 256 bytes, confirmed, 1,000 in flight.
async fn costs(uri: &str) -> Result<()> {
    const MESSAGES: u64 = 20_000;
    let client = Client::connect(uri).await?;
    println!("\n{:44} {:>11} {:>11}", "256-byte messages, nobody consumes", "messages/s", "one at a time");
    for (what, queue) in [
        ("classic queue, on one node", Queue::new("cost-classic")),
        ("quorum queue, on all three", Queue::quorum("cost-quorum")),
    ] {
        let name = client.declare_queue(&queue).await?.name;
        let publisher = client.publisher("", name.as_str());
        let body = vec![0; 256];
        let began = Instant::now();
        let mut last = None;
        for _ in 0..MESSAGES {
            // Confirms come in order, but for those that failed; the last is waited for.
            last = Some(publisher.publish_deferred(Message::new(body.clone())).await?);
        }
        if let Some(last) = last {
            last.await?;
        }
        let many = MESSAGES as f64 / began.elapsed().as_secs_f64();
        let began = Instant::now();
        for _ in 0..MESSAGES / 20 {
            publisher.publish(Message::new(body.clone())).await?;
        }
        let single = (MESSAGES / 20) as f64 / began.elapsed().as_secs_f64();
        println!("{what:44} {many:11.0} {single:11.0}");
        client.delete_queue(&name).await?;
    }
    client.close().await
}

/// The index of the node that leads the queue.
async fn leader(cluster: &Cluster, queue: &str) -> usize {
    let leader = format!(
        "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{queue}\">>)), {{_, N}} = amqqueue:get_pid(Q), N."
    );
    let answer = cluster.nodes[0].eval(&leader).await.unwrap_or_default();
    let name = answer.trim().trim_matches('\'');
    cluster.nodes.iter().position(|node| node.node_name() == name).unwrap_or_default()
}

/// Returns when all nodes run and the queue has all of its copies.
async fn whole(cluster: &Cluster, queue: &str) {
    eventually("the queue has three copies again", PATIENCE, || async {
        let list =
            cluster.nodes[0].ctl(&["list_queues", "--silent", "name", "online"]).await.unwrap_or_default();
        let row = list.lines().find(|line| line.starts_with(queue)).unwrap_or_default();
        cluster.nodes.iter().all(|node| row.contains(&node.node_name()))
    })
    .await;
}
