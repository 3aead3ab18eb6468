//! Consumers: which messages are delivered, how many at a time, and to which consumer.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use futures_core::Stream;
use murano_messaging::{ErrorKind, Message, QueueType};
use murano_testkit::{eventually, within};

use crate::env::{Env, STEP, all, get, next, next_text, next_texts, numbers, send, text, until_ready};

contract!(
    deliveries_come_in_order_and_say_where_from,
    a_consumer_is_a_stream,
    prefetch_is_never_exceeded,
    prefetch_is_never_exceeded_on_a_quorum_queue,
    without_prefetch_everything_comes,
    without_acks_the_broker_forgets_at_once,
    an_exclusive_consumer_is_alone,
    higher_consumer_priorities_are_served_first,
    consumers_take_turns,
    a_single_active_consumer_is_followed_by_the_next,
    tasks_that_share_a_consumer_get_each_delivery_once,
    a_consumer_has_the_tag_it_asked_for,
    hundreds_of_queues_and_thousands_of_operations_share_a_connection,
    a_consumer_that_is_given_up_while_it_starts_gives_everything_back,
);

async fn deliveries_come_in_order_and_say_where_from(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let binding = murano_messaging::Binding::queue(queue.as_str(), "amq.direct").routing_key(queue.as_str());
    client.bind(&binding).await.unwrap();
    send(&client, &queue, numbers(0..50)).await;
    let consumer = client.consume(queue.as_str()).start().await.unwrap();
    for number in 0..50 {
        let delivery = next(&consumer).await;
        assert_eq!(text(&delivery), number.to_string());
        assert_eq!((delivery.exchange(), delivery.routing_key()), ("", queue.as_str()));
        assert_eq!((delivery.consumer_tag(), delivery.delivery_tag()), (&*consumer.tag(), number + 1));
        assert!(!delivery.redelivered() && !delivery.is_stale() && delivery.message_count().is_none());
        delivery.ack().unwrap();
    }
    client.publish("amq.direct", &queue, Message::text("x")).await.unwrap();
    assert_eq!(next(&consumer).await.exchange(), "amq.direct");
    assert_eq!((consumer.delivered(), consumer.queue()), (51, queue));
}

async fn a_consumer_is_a_stream(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let mut consumer = client.consume(queue.as_str()).start().await.unwrap();
    assert!(consumer.try_recv().is_pending());
    send(&client, &queue, ["1", "2"]).await;
    for expected in ["1", "2"] {
        let item = poll_fn(|cx| Pin::new(&mut consumer).poll_next(cx));
        let delivery = within("an item", STEP, item).await.unwrap().unwrap();
        assert_eq!(text(&delivery), expected);
        delivery.ack().unwrap();
    }
    consumer.cancel().await.unwrap();
    assert!(within("the end", STEP, poll_fn(|cx| Pin::new(&mut consumer).poll_next(cx))).await.is_none());
}

async fn prefetch_is_never_exceeded(env: &Env) {
    bounded_by_prefetch(env, QueueType::Classic).await;
}

async fn prefetch_is_never_exceeded_on_a_quorum_queue(env: &Env) {
    bounded_by_prefetch(env, QueueType::Quorum).await;
}

async fn bounded_by_prefetch(env: &Env, kind: QueueType) {
    const PREFETCH: u32 = 7;
    let client = env.client().await;
    let queue = env.queue_with(&client, |queue| queue.queue_type(kind)).await;
    let consumer = client.consume(queue.as_str()).prefetch(PREFETCH as u16).start().await.unwrap();
    send(&client, &queue, numbers(0..100)).await;
    let mut held = Vec::new();
    for number in numbers(0..PREFETCH) {
        held.push(next(&consumer).await);
        assert_eq!(text(held.last().unwrap()), number);
    }
    // The eighth is still in the queue, where another consumer can take it.
    until_ready(&client, &queue, 100 - PREFETCH).await;
    assert_eq!(text(&get(&client, &queue).await), PREFETCH.to_string());
    assert!(consumer.try_recv().is_pending());
    let mut seen = PREFETCH + 1;
    // In any order, so that the acks are single and multiple.
    while !held.is_empty() {
        let at = (seen as usize * 5) % held.len();
        held.swap_remove(at).ack().unwrap();
        if seen < 100 {
            held.push(next(&consumer).await);
            seen += 1;
        }
        while let Poll::Ready(Some(delivery)) = consumer.try_recv() {
            held.push(delivery.unwrap());
            seen += 1;
        }
        assert!(held.len() <= PREFETCH as usize, "{} are unacked", held.len());
    }
    assert_eq!(seen, 100);
    until_ready(&client, &queue, 0).await;
}

async fn without_prefetch_everything_comes(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    send(&client, &queue, numbers(0..2_000)).await;
    let consumer = client.consume(queue.as_str()).prefetch(0).start().await.unwrap();
    let mut held = Vec::new();
    for number in numbers(0..2_000) {
        held.push(next(&consumer).await);
        assert_eq!(text(held.last().unwrap()), number);
    }
    for delivery in &held {
        delivery.ack().unwrap();
    }
    assert_eq!(client.stats().acked, 2_000);
}

async fn without_acks_the_broker_forgets_at_once(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    send(&client, &queue, numbers(0..300)).await;
    let consumer = client.consume(queue.as_str()).no_ack(true).prefetch(1).start().await.unwrap();
    // Prefetch counts what is unacked, and nothing ever is.
    until_ready(&client, &queue, 0).await;
    let first = next(&consumer).await;
    let error = first.ack().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert_eq!(first.reject().unwrap_err().kind(), ErrorKind::InvalidArgument);
    for number in numbers(1..300) {
        assert_eq!(text(&next(&consumer).await), number);
    }
    drop(consumer);
    drop(first);
    client.close().await.unwrap();
    assert_eq!(env.client().await.queue_info(&queue).await.unwrap().message_count, 0);
}

async fn an_exclusive_consumer_is_alone(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let alone = client.consume(queue.as_str()).exclusive(true).start().await.unwrap();
    let refusal = format!("ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use");
    for exclusive in [false, true] {
        let error = client.consume(queue.as_str()).exclusive(exclusive).start().await.unwrap_err();
        assert_eq!((error.kind(), error.reply_code()), (ErrorKind::AccessRefused, Some(403)), "{error}");
        assert!(error.reply_text().unwrap().contains(&refusal), "{error}");
    }
    // Getting is not consuming, and RabbitMQ leaves it to anybody.
    assert!(client.get_no_ack(&queue).await.unwrap().is_none());
    send(&client, &queue, ["x"]).await;
    assert_eq!(next_text(&alone).await, "x");
    alone.cancel().await.unwrap();
    let shared = client.consume(queue.as_str()).start().await.unwrap();
    let error = client.consume(queue.as_str()).exclusive(true).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AccessRefused, "{error}");
    send(&client, &queue, ["y"]).await;
    assert_eq!(next_text(&shared).await, "y");
}

async fn higher_consumer_priorities_are_served_first(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let consume = |priority| client.consume(queue.as_str()).priority(priority).prefetch(5).start();
    let low = consume(-1).await.unwrap();
    let high = consume(10).await.unwrap();
    let middle = client.consume(queue.as_str()).prefetch(5).start().await.unwrap();
    send(&client, &queue, numbers(0..15)).await;
    assert_eq!(next_texts(&high, 5).await, numbers(0..5));
    assert_eq!(next_texts(&middle, 5).await, numbers(5..10));
    assert_eq!(next_texts(&low, 5).await, numbers(10..15));
}

async fn consumers_take_turns(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let mut consumers = Vec::new();
    for _ in 0..4 {
        consumers.push(client.consume(queue.as_str()).prefetch(10).start().await.unwrap());
    }
    send(&client, &queue, numbers(0..40)).await;
    let mut all = BTreeSet::new();
    for consumer in &consumers {
        let texts = next_texts(consumer, 10).await;
        let parsed: Vec<u32> = texts.iter().map(|text| text.parse().unwrap()).collect();
        assert!(parsed.is_sorted(), "{parsed:?}");
        all.extend(parsed);
    }
    assert_eq!(all, (0..40).collect());
}

async fn a_single_active_consumer_is_followed_by_the_next(env: &Env) {
    let client = env.client().await;
    for kind in [QueueType::Classic, QueueType::Quorum] {
        let queue =
            env.queue_with(&client, |queue| queue.single_active_consumer(true).queue_type(kind)).await;
        let active = client.consume(queue.as_str()).prefetch(2).start().await.unwrap();
        let waiting = client.consume(queue.as_str()).prefetch(100).start().await.unwrap();
        send(&client, &queue, numbers(0..10)).await;
        assert_eq!(next_texts(&active, 2).await, numbers(0..2));
        let (held, also_held) = (next(&active).await, next(&active).await);
        assert!(waiting.try_recv().is_pending(), "the other waits, although it has room");
        active.cancel().await.unwrap();
        // RabbitMQ lets the next begin no later than when what the one before had is settled.
        held.ack().unwrap();
        also_held.requeue().unwrap();
        let mut rest = BTreeMap::new();
        for _ in 0..7 {
            let delivery = next(&waiting).await;
            rest.insert(text(&delivery), delivery.redelivered());
            delivery.ack().unwrap();
        }
        let expected: BTreeMap<_, _> =
            numbers(3..10).into_iter().map(|text| (text.clone(), text == "3")).collect();
        assert_eq!(rest, expected, "on a {kind} queue");
    }
}

async fn tasks_that_share_a_consumer_get_each_delivery_once(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let consumer = client.consume(queue.as_str()).prefetch(20).start().await.unwrap();
    let seen = std::sync::Mutex::new(Vec::new());
    let (done, finished) = tokio::sync::watch::channel(false);
    let take = || async {
        let mut finished = finished.clone();
        loop {
            tokio::select! {
                delivery = consumer.next() => {
                    let delivery = delivery.unwrap().unwrap();
                    seen.lock().unwrap().push(text(&delivery).parse::<u32>().unwrap());
                    delivery.ack().unwrap();
                }
                _ = finished.changed() => return,
            }
        }
    };
    let publish = async {
        send(&client, &queue, numbers(0..1_000)).await;
        eventually("all are taken", STEP, || async { seen.lock().unwrap().len() >= 1_000 }).await;
        done.send(true).unwrap();
    };
    tokio::join!(all((0..4).map(|_| take())), publish);
    let mut seen = seen.into_inner().unwrap();
    seen.sort_unstable();
    assert_eq!(seen, (0..1_000).collect::<Vec<_>>());
}

async fn a_consumer_has_the_tag_it_asked_for(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let named = client.consume(queue.as_str()).tag("mine").start().await.unwrap();
    assert_eq!(&*named.tag(), "mine");
    send(&client, &queue, ["x"]).await;
    assert_eq!(next(&named).await.consumer_tag(), "mine");
    let (one, other) = (
        client.consume(queue.as_str()).start().await.unwrap(),
        client.consume(queue.as_str()).start().await.unwrap(),
    );
    assert_ne!(one.tag(), other.tag());
    let error = client.consume(queue.as_str()).tag("x".repeat(256)).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

async fn hundreds_of_queues_and_thousands_of_operations_share_a_connection(env: &Env) {
    const QUEUES: u32 = 300;
    let client = env.options().separate_publish_connection(false).connect().await.unwrap();
    all((0..QUEUES).map(|_| async {
        let queue = env.queue_with(&client, |queue| queue.durable(false)).await;
        let binding =
            murano_messaging::Binding::queue(queue.as_str(), "amq.topic").routing_key(format!("{queue}.#"));
        client.bind(&binding).await.unwrap();
        let consumer = client.consume(queue.as_str()).prefetch(3).start().await.unwrap();
        for number in numbers(0..10) {
            client.publish("amq.topic", &format!("{queue}.{number}"), Message::text(number)).await.unwrap();
        }
        assert_eq!(next_texts(&consumer, 10).await, numbers(0..10));
        assert_eq!(client.queue_info(&queue).await.unwrap().consumer_count, 1);
        consumer.cancel().await.unwrap();
        client.unbind(&binding).await.unwrap();
        client.delete_queue(&queue).await.unwrap();
    }))
    .await;
    let stats = client.stats();
    assert_eq!((stats.confirmed, stats.acked), (u64::from(QUEUES) * 10, u64::from(QUEUES) * 10));
    assert_eq!((stats.reconnects, stats.recorded), (0, 0));
}

async fn a_consumer_that_is_given_up_while_it_starts_gives_everything_back(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    send(&client, &queue, numbers(0..10)).await;
    let mut events = client.events();
    for _ in 0..50 {
        let mut starting = Box::pin(client.consume(queue.as_str()).start());
        // The embedded broker may have answered by then: the consumer is given up all the same.
        drop(poll_fn(|cx| Poll::Ready(starting.as_mut().poll(cx))).await);
        drop(starting);
        tokio::task::yield_now().await;
    }
    until_ready(&client, &queue, 10).await;
    let consumer = client.consume(queue.as_str()).start().await.unwrap();
    assert_eq!(next_text(&consumer).await, "0");
    assert!(events.try_recv().is_none(), "the connection was lost over it");
}
