//! Messages over a bound of ours, deliveries that are dropped or not read: nothing is lost, and somebody is told.

use std::collections::BTreeSet;

use murano_messaging::{Client, ErrorKind, Event, Message, OnDrop, Queue, QueueType};
use murano_testkit::within;

use crate::env::{Env, STEP, get, next, next_text, next_texts, numbers, send, text, until_ready};

contract!(
    a_header_over_frame_max_is_delivered,
    an_oversize_message_stays_on_its_queue_and_ends_its_consumer,
    an_oversize_message_that_is_got_stays_on_its_queue,
    a_dropped_delivery_goes_back_if_asked,
    a_dropped_delivery_keeps_its_place_by_default,
    a_full_delivery_buffer_stops_nobody_else,
    consuming_without_start,
);

/// The broker adds to the headers when it dead-letters a message.
async fn a_header_over_frame_max_is_delivered(env: &Env) {
    let client = env.client().await;
    let dead = env.queue(&client).await;
    let queue = env
        .queue_with(&client, |queue| queue.dead_letter_exchange("").dead_letter_routing_key(dead.as_str()))
        .await;
    let large = "x".repeat(130_900);
    client.publish("", &queue, Message::text("dead").header("large", large.as_str())).await.unwrap();
    send(&client, &queue, ["next"]).await;
    let consumer = client.consume(queue.as_str()).start().await.unwrap();
    for _ in 0..2 {
        next(&consumer).await.reject().unwrap();
    }
    let consumer = client.consume(dead.as_str()).start().await.unwrap();
    let delivery = next(&consumer).await;
    assert_eq!(text(&delivery), "dead");
    let headers = delivery.properties().headers().as_ref().unwrap().inner();
    assert!(headers.contains_key("x-death") && headers.contains_key("large"));
    delivery.ack().unwrap();
    assert_eq!(next_text(&consumer).await, "next");
    assert_eq!(client.stats().reconnects, 0);
}

async fn small(env: &Env) -> Client {
    within("connecting", STEP, env.options().max_body_size(1_000).connect()).await.unwrap()
}

async fn an_oversize_message_stays_on_its_queue_and_ends_its_consumer(env: &Env) {
    let client = small(env).await;
    for kind in [QueueType::Classic, QueueType::Quorum] {
        let queue = env.queue_with(&client, |queue| queue.queue_type(kind)).await;
        let other = env.queue(&client).await;
        let unaffected = client.consume(other.as_str()).start().await.unwrap();
        send(&client, &queue, ["before".to_owned(), "x".repeat(1_001), "after".to_owned()]).await;
        let consumer = client.consume(queue.as_str()).start().await.unwrap();
        assert_eq!(next_text(&consumer).await, "before");
        let error = within("the end", STEP, consumer.next()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains("max_body_size") && error.to_string().contains(&queue), "{error}");
        assert!(consumer.next().await.is_none());
        send(&client, &other, ["still here"]).await;
        assert_eq!(next_text(&unaffected).await, "still here");
        // Both are there for a consumer that takes them.
        let large = env.client().await;
        let consumer = large.consume(queue.as_str()).start().await.unwrap();
        let rest: BTreeSet<_> = next_texts(&consumer, 2).await.into_iter().collect();
        assert_eq!(rest, BTreeSet::from(["after".to_owned(), "x".repeat(1_001)]));
        assert_eq!((client.stats().reconnects, large.stats().reconnects), (0, 0));
    }
}

async fn an_oversize_message_that_is_got_stays_on_its_queue(env: &Env) {
    let client = small(env).await;
    let queue = env.queue(&client).await;
    send(&client, &queue, ["x".repeat(1_001)]).await;
    let error = client.get_with_ack(&queue).await.unwrap_err();
    assert!(error.to_string().contains("raise max_body_size"), "{error}");
    until_ready(&client, &queue, 1).await;
    assert_eq!(get(&env.client().await, &queue).await.body().len(), 1_001);
}

async fn a_dropped_delivery_goes_back_if_asked(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    send(&client, &queue, numbers(0..3)).await;
    let consumer = client.consume(queue.as_str()).prefetch(1).on_drop(OnDrop::Requeue).start().await.unwrap();
    drop(next(&consumer).await);
    let again = next(&consumer).await;
    assert!(text(&again) == "0" && again.redelivered());
    again.ack().unwrap();
    assert_eq!(next_texts(&consumer, 2).await, numbers(1..3));
}

async fn a_dropped_delivery_keeps_its_place_by_default(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    send(&client, &queue, numbers(0..3)).await;
    let consumer = client.consume(queue.as_str()).prefetch(2).start().await.unwrap();
    for _ in 0..2 {
        drop(next(&consumer).await);
    }
    until_ready(&client, &queue, 1).await;
    assert!(consumer.try_recv().is_pending());
    consumer.cancel().await.unwrap();
    until_ready(&client, &queue, 3).await;
}

async fn a_full_delivery_buffer_stops_nobody_else(env: &Env) {
    const COUNT: usize = 60;
    let options = env.options().delivery_buffer(300_000);
    let client = within("connecting", STEP, options.connect()).await.unwrap();
    let sender = env.client().await;
    let (full, other) = (env.queue(&sender).await, env.queue(&sender).await);
    send(&sender, &full, (0..COUNT).map(|number| format!("{number}{}", " ".repeat(100_000)))).await;
    let mut events = client.events();
    let unread = client.consume(full.as_str()).prefetch(0).start().await.unwrap();
    let read = client.consume(other.as_str()).start().await.unwrap();
    let told = within("the event", STEP, async {
        loop {
            if let Event::DeliveryBufferFull { consumer_tag, queue, .. } = events.next().await.unwrap() {
                return (consumer_tag, queue);
            }
        }
    })
    .await;
    assert_eq!(told, (unread.tag().to_string(), full.clone()));
    for round in 0..3 {
        let name = env.unique("q");
        within("a declare", STEP, client.declare_queue(&Queue::new(name.as_str()))).await.unwrap();
        send(&sender, &other, [format!("{round}")]).await;
        assert_eq!(next_text(&read).await, format!("{round}"));
        send(&sender, &name, ["got"]).await;
        assert_eq!(text(&get(&client, &name).await), "got");
    }
    assert!(client.stats().undelivered_bytes < 2_000_000, "{}", client.stats().undelivered_bytes);
    // What did not fit went back, and comes once.
    let mut seen = BTreeSet::new();
    while seen.len() < COUNT {
        let number = next_text(&unread).await;
        assert!(seen.insert(number.trim().to_owned()), "{} comes twice", number.trim());
    }
    assert_eq!(client.stats().reconnects, 0);
}

async fn consuming_without_start(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    send(&client, &queue, ["x"]).await;
    let consumer = client.consume(queue.as_str()).prefetch(3).await.unwrap();
    assert_eq!(next_text(&consumer).await, "x");
}
