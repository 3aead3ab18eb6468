//! Moving from lapin: both clients in one process, conversions between them, and what each fault does in both
//! (`docs/from-lapin.md`).

mod conversions;
mod faults;

use std::time::Duration;

use futures::StreamExt;
use lapin::{
    Channel, Confirmation, Connection, ConnectionProperties, PublisherConfirm,
    options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use murano_messaging::Properties;
use murano_testkit::within;

const STEP: Duration = Duration::from_secs(30);

/// lapin with a channel in confirm mode.
struct Lapin {
    connection: Connection,
    channel: Channel,
}

impl Lapin {
    async fn connect(uri: &str, properties: ConnectionProperties) -> Self {
        let connection = within("lapin connects", STEP, Connection::connect(uri, properties)).await.unwrap();
        let channel = within("a channel of lapin", STEP, connection.create_channel()).await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self { connection, channel }
    }

    async fn declare(&self, queue: &str) {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let declare = self.channel.queue_declare(queue.into(), options, FieldTable::default());
        within("lapin's declare", STEP, declare).await.unwrap();
    }

    async fn start_publish(&self, exchange: &str, key: &str) -> lapin::Result<PublisherConfirm> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = Properties::default().with_delivery_mode(2);
        let publish =
            self.channel.basic_publish(exchange.into(), key.into(), options, b"lapin's", properties);
        within("lapin's publish", STEP, publish).await
    }

    async fn publish(&self, exchange: &str, key: &str) -> lapin::Result<Confirmation> {
        let confirm = self.start_publish(exchange, key).await?;
        within("lapin's confirm", STEP, confirm).await
    }

    async fn consume(&self, queue: &str) -> lapin::Consumer {
        let consume = self.channel.basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        within("lapin's consume", STEP, consume).await.unwrap()
    }
}

async fn next(consumer: &mut lapin::Consumer) -> Option<lapin::Result<lapin::message::Delivery>> {
    within("lapin's next delivery", STEP, consumer.next()).await
}
