//! Stream queues: read from an offset, read again, and with another prefetch from the next offset on.

use std::time::{Duration, SystemTime};

use murano_messaging::{Client, Consumer, Delivery, ErrorKind, IntoValue, Queue, QueueType, Value};
use murano_testkit::{eventually, within};

use crate::{
    env::{Env, STEP, next, next_text, numbers, send, text},
    prefetch::{changed_and_cancelled_at_the_same_time, changed_at_the_same_time},
};

rabbitmq_only!(
    a_stream_is_read_from_where_one_asks,
    a_stream_is_read_again_and_by_many,
    a_changed_prefetch_goes_on_at_the_next_offset,
    a_streams_changes_at_the_same_time,
    a_streams_change_and_cancel_at_the_same_time,
    a_stream_takes_nothing_back,
    a_stream_needs_a_prefetch,
    a_stream_is_bounded_by_age_and_bytes,
);

async fn stream(env: &Env, client: &Client) -> String {
    env.queue_with(client, |queue| queue.queue_type(QueueType::Stream)).await
}

fn offset(delivery: &Delivery) -> i64 {
    let headers = delivery.properties().headers().clone().unwrap();
    headers.inner().get("x-stream-offset").and_then(Value::as_long_long_int).unwrap()
}

async fn from(client: &Client, queue: &str, offset: impl IntoValue) -> Consumer {
    client.consume(queue).prefetch(10).stream_offset(offset).start().await.unwrap()
}

/// The next deliveries are those at these offsets, each with its offset as text.
async fn assert_reads(consumer: &Consumer, offsets: std::ops::Range<u32>) {
    for number in offsets {
        let delivery = next(consumer).await;
        assert_eq!((offset(&delivery), text(&delivery)), (i64::from(number), number.to_string()));
        delivery.ack().unwrap();
    }
}

async fn a_stream_is_read_from_where_one_asks(env: &Env) {
    let client = env.client().await;
    let queue = stream(env, &client).await;
    send(&client, &queue, numbers(0..50)).await;
    assert_reads(&from(&client, &queue, "first").await, 0..50).await;
    // An offset may lie in the middle of a chunk, whose beginning RabbitMQ 3.10 sends too or not.
    let middle = from(&client, &queue, 20).await;
    let first = next(&middle).await;
    assert!(offset(&first) <= 20);
    first.ack().unwrap();
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    assert_reads(&from(&client, &queue, hour_ago).await, 0..50).await;
    assert_reads(&from(&client, &queue, "1h").await, 0..50).await;
    let coming = from(&client, &queue, "next").await;
    send(&client, &queue, numbers(50..60)).await;
    assert_reads(&coming, 50..60).await;
}

async fn a_stream_is_read_again_and_by_many(env: &Env) {
    let client = env.client().await;
    let queue = stream(env, &client).await;
    send(&client, &queue, numbers(0..30)).await;
    let (one, two) = (from(&client, &queue, "first").await, from(&client, &queue, "first").await);
    assert_reads(&one, 0..30).await;
    assert_reads(&two, 0..30).await;
    one.cancel().await.unwrap();
    assert_reads(&from(&client, &queue, "first").await, 0..30).await;
}

async fn a_changed_prefetch_goes_on_at_the_next_offset(env: &Env) {
    let client = env.client().await;
    let queue = stream(env, &client).await;
    send(&client, &queue, numbers(0..500)).await;
    let consumer = client.consume(queue.as_str()).prefetch(5).stream_offset("first").start().await.unwrap();
    let mut at = 0;
    for prefetch in [20, 1, 50, 3, 100] {
        assert_reads(&consumer, at..at + 80).await;
        at += 80;
        consumer.set_prefetch(prefetch).await.unwrap();
    }
    assert_reads(&consumer, at..500).await;
    send(&client, &queue, numbers(500..510)).await;
    assert_reads(&consumer, 500..510).await;
}

async fn a_streams_changes_at_the_same_time(env: &Env) {
    changed_at_the_same_time(env, QueueType::Stream, false).await;
}

async fn a_streams_change_and_cancel_at_the_same_time(env: &Env) {
    changed_and_cancelled_at_the_same_time(env, QueueType::Stream, false).await;
}

async fn a_stream_takes_nothing_back(env: &Env) {
    let client = env.client().await;
    let queue = stream(env, &client).await;
    send(&client, &queue, numbers(0..50)).await;
    let consumer = from(&client, &queue, "first").await;
    assert_reads(&consumer, 0..3).await;
    let held = next(&consumer).await;
    for refused in [held.nack(true), held.nack(false), held.reject(), held.requeue()] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    let recovered = within("recovering", STEP, consumer.recover(true)).await;
    assert_eq!(recovered.unwrap_err().kind(), ErrorKind::InvalidArgument);
    held.ack().unwrap();
    assert_reads(&consumer, 4..20).await;
    // Some were not handed out.
    eventually("more arrive", STEP, || async { consumer.undelivered() > 0 }).await;
    within("the cancel", STEP, consumer.cancel()).await.unwrap();
    // One that is too large is passed over, if that is asked for.
    let options = env.options().max_body_size(1_000).discard_oversize(true);
    let other = within("connecting", STEP, options.connect()).await.unwrap();
    send(&client, &queue, ["x".repeat(2_000), "50".to_owned()]).await;
    let rest = from(&other, &queue, "first").await;
    assert_reads(&rest, 0..50).await;
    assert_eq!(next_text(&rest).await, "50");
    // What would end the connection is answered before this.
    other.queue_info(&queue).await.unwrap();
    client.queue_info(&queue).await.unwrap();
    assert_eq!((client.stats().reconnects, other.stats().reconnects), (0, 0));
}

async fn a_stream_needs_a_prefetch(env: &Env) {
    let client = env.client().await;
    let queue = stream(env, &client).await;
    for consume in [client.consume(queue.as_str()).stream_offset("first"), client.consume(queue.as_str())] {
        let error = consume.prefetch(0).start().await.unwrap_err();
        assert_eq!((error.kind(), error.reply_code()), (ErrorKind::InvalidArgument, None), "{error}");
    }
    let consumer = from(&client, &queue, "first").await;
    assert_eq!(consumer.set_prefetch(0).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    send(&client, &queue, ["0"]).await;
    assert_reads(&consumer, 0..1).await;
    let error = client.get_with_ack(&queue).await.unwrap_err();
    assert_eq!(error.reply_code(), Some(540), "a stream cannot be got from: {error}");
}

async fn a_stream_is_bounded_by_age_and_bytes(env: &Env) {
    let client = env.client().await;
    let queue = Queue::new(env.unique("q"))
        .queue_type(QueueType::Stream)
        .max_age(Duration::from_secs(3600))
        .max_length_bytes(1_000_000);
    let name = client.declare_queue(&queue).await.unwrap().name;
    assert_eq!(client.declare_queue(&queue).await.unwrap().name, name);
    let other = Queue::new(name.as_str()).queue_type(QueueType::Stream).max_age(Duration::from_secs(60));
    let error = client.declare_queue(&other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error}");
}
