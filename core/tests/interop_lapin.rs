//! lapin on the other end of a queue: what one publishes the other consumes, whichever broker is between them.

use std::{future::poll_fn, pin::Pin, time::Duration};

use futures_core::Stream;
use lapin::{
    Channel, Confirmation, Connection, ConnectionProperties,
    message::Delivery as Theirs,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions,
        BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};
use murano_messaging::{
    Client, Consumer, Delivery, ErrorKind, Message, Overflow, Properties, Queue, Value, message::DecimalValue,
};
use murano_testkit::{eventually, shared_node, unique, within};

const STEP: Duration = Duration::from_secs(30);

/// Makes each `async fn(&str)` of a broker's URI a test of its own on every broker.
macro_rules! interop {
    ($($name:ident),+ $(,)?) => {
        mod rabbitmq {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::within("the whole test", super::STEP * 4, super::$name(super::shared_node().await)).await;
            })+
        }
    };
}

interop!(
    every_property_and_header_from_lapin_arrives,
    every_property_and_header_reaches_lapin,
    bodies_of_every_size_go_both_ways,
    thousands_of_messages_go_there_and_back,
    a_queue_declared_by_one_is_the_same_to_the_other,
    what_one_requeues_the_other_gets_redelivered,
    one_answers_what_the_other_asked_by_direct_reply_to,
    lapin_sees_returns_and_nacks,
    a_queue_deleted_by_one_cancels_the_consumer_of_the_other,
);

/// Both clients, and a queue that goes with ours.
struct Pair {
    ours: Client,
    lapin: Connection,
    channel: Channel,
    queue: String,
}

impl Pair {
    async fn open(uri: &str) -> Self {
        let ours = within("connecting", STEP, Client::connect(uri)).await.unwrap();
        let lapin =
            within("lapin connecting", STEP, Connection::connect(uri, ConnectionProperties::default()))
                .await
                .unwrap();
        let channel = lapin.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let queue = Queue::new(unique("interop")).expires(Duration::from_secs(600));
        let queue = ours.declare_queue(&queue).await.unwrap().name;
        Self { ours, lapin, channel, queue }
    }

    /// Closes both, and deletes the queue.
    async fn close(self) {
        self.ours.delete_queue(&self.queue).await.unwrap();
        self.ours.close().await.unwrap();
        self.lapin.close(200, "done".into()).await.unwrap();
    }

    async fn lapin_publishes(&self, routing_key: &str, body: &[u8], properties: Properties) -> Confirmation {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let confirm = self
            .channel
            .basic_publish("".into(), routing_key.into(), options, body, properties)
            .await
            .unwrap();
        within("lapin's confirm", STEP, confirm).await.unwrap()
    }

    async fn lapin_gets(&self) -> Theirs {
        let got = self.channel.basic_get(self.queue.as_str().into(), BasicGetOptions::default());
        let got = within("lapin's get", STEP, got).await.unwrap().expect("a message is there");
        got.delivery.acker.ack(BasicAckOptions::default()).await.unwrap();
        got.delivery
    }

    async fn lapin_consumes(&self, queue: &str, no_ack: bool) -> lapin::Consumer {
        let options = BasicConsumeOptions { no_ack, ..BasicConsumeOptions::default() };
        self.channel
            .basic_consume(queue.into(), unique("lapin").as_str().into(), options, FieldTable::default())
            .await
            .unwrap()
    }

    async fn ready(&self, count: u32) {
        eventually("messages wait", STEP, || async {
            self.ours.queue_info(&self.queue).await.unwrap().message_count == count
        })
        .await;
    }
}

async fn our_next(consumer: &Consumer) -> Delivery {
    within("our next delivery", STEP, consumer.next()).await.expect("it goes on").unwrap()
}

async fn lapins_next(consumer: &mut lapin::Consumer) -> Theirs {
    let next = poll_fn(|cx| Pin::new(&mut *consumer).poll_next(cx));
    within("lapin's next delivery", STEP, next).await.expect("it goes on").unwrap()
}

/// Every type of field both know, alone, in a table and in an array.
fn headers() -> FieldTable {
    let values = [
        Value::Boolean(true),
        Value::ShortShortInt(i8::MIN),
        Value::ShortShortUInt(u8::MAX),
        Value::ShortInt(i16::MIN),
        Value::ShortUInt(u16::MAX),
        Value::LongInt(i32::MIN),
        Value::LongUInt(u32::MAX),
        Value::LongLongInt(i64::MIN),
        Value::Float(0.25),
        Value::Double(-1e300),
        Value::DecimalValue(DecimalValue { scale: 3, value: 1_234_567 }),
        Value::LongString("ünïcode".into()),
        Value::ByteArray(vec![0, 1, 255].into()),
        Value::Timestamp(1_700_000_000),
        Value::Void,
    ];
    let mut table = FieldTable::default();
    for (number, value) in values.iter().enumerate() {
        table.insert(format!("field {number}").into(), value.clone());
    }
    let inner = Value::FieldTable(table.clone());
    table.insert("table".into(), inner.clone());
    table.insert(
        "array".into(),
        Value::FieldArray(values.into_iter().chain([inner]).collect::<Vec<_>>().into()),
    );
    table
}

/// All fourteen.
fn properties() -> Properties {
    Properties::default()
        .with_content_type("text/plain".into())
        .with_content_encoding("utf-8".into())
        .with_headers(headers())
        .with_delivery_mode(2)
        .with_priority(7)
        .with_correlation_id("correlation".into())
        .with_reply_to("answers".into())
        .with_expiration("600000".into())
        .with_message_id("id".into())
        .with_timestamp(1_700_000_000)
        .with_type("type".into())
        .with_user_id("guest".into())
        .with_app_id("app".into())
        .with_cluster_id("cluster".into())
}

async fn every_property_and_header_from_lapin_arrives(uri: &str) {
    let pair = Pair::open(uri).await;
    for _ in 0..2 {
        let confirmed = pair.lapin_publishes(&pair.queue, b"body", properties()).await;
        assert!(matches!(confirmed, Confirmation::Ack(None)), "{confirmed:?}");
    }
    let consumer = pair.ours.consume(pair.queue.as_str()).start().await.unwrap();
    let delivery = our_next(&consumer).await;
    assert_eq!(*delivery.properties(), properties());
    assert_eq!((&delivery.body()[..], delivery.routing_key()), (&b"body"[..], pair.queue.as_str()));
    assert!(delivery.headers_error().is_none());
    delivery.ack().unwrap();
    consumer.cancel().await.unwrap();
    pair.ready(1).await;
    let got = pair.ours.get_no_ack(&pair.queue).await.unwrap().unwrap();
    assert_eq!(*got.properties(), properties());
    // And the least there can be.
    pair.lapin_publishes(&pair.queue, b"", Properties::default()).await;
    let got = pair.ours.get_no_ack(&pair.queue).await.unwrap().unwrap();
    assert_eq!((got.properties(), got.body().len()), (&Properties::default(), 0));
    pair.close().await;
}

async fn every_property_and_header_reaches_lapin(uri: &str) {
    let pair = Pair::open(uri).await;
    let message = Message::new("body").with_properties(properties());
    for _ in 0..2 {
        pair.ours.publish("", &pair.queue, message.clone()).await.unwrap();
    }
    assert_eq!(pair.lapin_gets().await.properties, properties());
    let mut consumer = pair.lapin_consumes(&pair.queue, true).await;
    let delivery = lapins_next(&mut consumer).await;
    assert_eq!(delivery.properties, properties());
    assert_eq!(
        (delivery.data.as_slice(), delivery.routing_key.as_str()),
        (&b"body"[..], pair.queue.as_str())
    );
    // Each header through the builder, too.
    let mut message = Message::new("");
    for (key, value) in &headers() {
        message = message.header(key.as_str(), value.clone());
    }
    pair.ours.publish("", &pair.queue, message).await.unwrap();
    let delivery = lapins_next(&mut consumer).await;
    assert_eq!(delivery.properties.headers().as_ref(), Some(&headers()));
    assert!(delivery.data.is_empty());
    pair.close().await;
}

async fn bodies_of_every_size_go_both_ways(uri: &str) {
    let pair = Pair::open(uri).await;
    let frame = 131_072 - 8;
    for size in [0, 1, frame - 1, frame, frame + 1, 2 * frame, 5_000_000] {
        let body: Vec<u8> = (0..size).map(|at| (at % 253) as u8).collect();
        pair.lapin_publishes(&pair.queue, &body, Properties::default()).await;
        let got = pair.ours.get_no_ack(&pair.queue).await.unwrap().unwrap();
        assert!(got.body() == &body, "{size} bytes from lapin");
        pair.ours.publish("", &pair.queue, Message::new(body.clone())).await.unwrap();
        assert!(pair.lapin_gets().await.data == body, "{size} bytes to lapin");
    }
    pair.close().await;
}

async fn thousands_of_messages_go_there_and_back(uri: &str) {
    const COUNT: usize = 3_000;
    let pair = Pair::open(uri).await;
    let back = Queue::new(unique("interop-back")).expires(Duration::from_secs(600));
    let back = pair.ours.declare_queue(&back).await.unwrap().name;
    let qos = pair.channel.basic_qos(50, BasicQosOptions::default());
    qos.await.unwrap();
    let mut there = pair.lapin_consumes(&pair.queue, false).await;
    let home = pair.ours.consume(back.as_str()).prefetch(70).start().await.unwrap();
    let publishing = async {
        let mut confirmations = Vec::new();
        for number in 0..COUNT {
            let message = Message::text(number.to_string());
            confirmations.push(pair.ours.publish_deferred("", &pair.queue, message).await.unwrap());
        }
        for confirmation in confirmations {
            confirmation.await.unwrap();
        }
    };
    let echoing = async {
        for _ in 0..COUNT {
            let delivery = lapins_next(&mut there).await;
            pair.lapin_publishes(&back, &delivery.data, delivery.properties.clone()).await;
            delivery.acker.ack(BasicAckOptions::default()).await.unwrap();
        }
    };
    let returning = async {
        for number in 0..COUNT {
            let delivery = our_next(&home).await;
            assert_eq!(&delivery.body()[..], number.to_string().as_bytes());
            assert!(!delivery.redelivered());
            delivery.ack().unwrap();
        }
    };
    tokio::join!(publishing, echoing, returning);
    for queue in [&pair.queue, &back] {
        assert_eq!(pair.ours.queue_info(queue).await.unwrap().message_count, 0);
    }
    home.cancel().await.unwrap();
    pair.ours.delete_queue(&back).await.unwrap();
    pair.close().await;
}

async fn a_queue_declared_by_one_is_the_same_to_the_other(uri: &str) {
    let pair = Pair::open(uri).await;
    let name = unique("interop-same");
    let mut arguments = FieldTable::default();
    arguments.insert("x-expires".into(), Value::LongUInt(600_000));
    arguments.insert("x-message-ttl".into(), Value::LongInt(5_000));
    arguments.insert("x-max-length".into(), Value::LongLongInt(10));
    arguments.insert("x-max-priority".into(), Value::ShortShortUInt(4));
    arguments.insert("x-overflow".into(), Value::LongString("reject-publish".into()));
    arguments.insert("x-dead-letter-exchange".into(), Value::LongString("".into()));
    arguments.insert("x-dead-letter-routing-key".into(), Value::LongString(pair.queue.as_str().into()));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let queue = Queue::new(name.as_str())
        .expires(Duration::from_secs(600))
        .message_ttl(Duration::from_secs(5))
        .max_length(10)
        .max_priority(4)
        .overflow(Overflow::RejectPublish)
        .dead_letter_exchange("")
        .dead_letter_routing_key(pair.queue.as_str());
    let lapin_declares = || pair.channel.queue_declare(name.as_str().into(), options, arguments.clone());
    lapin_declares().await.unwrap();
    pair.ours.declare_queue(&queue).await.unwrap();
    pair.ours.delete_queue(&name).await.unwrap();
    pair.ours.declare_queue(&queue).await.unwrap();
    lapin_declares().await.unwrap();
    let other = pair.ours.declare_queue(&queue.max_length(11)).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::PreconditionFailed, "{other}");
    pair.ours.delete_queue(&name).await.unwrap();
    pair.close().await;
}

async fn what_one_requeues_the_other_gets_redelivered(uri: &str) {
    let pair = Pair::open(uri).await;
    pair.ours.publish("", &pair.queue, Message::text("x")).await.unwrap();
    let got = pair.channel.basic_get(pair.queue.as_str().into(), BasicGetOptions::default()).await.unwrap();
    let requeue = BasicNackOptions { requeue: true, multiple: false };
    got.unwrap().delivery.acker.nack(requeue).await.unwrap();
    pair.ready(1).await;
    let delivery = pair.ours.get_with_ack(&pair.queue).await.unwrap().unwrap();
    assert!(delivery.redelivered());
    delivery.requeue().unwrap();
    pair.ready(1).await;
    assert!(pair.lapin_gets().await.redelivered);
    // What lapin held and never acked comes to us when it goes.
    pair.ours.publish("", &pair.queue, Message::text("y")).await.unwrap();
    let mut holding = pair.lapin_consumes(&pair.queue, false).await;
    lapins_next(&mut holding).await;
    let consumer = pair.ours.consume(pair.queue.as_str()).start().await.unwrap();
    pair.channel.close(200, "done".into()).await.unwrap();
    let delivery = our_next(&consumer).await;
    assert!(delivery.redelivered());
    delivery.ack().unwrap();
    consumer.cancel().await.unwrap();
    pair.close().await;
}

async fn one_answers_what_the_other_asked_by_direct_reply_to(uri: &str) {
    const REPLY_TO: &str = "amq.rabbitmq.reply-to";
    let pair = Pair::open(uri).await;
    // lapin asks, we answer.
    let mut lapins_answers = pair.lapin_consumes(REPLY_TO, true).await;
    let question = Properties::default().with_reply_to(REPLY_TO.into()).with_correlation_id("1".into());
    pair.lapin_publishes(&pair.queue, b"question", question).await;
    let asked = pair.ours.get_no_ack(&pair.queue).await.unwrap().unwrap();
    let reply_to = asked.properties().reply_to().clone().unwrap();
    pair.ours.publish("", reply_to.as_str(), Message::text("ours").correlation_id("1")).await.unwrap();
    let answer = lapins_next(&mut lapins_answers).await;
    assert_eq!(answer.data, b"ours");
    assert_eq!(answer.properties.correlation_id().as_ref().unwrap().as_str(), "1");
    // We ask, lapin answers.
    let our_answers = pair.ours.consume(REPLY_TO).no_ack(true).start().await.unwrap();
    let question = Message::text("question").reply_to(REPLY_TO).correlation_id("2");
    pair.ours.publish("", &pair.queue, question).await.unwrap();
    let asked = pair.lapin_gets().await;
    let reply_to = asked.properties.reply_to().clone().unwrap();
    pair.channel
        .basic_publish(
            "".into(),
            reply_to,
            BasicPublishOptions::default(),
            b"lapin's",
            Properties::default().with_correlation_id("2".into()),
        )
        .await
        .unwrap()
        .await
        .unwrap();
    let answer = our_next(&our_answers).await;
    assert_eq!(&answer.body()[..], b"lapin's");
    assert_eq!(answer.properties().correlation_id().as_ref().unwrap().as_str(), "2");
    pair.close().await;
}

async fn lapin_sees_returns_and_nacks(uri: &str) {
    let pair = Pair::open(uri).await;
    let missing = unique("missing");
    match pair.lapin_publishes(&missing, b"nobody", properties()).await {
        Confirmation::Ack(Some(returned)) => {
            assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
            assert_eq!(returned.delivery.properties, properties());
            assert_eq!(returned.delivery.data, b"nobody");
        }
        other => panic!("{other:?}"),
    }
    let full = Queue::new(unique("interop-full")).max_length(1).overflow(Overflow::RejectPublish);
    let full = pair.ours.declare_queue(&full.expires(Duration::from_secs(600))).await.unwrap().name;
    pair.ours.publish("", &full, Message::text("fits")).await.unwrap();
    let refused = pair.lapin_publishes(&full, b"does not", Properties::default()).await;
    assert!(matches!(refused, Confirmation::Nack(None)), "{refused:?}");
    let ours = pair.ours.publish("", &full, Message::text("nor this")).await.unwrap_err();
    assert_eq!(ours.kind(), ErrorKind::Nacked, "{ours}");
    pair.ours.delete_queue(&full).await.unwrap();
    pair.close().await;
}

async fn a_queue_deleted_by_one_cancels_the_consumer_of_the_other(uri: &str) {
    let pair = Pair::open(uri).await;
    let mut theirs = pair.lapin_consumes(&pair.queue, false).await;
    pair.ours.delete_queue(&pair.queue).await.unwrap();
    let end = poll_fn(|cx| Pin::new(&mut theirs).poll_next(cx));
    assert!(within("lapin's consumer ends", STEP, end).await.is_none_or(|end| end.is_err()));
    pair.ours.declare_queue(&Queue::new(pair.queue.as_str())).await.unwrap();
    let ours = pair.ours.consume(pair.queue.as_str()).start().await.unwrap();
    pair.channel
        .queue_delete(pair.queue.as_str().into(), lapin::options::QueueDeleteOptions::default())
        .await
        .unwrap();
    let error = within("our consumer ends", STEP, ours.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConsumerCancelled, "{error}");
    // A cancel by its owner ends only that consumer.
    pair.ours.declare_queue(&Queue::new(pair.queue.as_str())).await.unwrap();
    let theirs = pair.lapin_consumes(&pair.queue, true).await;
    pair.channel.basic_cancel(theirs.tag(), BasicCancelOptions::default()).await.unwrap();
    assert_eq!(pair.ours.queue_info(&pair.queue).await.unwrap().consumer_count, 0);
    pair.close().await;
}
