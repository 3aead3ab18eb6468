//! How consumers end: cancelled by their owner, by the broker, by a drain; and what becomes of what they had.

use std::{
    future::{Future, poll_fn},
    task::Poll,
    time::{Duration, Instant},
};

use murano_messaging::{Consumer, ErrorKind, Event, Queue, QueueType};
use murano_testkit::{eventually, within};

use crate::env::{Env, STEP, next, next_text, next_texts, numbers, send, take_all, text, until_ready};

contract!(
    a_cancel_loses_nothing,
    a_cancel_among_deliveries_loses_nothing,
    a_dropped_consumer_is_cancelled,
    a_cancelled_consumer_without_acks_hands_out_what_came,
    what_was_handed_out_outlives_its_consumer,
    a_deleted_queue_ends_its_consumers,
    a_resuming_consumer_goes_on_when_its_queue_is_back,
    a_drain_waits_for_what_is_in_work,
    a_drain_gives_up_at_its_deadline,
);

async fn assert_over(consumer: &Consumer) {
    assert!(within("the end", STEP, consumer.next()).await.is_none());
    assert!(consumer.next().await.is_none(), "and it stays over");
}

async fn a_cancel_loses_nothing(env: &Env) {
    let client = env.client().await;
    for kind in [QueueType::Classic, QueueType::Quorum] {
        let queue = env.queue_with(&client, |queue| queue.queue_type(kind)).await;
        send(&client, &queue, numbers(0..100)).await;
        let consumer = client.consume(queue.as_str()).prefetch(50).start().await.unwrap();
        let mut held = Vec::new();
        for _ in 0..10 {
            held.push(next(&consumer).await);
        }
        until_ready(&client, &queue, 50).await;
        within("a cancel", STEP, consumer.cancel()).await.unwrap();
        assert_over(&consumer).await;
        consumer.cancel().await.unwrap();
        // What was never handed out is back; what was is ours to settle.
        until_ready(&client, &queue, 90).await;
        if kind == QueueType::Classic {
            // A quorum queue counts a consumer until its last delivery is settled.
            assert_eq!(client.queue_info(&queue).await.unwrap().consumer_count, 0);
        }
        for delivery in &held[..5] {
            delivery.ack().unwrap();
        }
        held[5].reject().unwrap();
        held[6].requeue().unwrap();
        until_ready(&client, &queue, 91).await;
        drop(held);
        drop(consumer);
        until_ready(&client, &queue, 94).await;
        let mut left: Vec<u32> =
            take_all(&client, &queue).await.iter().map(|text| text.parse().unwrap()).collect();
        if kind == QueueType::Classic {
            assert!(left.is_sorted(), "{left:?}");
        }
        left.sort_unstable();
        assert_eq!(left, (6..100).collect::<Vec<_>>());
    }
}

async fn a_cancel_among_deliveries_loses_nothing(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let publishing = async { send(&client, &queue, numbers(0..2_000)).await };
    let consuming = async {
        let mut acked = Vec::new();
        for round in 0..40 {
            let consumer = client.consume(queue.as_str()).prefetch(30).start().await.unwrap();
            for _ in 0..round {
                let delivery = next(&consumer).await;
                acked.push(text(&delivery));
                delivery.ack().unwrap();
            }
            consumer.cancel().await.unwrap();
        }
        acked
    };
    let ((), mut seen) = tokio::join!(publishing, consuming);
    until_ready(&client, &queue, 2_000 - seen.len() as u32).await;
    seen.extend(take_all(&client, &queue).await);
    let mut seen: Vec<u32> = seen.iter().map(|text| text.parse().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..2_000).collect::<Vec<_>>(), "each exactly once");
}

async fn a_dropped_consumer_is_cancelled(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let consumer = client.consume(queue.as_str()).exclusive(true).start().await.unwrap();
    send(&client, &queue, numbers(0..10)).await;
    assert_eq!(next_text(&consumer).await, "0");
    drop(consumer);
    until_ready(&client, &queue, 9).await;
    // Giving up the wait for the start is dropping it, too.
    let mut starting = Box::pin(client.consume(queue.as_str()).start());
    poll_fn(|cx| {
        // It may even have started.
        let _ = starting.as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;
    drop(starting);
    eventually("nobody consumes", STEP, || async {
        client.queue_info(&queue).await.unwrap().consumer_count == 0
    })
    .await;
    until_ready(&client, &queue, 9).await;
}

async fn a_cancelled_consumer_without_acks_hands_out_what_came(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    send(&client, &queue, numbers(0..50)).await;
    let consumer = client.consume(queue.as_str()).no_ack(true).start().await.unwrap();
    until_ready(&client, &queue, 0).await;
    consumer.cancel().await.unwrap();
    for number in numbers(0..50) {
        assert_eq!(text(&next(&consumer).await), number);
    }
    assert_over(&consumer).await;
}

async fn what_was_handed_out_outlives_its_consumer(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    send(&client, &queue, numbers(0..3)).await;
    let consumer = client.consume(queue.as_str()).prefetch(3).start().await.unwrap();
    let (acked, requeued, dropped) = (next(&consumer).await, next(&consumer).await, next(&consumer).await);
    drop(consumer);
    // Others come and go meanwhile.
    client.consume(queue.as_str()).start().await.unwrap().cancel().await.unwrap();
    assert!(!acked.is_stale());
    acked.ack().unwrap();
    requeued.requeue().unwrap();
    until_ready(&client, &queue, 1).await;
    drop((acked, requeued, dropped));
    until_ready(&client, &queue, 2).await;
    assert_eq!(take_all(&client, &queue).await, numbers(1..3));
}

async fn a_deleted_queue_ends_its_consumers(env: &Env) {
    let (client, other) = (env.client().await, env.client().await);
    for kind in [QueueType::Classic, QueueType::Quorum] {
        let queue = env.queue_with(&client, |queue| queue.queue_type(kind)).await;
        send(&client, &queue, numbers(0..3)).await;
        let mut events = client.events();
        let first = client.consume(queue.as_str()).prefetch(2).start().await.unwrap();
        let second = client.consume(queue.as_str()).start().await.unwrap();
        assert_eq!(next_text(&second).await, "2");
        let held = next(&first).await;
        other.delete_queue(&queue).await.unwrap();
        // What had come is handed out first.
        assert_eq!(text(&next(&first).await), "1");
        for consumer in [&first, &second] {
            let error = within("the end", STEP, consumer.next()).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConsumerCancelled, "{error}");
            assert!(error.to_string().contains(&queue), "{error}");
            assert_over(consumer).await;
        }
        // Nothing to ack any more, and no harm in it.
        held.ack().unwrap();
        for _ in 0..2 {
            let told = within("the event", STEP, events.next()).await.unwrap();
            assert!(
                matches!(&told, Event::ConsumerCancelled { queue: of, resumes: false, .. } if *of == queue),
                "{told:?}"
            );
        }
        first.cancel().await.unwrap();
        assert_eq!(first.set_prefetch(5).await.unwrap_err().kind(), ErrorKind::ConsumerCancelled);
    }
    assert_eq!(client.stats().reconnects, 0);
}

async fn a_resuming_consumer_goes_on_when_its_queue_is_back(env: &Env) {
    let (client, other) = (env.client().await, env.client().await);
    let queue = env.queue(&client).await;
    let consumer = client.consume(queue.as_str()).resume(true).prefetch(2).start().await.unwrap();
    let tag = consumer.tag();
    for round in 0..3 {
        send(&other, &queue, numbers(round..round + 5)).await;
        assert_eq!(next_texts(&consumer, 5).await, numbers(round..round + 5));
        other.delete_queue(&queue).await.unwrap();
        other.declare_queue(&Queue::new(queue.as_str())).await.unwrap();
    }
    send(&other, &queue, ["last"]).await;
    assert_eq!(next_text(&consumer).await, "last");
    assert_eq!(consumer.tag(), tag);
    assert_eq!(client.stats().reconnects, 0);
}

async fn a_drain_waits_for_what_is_in_work(env: &Env) {
    let (client, other) = (env.client().await, env.client().await);
    let (queue, results) = (env.queue(&client).await, env.queue(&client).await);
    send(&client, &queue, numbers(0..20)).await;
    let consumer = client.consume(queue.as_str()).prefetch(10).start().await.unwrap();
    let (first, second) = (next(&consumer).await, next(&consumer).await);
    let draining = tokio::spawn({
        let client = client.clone();
        async move { client.drain(STEP).await }
    });
    // Consumers end at once; what was not handed out by then is for others.
    let mut more = Vec::new();
    while let Some(delivery) = within("the consumer's end", STEP, consumer.next()).await {
        more.push(delivery.unwrap());
    }
    let left = 18 - more.len() as u32;
    until_ready(&other, &queue, left).await;
    more.iter().chain([&first]).for_each(|delivery| delivery.ack().unwrap());
    assert!(!draining.is_finished(), "the second is still in work");
    // Its work may end with a message.
    client.publish("", &results, murano_messaging::Message::text("done")).await.unwrap();
    second.ack().unwrap();
    within("the drain", STEP, draining).await.unwrap().unwrap();
    assert!(client.is_closed());
    assert_eq!(other.queue_info(&queue).await.unwrap().message_count, left);
    assert_eq!(take_all(&other, &results).await, ["done"]);
}

async fn a_drain_gives_up_at_its_deadline(env: &Env) {
    let (client, other) = (env.client().await, env.client().await);
    let queue = env.queue(&client).await;
    send(&client, &queue, numbers(0..3)).await;
    let consumer = client.consume(queue.as_str()).start().await.unwrap();
    let never_settled = next(&consumer).await;
    let start = Instant::now();
    let timeout = Duration::from_millis(300);
    let error = within("the drain", STEP, client.drain(timeout)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(start.elapsed() >= timeout);
    assert!(client.is_closed());
    until_ready(&other, &queue, 3).await;
    assert!(never_settled.is_stale());
}
