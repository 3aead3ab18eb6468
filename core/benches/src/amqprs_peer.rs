//! amqprs, the consumer as the trait of its README. A confirm reaches the application only as a call of
//! `ChannelCallback::publish_ack`, so the confirmed workloads count them there.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use amqprs::{
    Ack, BasicProperties, Cancel, CloseChannel, Deliver, Nack, Return,
    callbacks::ChannelCallback,
    channel::{
        BasicAckArguments, BasicConsumeArguments, BasicPublishArguments, BasicQosArguments, Channel,
        ConfirmSelectArguments,
    },
    connection::{Connection, OpenConnectionArguments},
    consumer::AsyncConsumer,
    error::Error,
};
use async_trait::async_trait;
use lapin::uri::AMQPUri;
use tokio::sync::Notify;

use crate::{
    meter::{Meter, Sample},
    plan::{Failure, Job, PREFETCH, WINDOW, Work},
};

/// Does `job` and says what it took.
pub async fn run(job: Job) -> Result<Sample, Failure> {
    match job.work {
        Work::Publish if job.peer.is_unconfirmed() => publish(&job, None).await,
        Work::Publish => publish(&job, Some(WINDOW)).await,
        Work::PublishWait => publish(&job, Some(1)).await,
        Work::Consume => consume(&job).await,
        Work::Connections => connections(&job).await,
    }
}

async fn publish(job: &Job, window: Option<u64>) -> Result<Sample, Failure> {
    let connection = connect(&job.uri).await?;
    let channel = connection.open_channel(None).await?;
    let progress = Arc::new(Progress::default());
    if window.is_some() {
        channel
            .register_callback(CountConfirms {
                confirmed: vec![false; job.amount as usize],
                lowest: 0,
                progress: Arc::clone(&progress),
            })
            .await?;
        channel.confirm_select(ConfirmSelectArguments::default()).await?;
    }
    let body = vec![b'x'; job.body_bytes];
    let properties = BasicProperties::default().with_persistence(job.persistent).finish();
    let arguments = BasicPublishArguments::new("", &job.queue);

    let meter = Meter::start()?;
    for published in 0..job.amount {
        if let Some(window) = window {
            progress.wait_for((published + 1).saturating_sub(window)).await;
        }
        channel.basic_publish(properties.clone(), body.clone(), arguments.clone()).await?;
    }
    if window.is_some() {
        progress.wait_for(job.amount).await;
    }
    // Its reply comes after everything that was published, so what was still queued in the client is paid for too.
    channel.close().await?;
    meter.stop(job.amount)
}

/// How far another task has got.
#[derive(Default)]
struct Progress {
    count: AtomicU64,
    changed: Notify,
}

impl Progress {
    fn add(&self, count: u64) {
        self.count.fetch_add(count, Ordering::Release);
        self.changed.notify_one();
    }

    async fn wait_for(&self, count: u64) {
        while self.count.load(Ordering::Acquire) < count {
            self.changed.notified().await;
        }
    }
}

/// Counts confirms exactly: a single one may precede a `multiple` one that covers it.
struct CountConfirms {
    confirmed: Vec<bool>,
    /// Everything below is confirmed.
    lowest: usize,
    progress: Arc<Progress>,
}

impl CountConfirms {
    fn settle(&mut self, delivery_tag: u64, multiple: bool) {
        let last = delivery_tag as usize;
        let first = if multiple { self.lowest } else { last - 1 };
        let newly = self.confirmed[first..last].iter_mut().filter(|confirmed| !**confirmed);
        let mut count = 0;
        for confirmed in newly {
            *confirmed = true;
            count += 1;
        }
        if multiple {
            self.lowest = last;
        }
        self.progress.add(count);
    }
}

#[async_trait]
impl ChannelCallback for CountConfirms {
    async fn close(&mut self, _: &Channel, close: CloseChannel) -> Result<(), Error> {
        fail(&close)
    }

    async fn cancel(&mut self, _: &Channel, cancel: Cancel) -> Result<(), Error> {
        fail(&cancel.consumer_tag())
    }

    async fn flow(&mut self, _: &Channel, active: bool) -> Result<bool, Error> {
        Ok(active)
    }

    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        self.settle(ack.delivery_tag(), ack.mutiple());
    }

    async fn publish_nack(&mut self, _: &Channel, nack: Nack) {
        fail(&nack.delivery_tag());
    }

    async fn publish_return(&mut self, _: &Channel, returned: Return, _: BasicProperties, _: Vec<u8>) {
        fail(&returned);
    }
}

/// Ends this process: a callback has nobody to return an error to.
fn fail(what: &dyn std::fmt::Display) -> ! {
    eprintln!("amqprs: the broker refused: {what}");
    std::process::exit(1)
}

async fn consume(job: &Job) -> Result<Sample, Failure> {
    let connection = connect(&job.uri).await?;
    let channel = connection.open_channel(None).await?;
    channel.basic_qos(BasicQosArguments::new(0, PREFETCH, false)).await?;
    let progress = Arc::new(Progress::default());
    let meter = Meter::start()?;
    let consumer = AckEach { seen: 0, expected: job.amount, progress: Arc::clone(&progress) };
    channel.basic_consume(consumer, BasicConsumeArguments::new(&job.queue, "bench")).await?;
    progress.wait_for(1).await;
    channel.close().await?;
    meter.stop(job.amount)
}

/// Acknowledges every delivery and reports the last one.
struct AckEach {
    seen: u64,
    expected: u64,
    progress: Arc<Progress>,
}

#[async_trait]
impl AsyncConsumer for AckEach {
    async fn consume(&mut self, channel: &Channel, deliver: Deliver, _: BasicProperties, _: Vec<u8>) {
        let ack = BasicAckArguments::new(deliver.delivery_tag(), false);
        if let Err(error) = channel.basic_ack(ack).await {
            fail(&error);
        }
        self.seen += 1;
        if self.seen == self.expected {
            self.progress.add(1);
        }
    }
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

async fn connect(uri: &str) -> Result<Connection, Failure> {
    let uri: AMQPUri = uri.parse()?;
    let user = &uri.authority.userinfo;
    let mut arguments =
        OpenConnectionArguments::new(&uri.authority.host, uri.authority.port, &user.username, &user.password);
    arguments.virtual_host(&uri.vhost);
    Ok(Connection::open(&arguments).await?)
}
