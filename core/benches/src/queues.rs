//! The queues of the benchmark: durable classic queues with names of their own, filled and deleted by it.

use std::{
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use lapin::{
    Connection,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};

use crate::{
    lapin_peer::{Publisher, connect},
    plan::{Failure, WINDOW},
};

/// An interrupted benchmark leaves its queue behind for no longer than this.
const EXPIRES_MS: i32 = 600_000;

/// Declares, fills and deletes queues.
pub struct Queues {
    connection: Connection,
    prefix: String,
    persistent: bool,
    count: AtomicU32,
}

impl Queues {
    /// Connects to the broker; `persistent` is what queues are filled with.
    pub async fn connect(uri: &str, persistent: bool) -> Result<Self, Failure> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH)?;
        Ok(Self {
            connection: connect(uri).await?,
            prefix: format!("murano-bench.{}.{}", process::id(), since_epoch.as_millis()),
            persistent,
            count: AtomicU32::new(0),
        })
    }

    /// Declares a new queue and returns its name.
    pub async fn declare(&self) -> Result<String, Failure> {
        let name = format!("{}.{}", self.prefix, self.count.fetch_add(1, Ordering::Relaxed));
        let mut arguments = FieldTable::default();
        arguments.insert("x-expires".into(), AMQPValue::LongInt(EXPIRES_MS));
        let channel = self.connection.create_channel().await?;
        channel.queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), arguments).await?;
        channel.close(200, "done".into()).await?;
        Ok(name)
    }

    /// Publishes `messages` messages to `queue`; all are confirmed at the end.
    pub async fn fill(&self, queue: &str, messages: u64) -> Result<(), Failure> {
        let publisher = Publisher::open(&self.connection, queue, self.persistent).await?;
        publisher.publish(messages, WINDOW).await?;
        publisher.close().await
    }

    /// Deletes `queue` and returns how many messages were in it.
    pub async fn delete(&self, queue: &str) -> Result<u64, Failure> {
        let channel = self.connection.create_channel().await?;
        let messages = channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
        channel.close(200, "done".into()).await?;
        Ok(u64::from(messages))
    }
}
