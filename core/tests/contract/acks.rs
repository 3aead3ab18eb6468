//! Settling deliveries: acked, nacked, rejected, requeued, recovered; and getting single messages.

use std::collections::BTreeSet;

use murano_messaging::{Client, Delivery, ErrorKind, QueueType};

use crate::env::{Env, all, get, next, next_texts, numbers, send, take_all, text, until_ready};

contract!(
    what_is_acked_is_gone_and_the_rest_comes_back,
    coalesced_acks_cover_only_what_was_acked,
    acks_leave_without_being_asked_for,
    a_requeued_message_comes_again_and_says_so,
    requeued_messages_keep_their_order,
    a_rejected_message_is_gone,
    a_delivery_is_settled_once,
    recover_puts_back_what_is_unsettled,
    getting_takes_one_message_at_a_time,
    gets_with_and_without_acks_mix,
    concurrent_gets_take_each_message_once,
    a_message_without_acks_that_is_dropped_harms_no_other,
    a_message_without_acks_that_is_dropped_during_a_get_harms_no_other,
);

/// The messages of a queue once `count` are back in it.
async fn left(client: &Client, queue: &str, count: usize) -> Vec<String> {
    until_ready(client, queue, count as u32).await;
    take_all(client, queue).await
}

async fn what_is_acked_is_gone_and_the_rest_comes_back(env: &Env) {
    let (client, other) = (env.client().await, env.client().await);
    let queue = env.queue(&client).await;
    send(&client, &queue, numbers(0..20)).await;
    let consumer = client.consume(queue.as_str()).prefetch(15).start().await.unwrap();
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(next(&consumer).await);
    }
    for delivery in &held[..4] {
        delivery.ack().unwrap();
    }
    client.close().await.unwrap();
    // Some were handed out, some had arrived, some had not.
    until_ready(&other, &queue, 16).await;
    for number in 4..20 {
        let delivery = other.get_no_ack(&queue).await.unwrap().unwrap();
        assert_eq!(text(&delivery), number.to_string());
        // Handed out, it was delivered for certain; the last one can never have been.
        assert!(delivery.redelivered() || number >= 10, "{number}");
        assert!(!delivery.redelivered() || number < 15 + 4, "{number}");
    }
}

async fn coalesced_acks_cover_only_what_was_acked(env: &Env) {
    const COUNT: u32 = 2_000;
    let client = env.client().await;
    for kind in [QueueType::Classic, QueueType::Quorum] {
        let queue = env.queue_with(&client, |queue| queue.queue_type(kind)).await;
        send(&client, &queue, numbers(0..COUNT)).await;
        let consumer = client.consume(queue.as_str()).prefetch(0).start().await.unwrap();
        let mut tasks: [Vec<_>; 4] = Default::default();
        let mut kept = Vec::new();
        let mut expected = BTreeSet::new();
        for number in 0..COUNT {
            let delivery = next(&consumer).await;
            // Runs of all lengths, with holes between them.
            if (number * number / 7) % 11 == 0 {
                expected.insert(number.to_string());
                kept.push(delivery);
            } else {
                tasks[number as usize % 4].push(delivery);
            }
        }
        let acking = tasks.map(|deliveries| {
            tokio::spawn(async move {
                for delivery in deliveries {
                    delivery.ack().unwrap();
                    tokio::task::yield_now().await;
                }
            })
        });
        for task in acking {
            task.await.unwrap();
        }
        consumer.cancel().await.unwrap();
        drop(kept);
        drop(consumer);
        let back = left(&client, &queue, expected.len()).await;
        assert_eq!(back.into_iter().collect::<BTreeSet<_>>(), expected, "on a {kind} queue");
    }
}

async fn acks_leave_without_being_asked_for(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let consumer = client.consume(queue.as_str()).prefetch(1).start().await.unwrap();
    send(&client, &queue, numbers(0..200)).await;
    // With a prefetch of one, the next comes only when the ack has left.
    assert_eq!(next_texts(&consumer, 200).await, numbers(0..200));
    assert_eq!(client.stats().acked, 200);
}

async fn a_requeued_message_comes_again_and_says_so(env: &Env) {
    let client = env.client().await;
    for kind in [QueueType::Classic, QueueType::Quorum] {
        let queue = env.queue_with(&client, |queue| queue.queue_type(kind)).await;
        send(&client, &queue, ["x"]).await;
        let consumer = client.consume(queue.as_str()).prefetch(1).start().await.unwrap();
        for round in 0..3 {
            let delivery = next(&consumer).await;
            assert_eq!((text(&delivery).as_str(), delivery.redelivered()), ("x", round > 0));
            if round == 1 { delivery.nack(true).unwrap() } else { delivery.requeue().unwrap() }
        }
        consumer.cancel().await.unwrap();
        until_ready(&client, &queue, 1).await;
        assert!(get(&client, &queue).await.redelivered());
    }
}

async fn requeued_messages_keep_their_order(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    send(&client, &queue, numbers(0..10)).await;
    let consumer = client.consume(queue.as_str()).prefetch(6).start().await.unwrap();
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(next(&consumer).await);
    }
    consumer.cancel().await.unwrap();
    for at in [4, 1, 5, 0, 3] {
        held[at].requeue().unwrap();
    }
    held[2].ack().unwrap();
    until_ready(&client, &queue, 9).await;
    for number in [0, 1, 3, 4, 5, 6, 7, 8, 9] {
        let delivery = get(&client, &queue).await;
        assert_eq!(text(&delivery), number.to_string());
        assert_eq!(delivery.redelivered(), number < 6, "{number}");
    }
}

async fn a_rejected_message_is_gone(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    send(&client, &queue, numbers(0..3)).await;
    let consumer = client.consume(queue.as_str()).prefetch(2).start().await.unwrap();
    next(&consumer).await.reject().unwrap();
    next(&consumer).await.nack(false).unwrap();
    let last = next(&consumer).await;
    assert_eq!(text(&last), "2");
    consumer.cancel().await.unwrap();
    last.requeue().unwrap();
    assert_eq!(left(&client, &queue, 1).await, ["2"]);
}

async fn a_delivery_is_settled_once(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    send(&client, &queue, numbers(0..6)).await;
    let consumer = client.consume(queue.as_str()).start().await.unwrap();
    for round in 0..3 {
        let delivery = next(&consumer).await;
        match round {
            0 => delivery.ack(),
            1 => delivery.nack(false),
            _ => delivery.reject(),
        }
        .unwrap();
        for again in [delivery.ack(), delivery.nack(true), delivery.reject(), delivery.requeue()] {
            assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadySettled);
        }
    }
    // The broker never heard of it: it would have closed the channel.
    assert_eq!(next_texts(&consumer, 3).await, numbers(3..6));
}

async fn recover_puts_back_what_is_unsettled(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    send(&client, &queue, numbers(0..10)).await;
    let consumer = client.consume(queue.as_str()).prefetch(8).start().await.unwrap();
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(next(&consumer).await);
    }
    held[0].ack().unwrap();
    held[3].ack().unwrap();
    let error = consumer.recover(false).await.unwrap_err();
    assert_eq!((error.kind(), error.reply_code()), (ErrorKind::InvalidArgument, None), "{error}");
    consumer.recover(true).await.unwrap();
    assert!(held.iter().all(murano_messaging::Delivery::is_stale));
    // Of no effect: they are the broker's again.
    held[1].ack().unwrap();
    held[2].reject().unwrap();
    let mut again = BTreeSet::new();
    for _ in 0..8 {
        let delivery = next(&consumer).await;
        assert!(!delivery.is_stale());
        again.insert(text(&delivery));
        delivery.ack().unwrap();
    }
    assert_eq!(again, ["1", "2", "4", "5", "6", "7", "8", "9"].map(String::from).into());
    send(&client, &queue, ["after"]).await;
    assert_eq!(text(&next(&consumer).await), "after");
}

async fn getting_takes_one_message_at_a_time(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    assert!(client.get_with_ack(&queue).await.unwrap().is_none());
    send(&client, &queue, numbers(0..4)).await;
    let first = client.get_with_ack(&queue).await.unwrap().unwrap();
    assert_eq!((text(&first).as_str(), first.message_count()), ("0", Some(3)));
    assert_eq!((first.exchange(), first.routing_key(), first.consumer_tag()), ("", queue.as_str(), ""));
    let second = client.get_with_ack(&queue).await.unwrap().unwrap();
    assert_eq!((text(&second).as_str(), second.message_count()), ("1", Some(2)));
    first.ack().unwrap();
    assert_eq!(first.ack().unwrap_err().kind(), ErrorKind::AlreadySettled);
    second.requeue().unwrap();
    until_ready(&client, &queue, 3).await;
    let again = client.get_with_ack(&queue).await.unwrap().unwrap();
    assert_eq!((text(&again).as_str(), again.redelivered()), ("1", true));
    // Dropped unsettled, it goes back.
    drop(again);
    assert_eq!(left(&client, &queue, 3).await, numbers(1..4));
}

async fn gets_with_and_without_acks_mix(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    send(&client, &queue, numbers(0..60)).await;
    let mut held = Vec::new();
    for number in 0..60 {
        let no_ack = number % 3 == 0;
        let got = if no_ack { client.get_no_ack(&queue).await } else { client.get_with_ack(&queue).await };
        let delivery = got.unwrap().unwrap();
        assert_eq!(text(&delivery), number.to_string());
        match number % 3 {
            0 => assert_eq!(delivery.ack().unwrap_err().kind(), ErrorKind::InvalidArgument),
            1 => delivery.ack().unwrap(),
            _ => held.push(delivery),
        }
    }
    for delivery in held {
        delivery.requeue().unwrap();
    }
    let expected: Vec<_> = (0..60).filter(|number| number % 3 == 2).map(|n: u32| n.to_string()).collect();
    assert_eq!(left(&client, &queue, expected.len()).await, expected);
    assert_eq!(client.stats().reconnects, 0);
}

async fn concurrent_gets_take_each_message_once(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    send(&client, &queue, numbers(0..400)).await;
    let seen = std::sync::Mutex::new(Vec::new());
    all((0..20).map(|_| async {
        while let Some(delivery) = client.get_with_ack(&queue).await.unwrap() {
            seen.lock().unwrap().push(text(&delivery).parse::<u32>().unwrap());
            delivery.ack().unwrap();
        }
    }))
    .await;
    let mut seen = seen.into_inner().unwrap();
    seen.sort_unstable();
    assert_eq!(seen, (0..400).collect::<Vec<_>>());
    client.close().await.unwrap();
    assert_eq!(env.client().await.queue_info(&queue).await.unwrap().message_count, 0);
}

/// Takes a message without acks, and has the channel it came on closed, so that its number is free for another.
async fn got_on_a_channel_that_is_gone(env: &Env, client: &Client, queue: &str) -> Delivery {
    let delivery = client.get_no_ack(queue).await.unwrap().unwrap();
    let error = client.queue_info(&env.unique("missing")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    delivery
}

async fn a_message_without_acks_that_is_dropped_harms_no_other(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    send(&client, &queue, numbers(0..3)).await;
    let without = got_on_a_channel_that_is_gone(env, &client, &queue).await;
    let held = client.get_with_ack(&queue).await.unwrap().unwrap();
    drop(without);
    // Behind the drop in the engine's inbox.
    client.queue_info(&queue).await.unwrap();
    assert!(!held.is_stale());
    held.ack().unwrap();
    client.close().await.unwrap();
    assert_eq!(left(&env.client().await, &queue, 1).await, ["2"]);
}

async fn a_message_without_acks_that_is_dropped_during_a_get_harms_no_other(env: &Env) {
    let client = env.client().await;
    let (queue, empty) = (env.queue(&client).await, env.queue(&client).await);
    send(&client, &queue, numbers(0..4)).await;
    let without = got_on_a_channel_that_is_gone(env, &client, &queue).await;
    // The get is asked for first, and as a rule under way at the drop: a broker may also have answered it.
    let (got, ()) = tokio::join!(biased; client.get_with_ack(&empty), async { drop(without) });
    assert!(got.unwrap().is_none());
    let first = client.get_with_ack(&queue).await.unwrap().unwrap();
    let second = client.get_with_ack(&queue).await.unwrap().unwrap();
    // The drop requeues its message and no other.
    let (third, ()) = tokio::join!(biased; client.get_with_ack(&queue), async { drop(first) });
    let third = third.unwrap().unwrap();
    client.queue_info(&queue).await.unwrap();
    assert!(!second.is_stale() && !third.is_stale());
    second.ack().unwrap();
    third.ack().unwrap();
    client.close().await.unwrap();
    assert_eq!(left(&env.client().await, &queue, 1).await.len(), 1);
}
