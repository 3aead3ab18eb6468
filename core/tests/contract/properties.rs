//! Properties, headers and JSON: what is sent is what arrives.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use murano_messaging::{
    ErrorKind, FieldTable, Message, Value,
    message::{DecimalValue, FieldArray},
};
use serde::{Deserialize, Serialize};

use crate::env::{Env, get, next, numbers, send, until_ready};

contract!(
    all_fourteen_properties_arrive,
    absent_properties_stay_absent,
    every_type_of_header_arrives,
    headers_survive_a_broker_that_adds_its_own,
    deep_and_large_tables_arrive,
    every_message_has_an_id_of_its_own,
    a_foreign_user_id_is_refused,
    json_arrives_as_the_value_it_was,
);

/// All there are (AMQP 0-9-1 section 1.8.1).
fn complete() -> Message {
    Message::new("body")
        .content_type("application/octet-stream")
        .content_encoding("gzip")
        .headers(every_type())
        .persistent(true)
        .priority(9)
        .correlation_id("correlation")
        .reply_to("answers")
        .expiration(Duration::from_secs(600))
        .message_id("message ünïcode")
        .timestamp_secs(1_700_000_000)
        .kind("type")
        .user_id("guest")
        .app_id("app")
        .cluster_id("cluster")
}

fn table(entries: impl IntoIterator<Item = (&'static str, Value)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), value);
    }
    table
}

/// A header of each type that `RabbitMQ` has, at the ends of its range.
fn every_type() -> FieldTable {
    let scalars = [
        ("false", Value::Boolean(false)),
        ("true", Value::Boolean(true)),
        ("i8 min", Value::ShortShortInt(i8::MIN)),
        ("i8 max", Value::ShortShortInt(i8::MAX)),
        ("u8", Value::ShortShortUInt(u8::MAX)),
        ("i16 min", Value::ShortInt(i16::MIN)),
        ("i16 max", Value::ShortInt(i16::MAX)),
        ("u16", Value::ShortUInt(u16::MAX)),
        ("i32 min", Value::LongInt(i32::MIN)),
        ("i32 max", Value::LongInt(i32::MAX)),
        ("u32", Value::LongUInt(u32::MAX)),
        ("i64 min", Value::LongLongInt(i64::MIN)),
        ("i64 max", Value::LongLongInt(i64::MAX)),
        ("f32", Value::Float(f32::MIN_POSITIVE)),
        ("f64", Value::Double(-std::f64::consts::E)),
        ("decimal", Value::DecimalValue(DecimalValue { scale: 2, value: 314 })),
        ("text", Value::LongString("ünïcode".into())),
        ("empty", Value::LongString("".into())),
        ("bytes", Value::ByteArray(vec![0, 255, 128].into())),
        ("time", Value::Timestamp(1_700_000_000)),
        ("void", Value::Void),
    ];
    let array: Vec<_> = scalars.iter().map(|(_, value)| value.clone()).collect();
    let mut all = table(scalars.clone());
    all.insert("table".into(), Value::FieldTable(table(scalars)));
    all.insert("array".into(), Value::FieldArray(array.into()));
    all.insert("no entries".into(), Value::FieldTable(FieldTable::default()));
    all.insert("no elements".into(), Value::FieldArray(FieldArray::default()));
    all
}

async fn all_fourteen_properties_arrive(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let message = complete();
    let p = message.properties();
    let set = [
        p.content_type().is_some(),
        p.content_encoding().is_some(),
        p.headers().is_some(),
        p.delivery_mode().is_some(),
        p.priority().is_some(),
        p.correlation_id().is_some(),
        p.reply_to().is_some(),
        p.expiration().is_some(),
        p.message_id().is_some(),
        p.timestamp().is_some(),
        p.kind().is_some(),
        p.user_id().is_some(),
        p.app_id().is_some(),
        p.cluster_id().is_some(),
    ];
    assert_eq!(set, [true; 14]);
    client.publish("", &queue, message.clone()).await.unwrap();
    client.publish("", &queue, message.clone()).await.unwrap();
    assert_eq!(get(&client, &queue).await.properties(), message.properties(), "by get");
    let consumer = client.consume(queue.as_str()).start().await.unwrap();
    let delivery = next(&consumer).await;
    assert_eq!(delivery.properties(), message.properties(), "by a consumer");
    assert_eq!(delivery.message_id(), Some("message ünïcode"));
    assert!(delivery.headers_error().is_none());
    let error = client.publish("", &env.unique("missing"), message.clone()).await.unwrap_err();
    assert_eq!(error.returned().unwrap().message.properties(), message.properties(), "by a return");
}

async fn absent_properties_stay_absent(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let bare = Message::new("x").with_properties(murano_messaging::Properties::default());
    client.publish("", &queue, bare.message_id("id")).await.unwrap();
    let delivery = get(&client, &queue).await;
    let expected = murano_messaging::Properties::default().with_message_id("id".into());
    assert_eq!(delivery.properties(), &expected);
}

async fn every_type_of_header_arrives(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    client.publish("", &queue, Message::new("x").headers(every_type())).await.unwrap();
    let delivery = get(&client, &queue).await;
    let arrived = delivery.properties().headers().clone().unwrap();
    for (key, value) in &every_type() {
        assert_eq!(arrived.inner().get(key.as_str()), Some(value), "{key:?}");
    }
    assert_eq!(arrived, every_type());
    // From Rust values.
    let made = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let message = Message::new("x").header("made", made).header("n", 5_u64).header("none", None::<bool>);
    client.publish("", &queue, message).await.unwrap();
    let delivery = get(&client, &queue).await;
    let expected = table([
        ("made", Value::Timestamp(1_700_000_000)),
        ("n", Value::LongLongInt(5)),
        ("none", Value::Void),
    ]);
    assert_eq!(delivery.properties().headers().as_ref(), Some(&expected));
}

async fn headers_survive_a_broker_that_adds_its_own(env: &Env) {
    let client = env.client().await;
    let dead = env.queue(&client).await;
    let queue = env
        .queue_with(&client, |queue| queue.dead_letter_exchange("").dead_letter_routing_key(dead.as_str()))
        .await;
    client.publish("", &queue, Message::new("x").headers(every_type())).await.unwrap();
    client.get_with_ack(&queue).await.unwrap().unwrap().reject().unwrap();
    until_ready(&client, &dead, 1).await;
    let letter = get(&client, &dead).await;
    let arrived = letter.properties().headers().clone().unwrap();
    assert!(arrived.contains_key("x-death"));
    for (key, value) in &every_type() {
        assert_eq!(arrived.inner().get(key.as_str()), Some(value), "{key:?}");
    }
}

async fn deep_and_large_tables_arrive(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let mut deep = Value::LongString("bottom".into());
    for level in 0..25 {
        deep = if level % 2 == 0 {
            Value::FieldTable(table([("down", deep)]))
        } else {
            Value::FieldArray(vec![deep].into())
        };
    }
    let wide: String = "w".repeat(50_000);
    let mut headers = table([("deep", deep), ("wide", Value::LongString(wide.into()))]);
    for number in numbers(0..500) {
        headers.insert(number.as_str().into(), Value::LongString(number.as_str().into()));
    }
    client.publish("", &queue, Message::new("x").headers(headers.clone())).await.unwrap();
    assert_eq!(get(&client, &queue).await.properties().headers().as_ref(), Some(&headers));
}

async fn every_message_has_an_id_of_its_own(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    send(&client, &queue, numbers(0..200)).await;
    client.publish("", &queue, Message::text("x").message_id("mine")).await.unwrap();
    let mut ids = BTreeSet::new();
    for _ in 0..200 {
        ids.insert(get(&client, &queue).await.message_id().expect("an id").to_owned());
    }
    assert_eq!(ids.len(), 200);
    assert_eq!(get(&client, &queue).await.message_id(), Some("mine"));
}

async fn a_foreign_user_id_is_refused(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let error = client.publish("", &queue, Message::text("x").user_id("somebody")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error}");
    assert_eq!(error.reply_code(), Some(406));
    client.publish("", &queue, Message::text("x").user_id("guest")).await.unwrap();
    assert_eq!(client.queue_info(&queue).await.unwrap().message_count, 1);
}

async fn json_arrives_as_the_value_it_was(env: &Env) {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Plan {
        id: u64,
        steps: Vec<String>,
    }
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let plan = Plan { id: u64::MAX, steps: vec!["ünïcode".into(), String::new()] };
    client.publish("", &queue, Message::json(&plan).unwrap()).await.unwrap();
    let delivery = get(&client, &queue).await;
    assert_eq!(delivery.json::<Plan>().unwrap(), plan);
    assert_eq!(delivery.properties().content_type().as_ref().unwrap().as_str(), "application/json");
    assert_eq!(delivery.json::<Vec<u8>>().unwrap_err().kind(), ErrorKind::Json);
    client.publish("", &queue, Message::text("not JSON")).await.unwrap();
    assert_eq!(get(&client, &queue).await.json::<Plan>().unwrap_err().kind(), ErrorKind::Json);
}
