//! The job that this library exists for, in miniature: plans are sent before any worker exists, to a queue that expires
//! when it is unused; then two workers start and every plan is done exactly once.
//!
//! `make demo` runs it on the embedded broker, `make demo BROKER=amqp://guest:guest@localhost` on a RabbitMQ.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use murano_messaging::{Client, ErrorKind, Message, Queue, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    id: u32,
    action: String,
}

const PLANS: u32 = 10;
const TTL: Duration = Duration::from_secs(2);

/// Prints one line of the timeline.
fn say(start: Instant, text: &str) {
    println!("{:6.2} s  {text}", start.elapsed().as_secs_f64());
}

#[tokio::main]
async fn main() {
    match run().await {
        Ok(true) => {}
        Ok(false) => std::process::exit(1),
        Err(error) => {
            eprintln!("demo: {error}");
            std::process::exit(1);
        }
    }
}

/// Whether everything came about as it should.
async fn run() -> Result<bool> {
    let start = Instant::now();
    let broker = std::env::var("BROKER").unwrap_or_else(|_| "memory://demo".into());
    if broker.starts_with("memory:") {
        say(start, "on the embedded broker: in memory, for development; BROKER=amqp://... takes a RabbitMQ");
    }
    let client = Client::connect(&broker).await?;
    let name = format!("demo-plans-{}", std::process::id());

    client.declare_queue(&Queue::new(name.as_str()).expires(TTL)).await?;
    say(start, &format!("queue declared; it expires when nobody has used it for {TTL:?}"));

    for id in 1..=PLANS {
        let plan = Plan { id, action: "Execute".into() };
        client.publish("", &name, Message::json(&plan)?).await?;
    }
    let waiting = client.queue_info(&name).await?;
    say(
        start,
        &format!(
            "{PLANS} plans sent and confirmed; {} wait, {} workers exist",
            waiting.message_count, waiting.consumer_count
        ),
    );

    let (done, mut finished) = mpsc::unbounded_channel();
    let workers: Vec<_> = ["A", "B"]
        .into_iter()
        .map(|worker| tokio::spawn(work(worker, broker.clone(), name.clone(), done.clone())))
        .collect();
    drop(done);

    let mut count: BTreeMap<u32, u32> = BTreeMap::new();
    while count.len() < PLANS as usize {
        let Some((worker, plan)) = finished.recv().await else { break };
        *count.entry(plan).or_default() += 1;
        say(start, &format!("worker {worker} did plan {plan}"));
    }
    for worker in workers {
        // Ends the worker's future, and with it its connection.
        worker.abort();
    }
    let exactly_once = count.len() == PLANS as usize && count.values().all(|times| *times == 1);
    say(start, &format!("{} of {PLANS} plans done, each exactly once: {exactly_once}", count.len()));

    say(start, "the workers have gone; waiting for the queue to expire");
    let deadline = Instant::now() + TTL * 5;
    let expired = loop {
        // Looking at a queue counts as using it, so it is looked at less often than it expires.
        tokio::time::sleep(TTL + TTL / 4).await;
        match client.queue_info(&name).await {
            Err(error) if error.kind() == ErrorKind::NotFound => break true,
            _ if Instant::now() > deadline => break false,
            _ => {}
        }
    };
    say(start, if expired { "the queue is gone by itself" } else { "the queue is still there" });
    client.close().await?;
    Ok(exactly_once && expired)
}

async fn work(
    worker: &'static str,
    broker: String,
    queue: String,
    done: mpsc::UnboundedSender<(&'static str, u32)>,
) -> Result<()> {
    let client = Client::connect(&broker).await?;
    let plans = client.consume(queue).prefetch(1).start().await?;
    while let Some(delivery) = plans.next().await {
        let delivery = delivery?;
        let plan: Plan = delivery.json()?;
        tokio::time::sleep(Duration::from_millis(20)).await;
        delivery.ack()?;
        // The main program may have seen enough.
        let _ = done.send((worker, plan.id));
    }
    Ok(())
}
