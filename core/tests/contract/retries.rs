//! `Client::retry`: delayed redelivery over a queue with a TTL.

use std::time::{Duration, Instant};

use murano_messaging::{ErrorKind, Message, Retry, Value};

use crate::env::{Env, get, next, send, text, until_ready};

contract!(
    a_retried_message_comes_back_after_its_delay,
    the_last_retry_rejects_the_message,
    a_retry_of_a_get_names_its_queue,
    what_would_send_a_copy_elsewhere_is_not_copied,
);

const DELAY: Duration = Duration::from_millis(300);

fn retries(delivery: &murano_messaging::Delivery) -> Option<i64> {
    match delivery.properties().headers().as_ref()?.inner().get("x-retries")? {
        Value::LongLongInt(count) => Some(*count),
        other => panic!("{other:?}"),
    }
}

async fn a_retried_message_comes_back_after_its_delay(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let message = Message::text("again").message_id("7").header("kept", 1).kind("plan");
    client.publish("", &queue, message).await.unwrap();
    let deliveries = client.consume(queue.as_str()).start().await.unwrap();
    let mut delivery = next(&deliveries).await;
    for count in 1..4 {
        let began = Instant::now();
        assert!(client.retry(&delivery, &Retry::after(DELAY)).await.unwrap());
        let error = delivery.ack().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadySettled, "{error}");
        delivery = next(&deliveries).await;
        assert!(began.elapsed() >= DELAY);
        assert_eq!((text(&delivery).as_str(), delivery.message_id()), ("again", Some("7")));
        assert_eq!(retries(&delivery), Some(count));
        let properties = delivery.properties();
        assert_eq!(properties.kind().as_ref().unwrap().as_str(), "plan");
        assert!(properties.headers().as_ref().unwrap().inner().contains_key("kept"));
    }
    delivery.ack().unwrap();
    client.delete_queue(&format!("{queue}.retry.300")).await.unwrap();
}

async fn the_last_retry_rejects_the_message(env: &Env) {
    let client = env.client().await;
    let dead = env.queue(&client).await;
    let queue = env
        .queue_with(&client, |queue| queue.dead_letter_exchange("").dead_letter_routing_key(dead.as_str()))
        .await;
    send(&client, &queue, ["poison"]).await;
    let deliveries = client.consume(queue.as_str()).start().await.unwrap();
    let retry = Retry::after(Duration::from_millis(20)).limit(2);
    for _ in 0..2 {
        assert!(client.retry(&next(&deliveries).await, &retry).await.unwrap());
    }
    assert!(!client.retry(&next(&deliveries).await, &retry).await.unwrap());
    until_ready(&client, &dead, 1).await;
    let rejected = get(&client, &dead).await;
    assert_eq!((text(&rejected).as_str(), retries(&rejected)), ("poison", Some(2)));
    client.delete_queue(&format!("{queue}.retry.20")).await.unwrap();
}

async fn a_retry_of_a_get_names_its_queue(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    send(&client, &queue, ["got"]).await;
    let delivery = client.get_with_ack(&queue).await.unwrap().unwrap();
    let retry = Retry::after(Duration::from_millis(20));
    let error = client.retry(&delivery, &retry).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(client.retry(&delivery, &retry.queue(queue.as_str())).await.unwrap());
    until_ready(&client, &queue, 1).await;
    let unsettled = client.get_no_ack(&queue).await.unwrap().unwrap();
    let error = client.retry(&unsettled, &Retry::after(DELAY).queue(queue.as_str())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    client.delete_queue(&format!("{queue}.retry.20")).await.unwrap();
}

async fn what_would_send_a_copy_elsewhere_is_not_copied(env: &Env) {
    let client = env.client().await;
    let (queue, other) = (env.queue(&client).await, env.queue(&client).await);
    let copies = Value::FieldArray(vec![Value::LongString(other.as_str().into())].into());
    let message =
        Message::text("x").header("CC", copies).user_id("guest").expiration(Duration::from_secs(60));
    client.publish("", &queue, message).await.unwrap();
    until_ready(&client, &other, 1).await;
    let deliveries = client.consume(queue.as_str()).start().await.unwrap();
    assert!(client.retry(&next(&deliveries).await, &Retry::after(Duration::from_millis(20))).await.unwrap());
    let again = next(&deliveries).await;
    again.ack().unwrap();
    assert!(again.properties().user_id().is_none() && again.properties().expiration().is_none());
    assert_eq!(client.queue_info(&other).await.unwrap().message_count, 1);
    client.delete_queue(&format!("{queue}.retry.20")).await.unwrap();
}
