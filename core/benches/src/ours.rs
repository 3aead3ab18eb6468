//! This project's client, used as its documentation shows. Built with the cargo feature `ours`.

use std::collections::VecDeque;

use bytes::Bytes;
use murano_messaging::{Client, Message};

use crate::{
    meter::{Meter, Sample},
    plan::{Failure, Job, PREFETCH, WINDOW, Work},
};

/// Does `job` and says what it took.
pub async fn run(job: Job) -> Result<Sample, Failure> {
    match job.work {
        Work::Publish => publish(&job).await,
        Work::PublishWait => publish_wait(&job).await,
        Work::Consume => consume(&job).await,
        Work::Connections => connections(&job).await,
    }
}

async fn publish(job: &Job) -> Result<Sample, Failure> {
    let client = Client::connect(&job.uri).await?;
    let publisher = client.publisher("", job.queue.as_str());
    let message = Message::new(Bytes::from(vec![b'x'; job.body_bytes])).persistent(job.persistent);
    // The publishing connection is opened by the first publish; the others are set up before they are measured.
    publisher.publish(message.clone()).await?;
    let remaining = job.amount - 1;
    let mut in_flight = VecDeque::with_capacity(WINDOW as usize);

    let meter = Meter::start()?;
    for _ in 0..remaining {
        if in_flight.len() as u64 == WINDOW
            && let Some(oldest) = in_flight.pop_front()
        {
            oldest.await?;
        }
        in_flight.push_back(publisher.publish_deferred(message.clone()).await?);
    }
    for confirmation in in_flight {
        confirmation.await?;
    }
    client.close().await?;
    meter.stop(remaining)
}

async fn publish_wait(job: &Job) -> Result<Sample, Failure> {
    let client = Client::connect(&job.uri).await?;
    let publisher = client.publisher("", job.queue.as_str());
    let message = Message::new(Bytes::from(vec![b'x'; job.body_bytes])).persistent(job.persistent);
    publisher.publish(message.clone()).await?;
    let remaining = job.amount - 1;

    let meter = Meter::start()?;
    for _ in 0..remaining {
        publisher.publish(message.clone()).await?;
    }
    client.close().await?;
    meter.stop(remaining)
}

async fn consume(job: &Job) -> Result<Sample, Failure> {
    let client = Client::connect(&job.uri).await?;
    let meter = Meter::start()?;
    let consumer = client.consume(job.queue.as_str()).prefetch(PREFETCH).start().await?;
    for _ in 0..job.amount {
        let delivery = consumer.next().await.ok_or("the consumer ended")??;
        delivery.ack()?;
    }
    client.close().await?;
    meter.stop(job.amount)
}

async fn connections(job: &Job) -> Result<Sample, Failure> {
    let first = Client::connect(&job.uri).await?;
    let meter = Meter::start()?;
    let mut held = vec![first];
    for _ in 0..job.amount {
        held.push(Client::connect(&job.uri).await?);
    }
    let sample = meter.stop_idle(job.amount).await?;
    drop(held);
    Ok(sample)
}
