//! Queues that go by themselves, messages that expire, queues that are full, priorities.

use std::time::{Duration, Instant};

use murano_messaging::{ErrorKind, Message, Overflow, Queue, QueueType};
use murano_testkit::eventually;

use crate::env::{Env, STEP, exists, next, numbers, send, take_all, text, until_gone, until_ready};

contract!(
    an_unused_queue_expires,
    a_consumed_queue_does_not_expire,
    an_auto_delete_queue_goes_with_its_last_consumer,
    messages_expire_by_the_queues_ttl,
    a_message_expires_by_its_own_ttl,
    a_ttl_of_zero_keeps_only_what_a_consumer_is_ready_for,
    a_full_queue_drops_its_head,
    a_full_queue_nacks_the_publish,
    a_queue_is_full_by_bytes,
    higher_priorities_come_first,
    a_quorum_queue_bounds_its_length,
    what_a_queue_type_has_not_got_is_refused_locally,
);

const SHORT: Duration = Duration::from_millis(300);

async fn an_unused_queue_expires(env: &Env) {
    let client = env.client().await;
    let start = Instant::now();
    let queue = env.queue_with(&client, |queue| queue.expires(SHORT)).await;
    assert!(exists(&client, &queue).await);
    // Publishing does not renew it, and `until_gone` publishes.
    until_gone(&client, &queue).await;
    assert!(start.elapsed() >= SHORT);
    assert_eq!(client.queue_info(&queue).await.unwrap_err().kind(), ErrorKind::NotFound);
}

async fn a_consumed_queue_does_not_expire(env: &Env) {
    let client = env.client().await;
    let queue = env.queue_with(&client, |queue| queue.expires(SHORT)).await;
    let consumer = client.consume(queue.as_str()).start().await.unwrap();
    // Three others that live one after the other: by then it had the time to expire three times.
    for _ in 0..3 {
        let unused = env.queue_with(&client, |queue| queue.expires(SHORT)).await;
        until_gone(&client, &unused).await;
    }
    assert!(exists(&client, &queue).await);
    next(&consumer).await.ack().unwrap();
    consumer.cancel().await.unwrap();
    until_gone(&client, &queue).await;
}

async fn an_auto_delete_queue_goes_with_its_last_consumer(env: &Env) {
    let client = env.client().await;
    let queue = env.queue_with(&client, |queue| queue.auto_delete(true)).await;
    assert!(exists(&client, &queue).await, "not before it had one");
    let first = client.consume(queue.as_str()).start().await.unwrap();
    let second = client.consume(queue.as_str()).start().await.unwrap();
    first.cancel().await.unwrap();
    assert!(exists(&client, &queue).await);
    second.cancel().await.unwrap();
    until_gone(&client, &queue).await;
}

async fn messages_expire_by_the_queues_ttl(env: &Env) {
    let client = env.client().await;
    let queue = env.queue_with(&client, |queue| queue.message_ttl(SHORT)).await;
    let start = Instant::now();
    send(&client, &queue, numbers(0..10)).await;
    until_ready(&client, &queue, 0).await;
    assert!(start.elapsed() >= SHORT);
    assert!(client.get_no_ack(&queue).await.unwrap().is_none());
    // What is delivered in time stays with its consumer.
    let consumer = client.consume(queue.as_str()).start().await.unwrap();
    send(&client, &queue, ["in time"]).await;
    let held = next(&consumer).await;
    assert_eq!(text(&held), "in time");
    held.ack().unwrap();
}

async fn a_message_expires_by_its_own_ttl(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let start = Instant::now();
    client.publish("", &queue, Message::text("short").expiration(SHORT)).await.unwrap();
    client.publish("", &queue, Message::text("long").expiration(STEP * 10)).await.unwrap();
    client.publish("", &queue, Message::text("for ever")).await.unwrap();
    until_ready(&client, &queue, 2).await;
    assert!(start.elapsed() >= SHORT);
    let delivery = client.get_no_ack(&queue).await.unwrap().unwrap();
    assert_eq!(text(&delivery), "long");
    let expected = (STEP * 10).as_millis().to_string();
    assert_eq!(delivery.properties().expiration().as_ref().unwrap().as_str(), expected);
    // The shorter of the two counts.
    let queue = env.queue_with(&client, |queue| queue.message_ttl(SHORT)).await;
    client.publish("", &queue, Message::text("x").expiration(STEP * 10)).await.unwrap();
    until_ready(&client, &queue, 0).await;
}

async fn a_ttl_of_zero_keeps_only_what_a_consumer_is_ready_for(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    client.publish("", &queue, Message::text("nobody").expiration(Duration::ZERO)).await.unwrap();
    assert!(client.get_no_ack(&queue).await.unwrap().is_none());
    let consumer = client.consume(queue.as_str()).prefetch(1).start().await.unwrap();
    client.publish("", &queue, Message::text("taken").expiration(Duration::ZERO)).await.unwrap();
    let held = next(&consumer).await;
    assert_eq!(text(&held), "taken");
    client.publish("", &queue, Message::text("busy").expiration(Duration::ZERO)).await.unwrap();
    send(&client, &queue, ["after"]).await;
    held.ack().unwrap();
    assert_eq!(text(&next(&consumer).await), "after");
}

async fn a_full_queue_drops_its_head(env: &Env) {
    let client = env.client().await;
    let queue = env.queue_with(&client, |queue| queue.max_length(3)).await;
    send(&client, &queue, numbers(0..10)).await;
    assert_eq!(client.queue_info(&queue).await.unwrap().message_count, 3);
    assert_eq!(take_all(&client, &queue).await, numbers(7..10));
    // Unacked deliveries do not count.
    send(&client, &queue, numbers(0..3)).await;
    let held = client.get_with_ack(&queue).await.unwrap().unwrap();
    send(&client, &queue, numbers(3..4)).await;
    assert_eq!(take_all(&client, &queue).await, numbers(1..4));
    held.ack().unwrap();
}

async fn a_full_queue_nacks_the_publish(env: &Env) {
    let client = env.client().await;
    let queue = env.queue_with(&client, |queue| queue.max_length(3).overflow(Overflow::RejectPublish)).await;
    let publisher = client.publisher("", queue.as_str());
    let mut outcomes = Vec::new();
    for number in numbers(0..50) {
        outcomes.push((number.clone(), publisher.publish_deferred(Message::text(number)).await.unwrap()));
    }
    let mut taken = Vec::new();
    for (number, confirmation) in outcomes {
        match confirmation.await {
            Ok(()) => taken.push(number),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Nacked, "{error}"),
        }
    }
    assert_eq!(taken, numbers(0..3));
    let stats = client.stats();
    assert_eq!((stats.confirmed, stats.nacked), (3, 47));
    // Each publish has its own answer, also when another queue takes others.
    let other = env.queue(&client).await;
    send(&client, &other, ["x"]).await;
    assert_eq!(take_all(&client, &queue).await, taken);
    send(&client, &queue, ["room again"]).await;
    assert_eq!(take_all(&client, &queue).await, ["room again"]);
}

async fn a_queue_is_full_by_bytes(env: &Env) {
    let client = env.client().await;
    let queue = env.queue_with(&client, |queue| queue.max_length_bytes(1000)).await;
    for (number, size) in [400, 400, 400, 900, 200].into_iter().enumerate() {
        client.publish("", &queue, Message::new(vec![number as u8; size])).await.unwrap();
    }
    // 900 and 200 are more than 1000 together.
    let left = client.get_no_ack(&queue).await.unwrap().unwrap();
    assert_eq!(left.body().as_ref(), [4; 200]);
    assert!(client.get_no_ack(&queue).await.unwrap().is_none());
}

async fn higher_priorities_come_first(env: &Env) {
    let client = env.client().await;
    let queue = env.queue_with(&client, |queue| queue.max_priority(5)).await;
    let priorities = [None, Some(1), Some(5), Some(3), Some(200), Some(1), Some(0), Some(3)];
    for (number, priority) in priorities.into_iter().enumerate() {
        let message = Message::text(number.to_string());
        let message = match priority {
            Some(priority) => message.priority(priority),
            None => message,
        };
        client.publish("", &queue, message).await.unwrap();
    }
    // Above the queue's highest is the highest; none is 0; within one priority the order of arrival.
    assert_eq!(take_all(&client, &queue).await, ["2", "4", "3", "7", "1", "5", "0", "6"]);
}

async fn a_quorum_queue_bounds_its_length(env: &Env) {
    let client = env.client().await;
    let queue = env.queue_with(&client, |queue| queue.queue_type(QueueType::Quorum).max_length(3)).await;
    send(&client, &queue, numbers(0..10)).await;
    until_ready(&client, &queue, 3).await;
    assert_eq!(take_all(&client, &queue).await, numbers(7..10));
    // Past the bound a quorum queue refuses only after it has told the channel so: some more may get in.
    let queue = env
        .queue_with(&client, |queue| {
            queue.queue_type(QueueType::Quorum).max_length(3).overflow(Overflow::RejectPublish)
        })
        .await;
    let mut taken = 0;
    eventually("a publish is nacked", STEP, || {
        let message = client.publish("", &queue, Message::text("x"));
        taken += 1;
        async { message.await.is_err_and(|error| error.kind() == ErrorKind::Nacked) }
    })
    .await;
    assert!(taken > 3, "nacked at message {taken}");
}

async fn what_a_queue_type_has_not_got_is_refused_locally(env: &Env) {
    let client = env.client().await;
    let queue = |kind| Queue::new(env.unique("q")).queue_type(kind);
    for (refused, reason) in [
        (queue(QueueType::Stream).expires(SHORT), "x-expires"),
        (queue(QueueType::Quorum).max_priority(3), "x-max-priority"),
        (queue(QueueType::Quorum).durable(false), "durable"),
        (queue(QueueType::Quorum).exclusive(true), "exclusive"),
        (queue(QueueType::Classic).delivery_limit(3), "x-delivery-limit"),
        (queue(QueueType::Classic).max_age(SHORT), "x-max-age"),
        (queue(QueueType::Classic).expires(Duration::ZERO), "x-expires"),
    ] {
        let error = client.declare_queue(&refused).await.unwrap_err();
        assert_eq!((error.kind(), error.reply_code()), (ErrorKind::InvalidArgument, None), "{error}");
        assert!(error.to_string().contains(reason), "{error} has no {reason}");
    }
    assert_eq!(client.stats().recorded, 0);
}
