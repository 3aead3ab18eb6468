//! The queues of the benchmark: durable queues with names of their own, filled and deleted by it.

use std::{
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use lapin::{
    Connection,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};

use crate::{
    cli::Options,
    lapin_peer::{Publisher, connect},
    plan::{Failure, WINDOW},
};

/// An interrupted benchmark leaves its queue behind for no longer than this.
const EXPIRES_MS: i32 = 600_000;
/// How long a queue may take to count right.
const SETTLES: Duration = Duration::from_secs(10);

/// Declares, fills and deletes queues.
pub struct Queues {
    connection: Connection,
    prefix: String,
    persistent: bool,
    body_bytes: usize,
    quorum: bool,
    count: AtomicU32,
}

impl Queues {
    /// Connects to the broker.
    pub async fn connect(options: &Options) -> Result<Self, Failure> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH)?;
        Ok(Self {
            connection: connect(&options.broker).await?,
            prefix: format!("murano-bench.{}.{}", process::id(), since_epoch.as_millis()),
            persistent: options.persistent,
            body_bytes: options.body_bytes,
            quorum: options.quorum,
            count: AtomicU32::new(0),
        })
    }

    /// Declares a new queue and returns its name.
    pub async fn declare(&self) -> Result<String, Failure> {
        let name = format!("{}.{}", self.prefix, self.count.fetch_add(1, Ordering::Relaxed));
        let mut arguments = FieldTable::default();
        arguments.insert("x-expires".into(), AMQPValue::LongInt(EXPIRES_MS));
        if self.quorum {
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        }
        let channel = self.connection.create_channel().await?;
        channel.queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), arguments).await?;
        channel.close(200, "done".into()).await?;
        Ok(name)
    }

    /// Publishes `messages` messages to `queue`; all are confirmed at the end.
    pub async fn fill(&self, queue: &str, messages: u64) -> Result<(), Failure> {
        let publisher = Publisher::open(&self.connection, queue, self.persistent, self.body_bytes).await?;
        publisher.publish(messages, WINDOW).await?;
        publisher.close().await
    }

    /// Deletes `queue` and returns how many messages were in it. Where these are not `expected`, it looks again for a while: a
    /// quorum queue counts a moment later.
    pub async fn delete(&self, queue: &str, expected: u64) -> Result<u64, Failure> {
        let channel = self.connection.create_channel().await?;
        let until = Instant::now() + SETTLES;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        while Instant::now() < until {
            let there = channel.queue_declare(queue.into(), passive, FieldTable::default()).await?;
            if u64::from(there.message_count()) == expected {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let messages = channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
        channel.close(200, "done".into()).await?;
        Ok(u64::from(messages))
    }
}
