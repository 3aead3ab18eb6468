//! Changing the prefetch of a running consumer: nothing is lost, first deliveries stay in order.

use std::{
    collections::{BTreeSet, VecDeque},
    task::Poll,
    time::Duration,
};

use murano_messaging::{Client, Consumer, Delivery, ErrorKind, Message, Queue, QueueType};
use murano_testkit::{eventually, within};

use crate::env::{Env, STEP, exists, next, next_text, next_texts, numbers, send, text, until_ready};

contract!(
    a_raised_prefetch_lets_more_come,
    a_raised_prefetch_lets_more_come_on_a_quorum_queue,
    a_raised_prefetch_of_an_exclusive_consumer_lets_more_come,
    a_lowered_prefetch_holds_back,
    a_prefetch_of_zero_is_no_limit,
    a_prefetch_changed_again_and_again_loses_nothing,
    a_quorum_queues_prefetch_changed_again_and_again_loses_nothing,
    an_exclusive_consumers_prefetch_changed_again_and_again_loses_nothing,
    a_single_active_consumer_keeps_its_place_and_its_limit,
    a_queue_that_is_deleted_with_its_last_consumer_stays,
    a_queue_that_is_deleted_with_its_exclusive_consumer_stays,
    an_exclusive_consumer_without_a_limit_gets_one,
    an_exclusive_consumer_of_somebody_elses_quorum_queue,
    changes_at_the_same_time,
    a_change_and_a_cancel_at_the_same_time,
    a_consumer_without_acks_has_no_prefetch,
);

/// The next deliveries, unacked; none of them came before.
async fn first_deliveries(consumer: &Consumer, numbers: std::ops::Range<u32>) -> Vec<Delivery> {
    let mut held = Vec::new();
    for number in numbers {
        let delivery = next(consumer).await;
        assert_eq!(text(&delivery), number.to_string());
        assert!(!delivery.redelivered(), "{number} comes again");
        held.push(delivery);
    }
    held
}

fn ack_all(held: &[Delivery]) {
    for delivery in held {
        delivery.ack().unwrap();
    }
}

async fn raised(env: &Env, kind: QueueType, exclusive: bool) {
    let client = env.client().await;
    let queue = env.queue_with(&client, |queue| queue.queue_type(kind)).await;
    send(&client, &queue, numbers(0..100)).await;
    let consume = client.consume(queue.as_str()).prefetch(5).exclusive(exclusive);
    let consumer = consume.start().await.unwrap();
    let tag = consumer.tag();
    let mut held = first_deliveries(&consumer, 0..5).await;
    until_ready(&client, &queue, 95).await;
    assert!(consumer.try_recv().is_pending());
    within("the change", STEP, consumer.set_prefetch(20)).await.unwrap();
    held.extend(first_deliveries(&consumer, 5..20).await);
    assert_eq!(consumer.tag(), tag);
    assert!(held.iter().all(|delivery| *delivery.consumer_tag() == *tag && !delivery.is_stale()));
    // Those from before the change are as good as those after.
    for delivery in held {
        delivery.ack().unwrap();
    }
    let held = first_deliveries(&consumer, 20..40).await;
    // Once all from before are settled, the new limit is the limit.
    until_ready(&client, &queue, 60).await;
    assert!(consumer.try_recv().is_pending());
    for delivery in held {
        delivery.ack().unwrap();
    }
    for number in numbers(40..100) {
        assert_eq!(next_text(&consumer).await, number);
    }
    assert_eq!(client.queue_info(&queue).await.unwrap().consumer_count, 1);
    if exclusive {
        let error = client.consume(queue.as_str()).start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AccessRefused, "still alone: {error}");
    }
}

async fn a_raised_prefetch_lets_more_come(env: &Env) {
    raised(env, QueueType::Classic, false).await;
}

async fn a_raised_prefetch_lets_more_come_on_a_quorum_queue(env: &Env) {
    raised(env, QueueType::Quorum, false).await;
}

async fn a_raised_prefetch_of_an_exclusive_consumer_lets_more_come(env: &Env) {
    raised(env, QueueType::Classic, true).await;
}

async fn a_lowered_prefetch_holds_back(env: &Env) {
    let client = env.client().await;
    for kind in [QueueType::Classic, QueueType::Quorum] {
        let queue = env.queue_with(&client, |queue| queue.queue_type(kind)).await;
        let consumer = client.consume(queue.as_str()).prefetch(50).start().await.unwrap();
        consumer.set_prefetch(3).await.unwrap();
        send(&client, &queue, numbers(0..20)).await;
        let held = first_deliveries(&consumer, 0..3).await;
        until_ready(&client, &queue, 17).await;
        assert!(consumer.try_recv().is_pending());
        for delivery in held {
            delivery.ack().unwrap();
        }
        assert_eq!(next_texts(&consumer, 17).await, numbers(3..20));
    }
}

async fn a_prefetch_of_zero_is_no_limit(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    send(&client, &queue, numbers(0..500)).await;
    let consumer = client.consume(queue.as_str()).prefetch(2).start().await.unwrap();
    let mut held = first_deliveries(&consumer, 0..2).await;
    consumer.set_prefetch(0).await.unwrap();
    held.extend(first_deliveries(&consumer, 2..500).await);
    for delivery in &held {
        delivery.ack().unwrap();
    }
    // And back.
    consumer.set_prefetch(1).await.unwrap();
    send(&client, &queue, numbers(0..3)).await;
    let one = next(&consumer).await;
    until_ready(&client, &queue, 2).await;
    one.ack().unwrap();
    assert_eq!(next_texts(&consumer, 2).await, numbers(1..3));
}

async fn again_and_again(env: &Env, client: &Client, kind: QueueType, exclusive: bool) {
    const COUNT: u32 = 3_000;
    let queue = env.queue_with(client, |queue| queue.queue_type(kind)).await;
    let consumer = client.consume(queue.as_str()).prefetch(10).exclusive(exclusive).start().await.unwrap();
    let publishing = send(client, &queue, numbers(0..COUNT));
    let changing = async {
        for round in 0..60_u16 {
            let prefetch = 1 + (round * 7) % 40;
            within("a change", STEP, consumer.set_prefetch(prefetch)).await.unwrap();
        }
    };
    let consuming = async {
        // Some are unacked at any time.
        let mut held = VecDeque::new();
        // RabbitMQ takes back what is on its way to a consumer of a quorum queue that is cancelled, and sends it later.
        let mut seen = BTreeSet::new();
        for number in 0..COUNT {
            let delivery = loop {
                match consumer.try_recv() {
                    Poll::Ready(delivery) => break delivery.unwrap().unwrap(),
                    // The limit may be lower than the number of unacked deliveries.
                    Poll::Pending => match held.pop_front() {
                        Some(oldest) => Delivery::ack(&oldest).unwrap(),
                        None => break next(&consumer).await,
                    },
                }
            };
            if kind == QueueType::Classic {
                assert_eq!(text(&delivery), number.to_string(), "a first delivery out of order");
                assert!(!delivery.redelivered(), "{number} comes again");
            }
            assert!(seen.insert(text(&delivery)), "{} comes again", text(&delivery));
            held.push_back(delivery);
        }
        for delivery in held {
            delivery.ack().unwrap();
        }
    };
    tokio::join!(publishing, changing, consuming);
    consumer.cancel().await.unwrap();
    assert_eq!(client.queue_info(&queue).await.unwrap().message_count, 0);
    assert_eq!(client.stats().reconnects, 0);
}

async fn a_prefetch_changed_again_and_again_loses_nothing(env: &Env) {
    let client = env.client().await;
    again_and_again(env, &client, QueueType::Classic, false).await;
}

async fn a_quorum_queues_prefetch_changed_again_and_again_loses_nothing(env: &Env) {
    let client = env.client().await;
    again_and_again(env, &client, QueueType::Quorum, false).await;
}

async fn an_exclusive_consumers_prefetch_changed_again_and_again_loses_nothing(env: &Env) {
    let client = env.client().await;
    again_and_again(env, &client, QueueType::Classic, true).await;
}

/// A change that would do harm is refused, and says why; everything stays as it was.
async fn stays(client: &Client, consumer: &Consumer, why: &str) {
    let refused = within("the refusal", STEP, consumer.set_prefetch(10)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{refused}");
    assert!(refused.to_string().contains(why), "{refused}");
    assert_eq!(client.stats().reconnects, 0);
}

async fn a_single_active_consumer_keeps_its_place_and_its_limit(env: &Env) {
    let client = env.client().await;
    let queue = env.queue_with(&client, |queue| queue.single_active_consumer(true)).await;
    let active = client.consume(queue.as_str()).prefetch(2).start().await.unwrap();
    let waiting = client.consume(queue.as_str()).start().await.unwrap();
    send(&client, &queue, numbers(0..30)).await;
    let held = first_deliveries(&active, 0..2).await;
    stays(&client, &active, "lose its place").await;
    until_ready(&client, &queue, 28).await;
    assert!(active.try_recv().is_pending() && waiting.try_recv().is_pending());
    ack_all(&held);
    assert_eq!(next_texts(&active, 28).await, numbers(2..30));
    assert!(waiting.try_recv().is_pending());
}

async fn a_queue_that_is_deleted_with_its_last_consumer_stays(env: &Env) {
    let client = env.client().await;
    let name = env.unique("q");
    let queue = Queue::new(name.as_str()).auto_delete(true).expires(Duration::from_secs(600));
    client.declare_queue(&queue).await.unwrap();
    let consumer = client.consume(name.as_str()).prefetch(5).start().await.unwrap();
    send(&client, &name, ["before"]).await;
    for prefetch in 1..20 {
        consumer.set_prefetch(prefetch).await.unwrap();
    }
    assert!(exists(&client, &name).await);
    assert_eq!(next_text(&consumer).await, "before");
}

async fn a_queue_that_is_deleted_with_its_exclusive_consumer_stays(env: &Env) {
    let client = env.client().await;
    let other = env.client().await;
    for declaring in [&client, &other] {
        let name = env.unique("q");
        declaring.declare_queue(&Queue::new(name.as_str()).auto_delete(true)).await.unwrap();
        send(declaring, &name, numbers(0..20)).await;
        let consumer = client.consume(name.as_str()).prefetch(1).exclusive(true).start().await.unwrap();
        let held = first_deliveries(&consumer, 0..1).await;
        stays(&client, &consumer, "auto-delete").await;
        until_ready(declaring, &name, 19).await;
        ack_all(&held);
        assert_eq!(next_texts(&consumer, 19).await, numbers(1..20));
    }
}

async fn an_exclusive_consumer_without_a_limit_gets_one(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let consumer = client.consume(queue.as_str()).prefetch(0).exclusive(true).start().await.unwrap();
    send(&client, &queue, numbers(0..20)).await;
    let held = first_deliveries(&consumer, 0..20).await;
    consumer.set_prefetch(3).await.unwrap();
    ack_all(&held);
    send(&client, &queue, numbers(20..30)).await;
    let held = first_deliveries(&consumer, 20..23).await;
    until_ready(&client, &queue, 7).await;
    assert!(consumer.try_recv().is_pending());
    // And back.
    consumer.set_prefetch(0).await.unwrap();
    let more = first_deliveries(&consumer, 23..30).await;
    held.iter().chain(&more).for_each(|delivery| delivery.ack().unwrap());
}

async fn an_exclusive_consumer_of_somebody_elses_quorum_queue(env: &Env) {
    let client = env.client().await;
    let other = env.client().await;
    let queue = env.queue_with(&other, |queue| queue.queue_type(QueueType::Quorum)).await;
    send(&other, &queue, numbers(0..20)).await;
    let starting = client.consume(queue.as_str()).prefetch(2).exclusive(true).start();
    let consumer = within("the start", STEP, starting).await.unwrap();
    let mut held = first_deliveries(&consumer, 0..2).await;
    // It might be an auto-delete queue, until this client has declared it too.
    stays(&client, &consumer, "declare the queue through this client").await;
    client.declare_queue(&Queue::new(queue.as_str()).queue_type(QueueType::Quorum)).await.unwrap();
    within("the change", STEP, consumer.set_prefetch(5)).await.unwrap();
    held.extend(first_deliveries(&consumer, 2..5).await);
    ack_all(&held);
    assert_eq!(client.stats().reconnects, 0, "a start costs no connection");
}

/// A consumer with twenty messages to come.
async fn consumer_of(env: &Env, client: &Client, kind: QueueType, exclusive: bool) -> Consumer {
    let queue = env.queue_with(client, |queue| queue.queue_type(kind)).await;
    send(client, &queue, numbers(0..20)).await;
    let mut consume = client.consume(queue).prefetch(2).exclusive(exclusive);
    if kind == QueueType::Stream {
        consume = consume.stream_offset("first");
    }
    within("the start", STEP, consume.start()).await.unwrap()
}

/// A quorum queue counts a consumer that is gone for as long as messages that it got are unsettled.
async fn until_consumers(client: &Client, queue: &str, count: u32) {
    eventually(&format!("{queue} has {count} consumers"), STEP, || async {
        client.queue_info(queue).await.unwrap().consumer_count == count
    })
    .await;
}

/// Each of these changes its prefetch in a way of its own. A stream, in another, is only for brokers that have some.
const KINDS: [(QueueType, bool); 4] = [
    (QueueType::Classic, false),
    (QueueType::Classic, true),
    (QueueType::Quorum, false),
    (QueueType::Quorum, true),
];

pub async fn changed_at_the_same_time(env: &Env, kind: QueueType, exclusive: bool) {
    let client = env.client().await;
    let consumer = consumer_of(env, &client, kind, exclusive).await;
    let changes =
        async { tokio::join!(consumer.set_prefetch(4), consumer.set_prefetch(9), consumer.set_prefetch(6)) };
    let (first, second, third) = within("the changes", STEP, changes).await;
    for changed in [first, second, third] {
        changed.unwrap();
    }
    let mut seen = BTreeSet::new();
    while seen.len() < 20 {
        seen.insert(next_text(&consumer).await);
    }
    // RabbitMQ does not count the consumers of a stream.
    until_consumers(&client, &consumer.queue(), u32::from(kind != QueueType::Stream)).await;
    within("the cancel", STEP, consumer.cancel()).await.unwrap();
    until_consumers(&client, &consumer.queue(), 0).await;
    assert_eq!(client.stats().reconnects, 0);
}

async fn changes_at_the_same_time(env: &Env) {
    for (kind, exclusive) in KINDS {
        changed_at_the_same_time(env, kind, exclusive).await;
    }
}

pub async fn changed_and_cancelled_at_the_same_time(env: &Env, kind: QueueType, exclusive: bool) {
    let client = env.client().await;
    let consumer = consumer_of(env, &client, kind, exclusive).await;
    // What becomes of the change does not matter any more.
    let (_, cancelled) =
        within("the cancel", STEP, async { tokio::join!(consumer.set_prefetch(4), consumer.cancel()) }).await;
    cancelled.unwrap();
    while let Some(delivery) = within("the end", STEP, consumer.next()).await {
        delivery.unwrap();
    }
    until_consumers(&client, &consumer.queue(), 0).await;
    assert_eq!(client.stats().reconnects, 0);
}

async fn a_change_and_a_cancel_at_the_same_time(env: &Env) {
    for (kind, exclusive) in KINDS {
        changed_and_cancelled_at_the_same_time(env, kind, exclusive).await;
    }
}

async fn a_consumer_without_acks_has_no_prefetch(env: &Env) {
    const REPLY_TO: &str = "amq.rabbitmq.reply-to";
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let answers = client.consume(REPLY_TO).no_ack(true).start().await.unwrap();
    let request = Message::text("?").reply_to(REPLY_TO);
    client.publish("", &queue, request).await.unwrap();
    within("the change", STEP, answers.set_prefetch(5)).await.unwrap();
    let request = crate::env::get(&client, &queue).await;
    let reply_to = request.properties().reply_to().as_ref().unwrap().to_string();
    client.publish("", &reply_to, Message::text("!")).await.unwrap();
    assert_eq!(text(&next(&answers).await), "!");
}
