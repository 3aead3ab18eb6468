//! lapin, a client of other people, against the embedded broker over TCP.

use std::time::Duration;

use futures::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind, Queue,
    message::BasicGetMessage,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions,
        BasicPublishOptions, BasicQosOptions, BasicRecoverOptions, ConfirmSelectOptions,
        ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};
use murano_messaging::{Broker, broker::Listening};
use murano_testkit::within;

const STEP: Duration = Duration::from_secs(20);

struct Served {
    listening: Listening,
    connection: Connection,
    channel: Channel,
}

async fn served() -> Served {
    let listening = Broker::new().listen(("127.0.0.1", 0)).await.unwrap();
    let uri = format!("amqp://guest:guest@{}", listening.address());
    let connection =
        within("lapin connects", STEP, Connection::connect(&uri, ConnectionProperties::default()));
    let connection = connection.await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    Served { listening, connection, channel }
}

async fn declare(channel: &Channel, name: &str, arguments: FieldTable) -> Queue {
    channel.queue_declare(name.into(), QueueDeclareOptions::default(), arguments).await.unwrap()
}

async fn publish(
    channel: &Channel,
    exchange: &str,
    key: &str,
    body: &[u8],
    properties: BasicProperties,
) -> bool {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let publish = channel.basic_publish(exchange.into(), key.into(), options, body, properties);
    let confirmation = within("a confirm", STEP, publish.await.unwrap()).await.unwrap();
    confirmation.is_ack()
}

async fn get(channel: &Channel, queue: &str) -> Option<BasicGetMessage> {
    channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap()
}

async fn next(consumer: &mut Consumer) -> lapin::message::Delivery {
    within("a delivery", STEP, consumer.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn what_it_publishes_comes_back_as_it_was() {
    let Served { channel, .. } = &served().await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    declare(channel, "q", FieldTable::default()).await;
    let mut headers = FieldTable::default();
    headers.insert("text".into(), AMQPValue::LongString("wörld".into()));
    headers.insert("number".into(), AMQPValue::LongLongInt(-7));
    headers.insert("list".into(), AMQPValue::FieldArray(vec![AMQPValue::Boolean(true)].into()));
    let properties = BasicProperties::default()
        .with_content_type("text/plain".into())
        .with_headers(headers)
        .with_delivery_mode(2)
        .with_priority(3)
        .with_correlation_id("c".into())
        .with_message_id("m".into())
        .with_timestamp(1_700_000_000)
        .with_type("t".into())
        .with_app_id("a".into());
    for size in [0, 1, 131_064, 131_065, 3_000_000] {
        let body = vec![7; size];
        assert!(publish(channel, "", "q", &body, properties.clone()).await);
        let got = get(channel, "q").await.unwrap();
        assert_eq!(got.delivery.properties, properties);
        assert!(got.delivery.data == body, "{size} bytes");
        assert!(!got.delivery.redelivered);
        got.delivery.ack(BasicAckOptions::default()).await.unwrap();
    }
    assert!(get(channel, "q").await.is_none());
}

#[tokio::test]
async fn a_thousand_in_flight_are_confirmed_and_consumed_in_order() {
    let Served { channel, .. } = &served().await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    declare(channel, "q", FieldTable::default()).await;
    let mut confirms = Vec::new();
    for number in 0..1000u32 {
        let body = number.to_be_bytes();
        let options = BasicPublishOptions::default();
        let publish =
            channel.basic_publish("".into(), "q".into(), options, &body, BasicProperties::default());
        confirms.push(publish.await.unwrap());
    }
    for confirm in confirms {
        assert!(within("a confirm", STEP, confirm).await.unwrap().is_ack());
    }
    channel.basic_qos(10, BasicQosOptions::default()).await.unwrap();
    let consume = BasicConsumeOptions::default();
    let mut consumer =
        channel.basic_consume("q".into(), "".into(), consume, FieldTable::default()).await.unwrap();
    for number in 0..1000u32 {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.data, number.to_be_bytes());
        delivery.ack(BasicAckOptions::default()).await.unwrap();
    }
    channel.basic_cancel(consumer.tag().as_str().into(), BasicCancelOptions::default()).await.unwrap();
    assert_eq!(declare(channel, "q", FieldTable::default()).await.consumer_count(), 0);
}

#[tokio::test]
async fn the_unroutable_comes_back_and_the_full_is_refused() {
    let Served { channel, .. } = &served().await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let publishing =
        channel.basic_publish("".into(), "nowhere".into(), options, b"lost", BasicProperties::default());
    let confirmation = within("a confirm", STEP, publishing.await.unwrap()).await.unwrap();
    let returned = confirmation.take_message().expect("the message is returned");
    assert_eq!((returned.reply_code, returned.delivery.data.as_slice()), (312, &b"lost"[..]));
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    declare(channel, "full", arguments).await;
    assert!(publish(channel, "", "full", b"1", BasicProperties::default()).await);
    assert!(!publish(channel, "", "full", b"2", BasicProperties::default()).await);
}

#[tokio::test]
async fn exchanges_route_and_dead_letters_arrive() {
    let Served { channel, .. } = &served().await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for (name, kind) in [("topics", ExchangeKind::Topic), ("dead", ExchangeKind::Fanout)] {
        let options = ExchangeDeclareOptions::default();
        channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await.unwrap();
    }
    let mut arguments = FieldTable::default();
    arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("dead".into()));
    declare(channel, "work", arguments).await;
    declare(channel, "graveyard", FieldTable::default()).await;
    for (queue, exchange, key) in [("work", "topics", "a.*"), ("graveyard", "dead", "")] {
        let options = QueueBindOptions::default();
        channel
            .queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default())
            .await
            .unwrap();
    }
    assert!(publish(channel, "topics", "a.b", b"body", BasicProperties::default()).await);
    let got = get(channel, "work").await.unwrap();
    let nack = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
    got.delivery.nack(nack).await.unwrap();
    let again = get(channel, "work").await.unwrap();
    assert!(again.delivery.redelivered);
    let nack = BasicNackOptions { requeue: false, ..BasicNackOptions::default() };
    again.delivery.nack(nack).await.unwrap();
    let dead = get(channel, "graveyard").await.unwrap();
    let headers = dead.delivery.properties.headers().clone().unwrap();
    assert_eq!(headers.inner()["x-first-death-reason"], AMQPValue::LongString("rejected".into()));
    assert!(
        matches!(&headers.inner()["x-death"], AMQPValue::FieldArray(deaths) if deaths.as_slice().len() == 1)
    );
}

#[tokio::test]
async fn a_refused_operation_closes_its_channel_and_no_other() {
    let Served { connection, channel, .. } = &served().await;
    let other = connection.create_channel().await.unwrap();
    declare(channel, "q", FieldTable::default()).await;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let error = channel.queue_declare("q".into(), durable, FieldTable::default()).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(
            "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'"
        ),
        "{text}"
    );
    let purged = other.queue_purge("q".into(), QueuePurgeOptions::default()).await.unwrap();
    assert_eq!(purged, 0);
    assert_eq!(other.queue_delete("q".into(), QueueDeleteOptions::default()).await.unwrap(), 0);
}

#[tokio::test]
async fn recover_and_a_lost_connection_put_back_what_was_out() {
    let Served { connection, channel, listening } = &served().await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    declare(channel, "q", FieldTable::default()).await;
    for body in [b"1", b"2"] {
        assert!(publish(channel, "", "q", body, BasicProperties::default()).await);
    }
    get(channel, "q").await.unwrap();
    get(channel, "q").await.unwrap();
    assert!(get(channel, "q").await.is_none());
    channel.basic_recover(BasicRecoverOptions { requeue: true }).await.unwrap();
    let again = get(channel, "q").await.unwrap();
    assert_eq!((again.delivery.data.as_slice(), again.delivery.redelivered), (&b"1"[..], true));
    connection.close(200, "bye".into()).await.unwrap();
    let uri = format!("amqp://guest:guest@{}", listening.address());
    let connection = Connection::connect(&uri, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let queue = declare(&channel, "q", FieldTable::default()).await;
    assert_eq!((queue.name(), queue.message_count()), (&ShortString::from("q"), 2));
}
