//! Where expired, dropped and rejected messages go, and what `x-death` says about it.

use std::time::Duration;

use murano_messaging::{
    Binding, Client, Delivery, ErrorKind, Exchange, FieldTable, Message, Overflow, Queue, QueueType, Value,
};
use murano_testkit::eventually;

use crate::env::{Env, STEP, get, next, numbers, send, take_all, text, until_ready};

contract!(
    a_rejected_message_is_dead_lettered,
    an_expired_message_is_dead_lettered_without_its_expiration,
    a_dropped_message_is_dead_lettered,
    a_refused_publish_is_dead_lettered_and_nacked,
    a_quorum_queue_gives_up_after_its_delivery_limit,
    a_nack_counts_toward_the_delivery_limit_before_4_3,
    a_closed_connection_counts_toward_the_delivery_limit,
    deaths_are_counted_per_queue_and_reason,
    a_dead_letter_keeps_its_key_unless_the_queue_has_another,
    a_dead_letter_to_nowhere_is_dropped,
    a_requeued_message_is_not_dead,
);

/// A queue whose dead letters go to another, and that other.
async fn pair(env: &Env, client: &Client, properties: impl FnOnce(Queue) -> Queue) -> (String, String) {
    let dead = env.queue(client).await;
    let queue = env
        .queue_with(client, |queue| {
            properties(queue.dead_letter_exchange("").dead_letter_routing_key(dead.as_str()))
        })
        .await;
    (queue, dead)
}

fn string(value: &Value) -> String {
    String::from_utf8(value.as_long_string().expect("a long string").as_bytes().to_vec()).unwrap()
}

/// The entries of `x-death`, the latest first.
fn deaths(delivery: &Delivery) -> Vec<FieldTable> {
    let headers = delivery.properties().headers().clone().expect("a dead letter has headers");
    let Some(Value::FieldArray(array)) = headers.inner().get("x-death") else {
        panic!("no x-death in {headers:?}")
    };
    array
        .as_slice()
        .iter()
        .map(|entry| match entry {
            Value::FieldTable(table) => table.clone(),
            other => panic!("{other:?} in x-death"),
        })
        .collect()
}

/// What an entry of `x-death` says: the reason, the queue, how often.
fn death(entry: &FieldTable) -> (String, String, i64) {
    let field = |key: &str| entry.inner().get(key).unwrap_or_else(|| panic!("no {key} in {entry:?}"));
    (string(field("reason")), string(field("queue")), field("count").as_long_long_int().expect("a count"))
}

/// The message died once, in `queue`, of `reason`, and says all there is to say about it.
fn assert_died(delivery: &Delivery, reason: &str, queue: &str, key: &str) {
    let deaths = deaths(delivery);
    assert_eq!(deaths.len(), 1, "{deaths:?}");
    assert_eq!(death(&deaths[0]), (reason.to_owned(), queue.to_owned(), 1));
    let entry = deaths[0].inner();
    assert_eq!(string(&entry["exchange"]), "");
    assert!(matches!(entry["time"], Value::Timestamp(time) if time > 1_600_000_000), "{:?}", entry["time"]);
    let Value::FieldArray(keys) = &entry["routing-keys"] else { panic!("{:?}", entry["routing-keys"]) };
    assert_eq!(keys.as_slice().iter().map(string).collect::<Vec<_>>(), [key]);
    let headers = delivery.properties().headers().clone().unwrap();
    assert_eq!(string(&headers.inner()["x-first-death-reason"]), reason);
    assert_eq!(string(&headers.inner()["x-first-death-queue"]), queue);
    assert_eq!(string(&headers.inner()["x-first-death-exchange"]), "");
}

async fn a_rejected_message_is_dead_lettered(env: &Env) {
    let client = env.client().await;
    let (queue, dead) = pair(env, &client, |queue| queue).await;
    let message = Message::text("poison").correlation_id("kept").header("mine", 5);
    client.publish("", &queue, message).await.unwrap();
    let consumer = client.consume(queue.as_str()).start().await.unwrap();
    next(&consumer).await.reject().unwrap();
    until_ready(&client, &dead, 1).await;
    let letter = get(&client, &dead).await;
    assert_died(&letter, "rejected", &queue, &queue);
    assert_eq!((text(&letter).as_str(), letter.routing_key()), ("poison", dead.as_str()));
    assert!(!letter.redelivered());
    assert_eq!(letter.properties().correlation_id().as_ref().unwrap().as_str(), "kept");
    assert_eq!(letter.properties().headers().as_ref().unwrap().inner()["mine"], Value::LongInt(5));
}

async fn an_expired_message_is_dead_lettered_without_its_expiration(env: &Env) {
    let client = env.client().await;
    let (queue, dead) = pair(env, &client, |queue| queue).await;
    let message = Message::text("late").expiration(Duration::from_millis(50));
    client.publish("", &queue, message).await.unwrap();
    until_ready(&client, &dead, 1).await;
    let letter = get(&client, &dead).await;
    assert_died(&letter, "expired", &queue, &queue);
    assert_eq!(*letter.properties().expiration(), None, "or it would expire again");
    assert_eq!(string(&deaths(&letter)[0].inner()["original-expiration"]), "50");

    let (queue, dead) = pair(env, &client, |queue| queue.message_ttl(Duration::from_millis(50))).await;
    send(&client, &queue, ["late"]).await;
    until_ready(&client, &dead, 1).await;
    let letter = get(&client, &dead).await;
    assert_died(&letter, "expired", &queue, &queue);
    assert!(!deaths(&letter)[0].contains_key("original-expiration"));
}

async fn a_dropped_message_is_dead_lettered(env: &Env) {
    let client = env.client().await;
    let (queue, dead) = pair(env, &client, |queue| queue.max_length(2)).await;
    send(&client, &queue, numbers(0..5)).await;
    until_ready(&client, &dead, 3).await;
    for expected in ["0", "1", "2"] {
        let letter = get(&client, &dead).await;
        assert_died(&letter, "maxlen", &queue, &queue);
        assert_eq!(text(&letter), expected);
    }
    assert_eq!(take_all(&client, &queue).await, numbers(3..5));
}

async fn a_refused_publish_is_dead_lettered_and_nacked(env: &Env) {
    let client = env.client().await;
    let properties = |queue: Queue| queue.max_length(1).overflow(Overflow::RejectPublishDlx);
    let (queue, dead) = pair(env, &client, properties).await;
    send(&client, &queue, ["fits"]).await;
    let error = client.publish("", &queue, Message::text("does not")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Nacked, "{error}");
    until_ready(&client, &dead, 1).await;
    let letter = get(&client, &dead).await;
    assert_died(&letter, "maxlen", &queue, &queue);
    assert_eq!(text(&letter), "does not");
}

async fn a_quorum_queue_gives_up_after_its_delivery_limit(env: &Env) {
    let client = env.client().await;
    let properties = |queue: Queue| queue.queue_type(QueueType::Quorum).delivery_limit(2);
    let (queue, dead) = pair(env, &client, properties).await;
    send(&client, &queue, ["poison"]).await;
    let consumer = client.consume(queue.as_str()).start().await.unwrap();
    for attempt in 0..3 {
        let delivery = next(&consumer).await;
        assert_eq!(delivery.redelivered(), attempt > 0);
        let headers = delivery.properties().headers().clone().unwrap_or_default();
        let count = headers.inner().get("x-delivery-count").and_then(Value::as_long_long_int);
        assert_eq!(count.unwrap_or(0), attempt, "{headers:?}");
        delivery.requeue().unwrap();
    }
    until_ready(&client, &dead, 1).await;
    assert_died(&get(&client, &dead).await, "delivery_limit", &queue, &queue);
    assert_eq!(client.queue_info(&queue).await.unwrap().message_count, 0);
}

/// Since 4.3, only a delivery that failed (`requeue`) counts, and one that was given back (`nack`) does not.
async fn a_nack_counts_toward_the_delivery_limit_before_4_3(env: &Env) {
    let client = env.client().await;
    let properties = |queue: Queue| queue.queue_type(QueueType::Quorum).delivery_limit(2);
    let (queue, dead) = pair(env, &client, properties).await;
    send(&client, &queue, ["given back"]).await;
    let consumer = client.consume(queue.as_str()).start().await.unwrap();
    for _ in 0..3 {
        next(&consumer).await.nack(true).unwrap();
    }
    if env.since(4, 3) {
        next(&consumer).await.ack().unwrap();
    } else {
        until_ready(&client, &dead, 1).await;
    }
}

/// Whatever is unacked when its connection is closed has failed once.
async fn a_closed_connection_counts_toward_the_delivery_limit(env: &Env) {
    let client = env.client().await;
    let properties = |queue: Queue| queue.queue_type(QueueType::Quorum).delivery_limit(2);
    let (queue, dead) = pair(env, &client, properties).await;
    send(&client, &queue, ["prefetched"]).await;
    for _ in 0..3 {
        let other = env.client().await;
        let consumer = other.consume(queue.as_str()).start().await.unwrap();
        let _held = next(&consumer).await;
        // With a delivery in hand, closing gives nothing back: the broker does when the connection is gone.
        other.close().await.unwrap();
    }
    until_ready(&client, &dead, 1).await;
}

async fn deaths_are_counted_per_queue_and_reason(env: &Env) {
    let client = env.client().await;
    // A circle with a pause: rejected work comes back after a while.
    let (work, pause) = (env.unique("work"), env.unique("pause"));
    let queue = Queue::new(work.as_str()).dead_letter_exchange("").dead_letter_routing_key(pause.as_str());
    client.declare_queue(&queue).await.unwrap();
    let queue = Queue::new(pause.as_str())
        .dead_letter_exchange("")
        .dead_letter_routing_key(work.as_str())
        .message_ttl(Duration::from_millis(20));
    client.declare_queue(&queue).await.unwrap();
    send(&client, &work, ["again"]).await;
    let consumer = client.consume(work.as_str()).prefetch(1).start().await.unwrap();
    for round in 0..3 {
        let delivery = next(&consumer).await;
        if round > 0 {
            let deaths: Vec<_> = deaths(&delivery).iter().map(death).collect();
            let expected =
                [("expired".to_owned(), pause.clone(), round), ("rejected".to_owned(), work.clone(), round)];
            assert_eq!(deaths, expected);
            let headers = delivery.properties().headers().clone().unwrap();
            assert_eq!(string(&headers.inner()["x-first-death-queue"]), work);
        }
        delivery.reject().unwrap();
    }
    assert_eq!(text(&next(&consumer).await), "again");
}

async fn a_dead_letter_keeps_its_key_unless_the_queue_has_another(env: &Env) {
    let client = env.client().await;
    let exchange = env.unique("dlx");
    client.declare_exchange(&Exchange::topic(exchange.as_str())).await.unwrap();
    let dead = env.queue(&client).await;
    client.bind(&Binding::queue(dead.as_str(), exchange.as_str()).routing_key("#")).await.unwrap();
    let queue = env.queue_with(&client, |queue| queue.dead_letter_exchange(exchange.as_str())).await;
    client.bind(&Binding::queue(queue.as_str(), "amq.direct").routing_key(queue.as_str())).await.unwrap();
    client.publish("amq.direct", &queue, Message::text("x")).await.unwrap();
    client.get_with_ack(&queue).await.unwrap().unwrap().reject().unwrap();
    until_ready(&client, &dead, 1).await;
    let letter = get(&client, &dead).await;
    assert_eq!((letter.exchange(), letter.routing_key()), (exchange.as_str(), queue.as_str()));
    assert_eq!(string(&deaths(&letter)[0].inner()["exchange"]), "amq.direct");
}

async fn a_dead_letter_to_nowhere_is_dropped(env: &Env) {
    let client = env.client().await;
    let nowhere = env.unique("later");
    let queue = env.queue_with(&client, |queue| queue.dead_letter_exchange(nowhere.as_str())).await;
    send(&client, &queue, ["lost", "kept"]).await;
    client.get_with_ack(&queue).await.unwrap().unwrap().reject().unwrap();
    // It need not have been there when the queue was declared.
    client.declare_exchange(&Exchange::fanout(nowhere.as_str())).await.unwrap();
    let dead = env.queue(&client).await;
    client.bind(&Binding::queue(dead.as_str(), nowhere.as_str())).await.unwrap();
    client.get_with_ack(&queue).await.unwrap().unwrap().reject().unwrap();
    until_ready(&client, &dead, 1).await;
    assert_eq!(text(&get(&client, &dead).await), "kept");
}

async fn a_requeued_message_is_not_dead(env: &Env) {
    let client = env.client().await;
    let (queue, dead) = pair(env, &client, |queue| queue).await;
    send(&client, &queue, ["again"]).await;
    let consumer = client.consume(queue.as_str()).prefetch(1).start().await.unwrap();
    for attempt in 0..5 {
        let delivery = next(&consumer).await;
        assert_eq!(delivery.redelivered(), attempt > 0);
        assert!(
            delivery.properties().headers().as_ref().is_none_or(|headers| !headers.contains_key("x-death"))
        );
        delivery.requeue().unwrap();
    }
    // Dropping what is in hand puts it back as well.
    let held = next(&consumer).await;
    consumer.cancel().await.unwrap();
    drop(held);
    drop(consumer);
    eventually("it is back", STEP, || async { client.queue_info(&queue).await.unwrap().message_count == 1 })
        .await;
    assert_eq!(client.queue_info(&dead).await.unwrap().message_count, 0);
}
