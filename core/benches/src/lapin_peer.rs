//! lapin, used as its README and examples show: one channel, a future per confirm, the consumer as a stream.

use std::{collections::VecDeque, future::poll_fn, pin::Pin};

use futures_core::Stream;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, PublisherConfirm,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    },
    types::{FieldTable, ShortString},
};

use crate::{
    meter::{Meter, Sample},
    plan::{Failure, Job, PREFETCH, WINDOW, Work, delivery_mode},
};

/// Does `job` and says what it took.
pub async fn run(job: Job) -> Result<Sample, Failure> {
    match job.work {
        Work::Publish => publish(&job, WINDOW).await,
        Work::PublishWait => publish(&job, 1).await,
        Work::Consume => consume(&job).await,
        Work::Connections => connections(&job).await,
    }
}

/// A channel with confirms on which messages are published to one queue.
pub struct Publisher {
    channel: Channel,
    queue: ShortString,
    body: Vec<u8>,
    properties: BasicProperties,
}

impl Publisher {
    /// Opens a channel for publishing to `queue`.
    pub async fn open(
        connection: &Connection,
        queue: &str,
        persistent: bool,
        body_bytes: usize,
    ) -> Result<Self, Failure> {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self {
            channel,
            queue: queue.into(),
            body: vec![b'x'; body_bytes],
            properties: BasicProperties::default().with_delivery_mode(delivery_mode(persistent)),
        })
    }

    /// Publishes `messages` messages, at most `window` of them unconfirmed at any time, and waits for all confirms.
    pub async fn publish(&self, messages: u64, window: u64) -> Result<(), Failure> {
        let mut in_flight: VecDeque<PublisherConfirm> = VecDeque::with_capacity(window as usize);
        for _ in 0..messages {
            if in_flight.len() as u64 == window {
                settle(in_flight.pop_front()).await?;
            }
            let confirm = self
                .channel
                .basic_publish(
                    "".into(),
                    self.queue.clone(),
                    BasicPublishOptions::default(),
                    &self.body,
                    self.properties.clone(),
                )
                .await?;
            in_flight.push_back(confirm);
        }
        while !in_flight.is_empty() {
            settle(in_flight.pop_front()).await?;
        }
        Ok(())
    }

    /// Closes the channel.
    pub async fn close(self) -> Result<(), Failure> {
        Ok(self.channel.close(200, "done".into()).await?)
    }
}

async fn settle(confirm: Option<PublisherConfirm>) -> Result<(), Failure> {
    match confirm {
        Some(confirm) => match confirm.await? {
            Confirmation::Ack(None) => Ok(()),
            other => Err(format!("not confirmed: {other:?}").into()),
        },
        None => Ok(()),
    }
}

async fn publish(job: &Job, window: u64) -> Result<Sample, Failure> {
    let connection = connect(&job.uri).await?;
    let publisher = Publisher::open(&connection, &job.queue, job.persistent, job.body_bytes).await?;
    let meter = Meter::start()?;
    publisher.publish(job.amount, window).await?;
    publisher.close().await?;
    meter.stop(job.amount)
}

async fn consume(job: &Job) -> Result<Sample, Failure> {
    let connection = connect(&job.uri).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let meter = Meter::start()?;
    let mut consumer = channel
        .basic_consume(
            job.queue.as_str().into(),
            "bench".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    for _ in 0..job.amount {
        next(&mut consumer).await?.ack(BasicAckOptions::default()).await?;
    }
    channel.close(200, "done".into()).await?;
    meter.stop(job.amount)
}

async fn next(consumer: &mut Consumer) -> Result<Delivery, Failure> {
    let delivery = poll_fn(|context| Pin::new(&mut *consumer).poll_next(context)).await;
    Ok(delivery.ok_or("the consumer was cancelled")??)
}

async fn connections(job: &Job) -> Result<Sample, Failure> {
    let first = connect(&job.uri).await?;
    let meter = Meter::start()?;
    let mut held = vec![first];
    for _ in 0..job.amount {
        held.push(connect(&job.uri).await?);
    }
    let sample = meter.stop_idle(job.amount).await?;
    drop(held);
    Ok(sample)
}

/// Connects with lapin's defaults.
pub async fn connect(uri: &str) -> Result<Connection, Failure> {
    Ok(Connection::connect(uri, ConnectionProperties::default()).await?)
}
