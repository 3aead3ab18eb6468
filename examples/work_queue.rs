//! Tasks in a queue, workers that share them, and an orderly end.
//!
//! `cargo run --example work_queue -- amqp://guest:guest@localhost`

use std::time::Duration;

use murano_messaging::{Client, Message, Queue, Result};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Task {
    number: u32,
}

const TASKS: u32 = 100;

#[tokio::main]
async fn main() -> Result<()> {
    let uri = std::env::args().nth(1).unwrap_or_else(|| "amqp://localhost".into());
    let client = Client::connect(&uri).await?;
    let queue = Queue::new("work").expires(Duration::from_secs(60));
    client.declare_queue(&queue).await?;

    // All on their way at once; the confirmations are awaited afterwards.
    let publisher = client.publisher("", "work");
    let mut confirmations = Vec::new();
    for number in 0..TASKS {
        confirmations.push(publisher.publish_deferred(Message::json(&Task { number })?).await?);
    }
    for confirmation in confirmations {
        confirmation.await?;
    }
    println!("{TASKS} tasks confirmed");

    let (done, mut finished) = tokio::sync::mpsc::unbounded_channel();
    for name in ["first", "second"] {
        let (uri, done) = (uri.clone(), done.clone());
        tokio::spawn(async move {
            let result = work(name, &uri, done).await;
            if let Err(error) = result {
                eprintln!("{name} worker: {error}");
            }
        });
    }
    for _ in 0..TASKS {
        finished.recv().await;
    }
    println!("{TASKS} tasks done");
    client.delete_queue("work").await?;
    client.close().await
}

async fn work(name: &str, uri: &str, done: tokio::sync::mpsc::UnboundedSender<u32>) -> Result<()> {
    let client = Client::connect(uri).await?;
    // One task more than is being done, so that a slow worker does not hold many.
    let tasks = client.consume("work").prefetch(2).start().await?;
    let mut count = 0;
    while let Some(delivery) = tasks.next().await {
        // The queue is deleted when all is done.
        let Ok(delivery) = delivery else { break };
        let task: Task = delivery.json()?;
        delivery.ack()?;
        count += 1;
        // The receiver is gone when all is done.
        let _ = done.send(task.number);
    }
    println!("the {name} worker did {count}");
    client.drain(Duration::from_secs(5)).await
}
