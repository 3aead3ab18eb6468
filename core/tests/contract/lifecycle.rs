//! From connecting to the end: what is refused at once, what a close and a drop still do, what comes after.

use std::{
    future::{Future, poll_fn},
    task::Poll,
    time::Duration,
};

use murano_messaging::{ErrorKind, Event, Message, Queue, events::Role};
use murano_testkit::{eventually, within};

use crate::env::{Env, STEP, all, next, next_text, numbers, send, text, until_gone, until_ready};

contract!(
    a_wrong_password_is_refused_at_once,
    a_missing_virtual_host_is_refused_at_once,
    closing_confirms_what_was_published,
    closing_ends_everything_else,
    closing_sends_the_last_acks,
    dropping_the_last_handle_flushes,
    dropping_right_after_the_first_publish_flushes,
    every_handle_keeps_the_client_open,
    the_publishing_connection_opens_at_the_first_publish,
    publishes_wait_for_their_channel_to_open,
    an_idle_client_keeps_its_connection,
    channels_run_out_without_harm,
    a_forgotten_queue_is_not_recorded,
    a_new_secret_is_taken_by_both_connections,
);

async fn a_wrong_password_is_refused_at_once(env: &Env) {
    let options = env.options().credentials("guest", "wr0ng secret");
    let error = within("the refusal", STEP, options.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    assert!(!format!("{error} {error:?}").contains("wr0ng"), "no error repeats a password");
}

async fn a_missing_virtual_host_is_refused_at_once(env: &Env) {
    let vhost = env.unique("nowhere");
    let options = env.options().vhost(vhost.as_str());
    let error = within("the refusal", STEP, options.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::VhostRefused, "{error}");
    assert!(error.to_string().contains(&vhost), "{error}");
}

async fn closing_confirms_what_was_published(env: &Env) {
    let (client, other) = (env.client().await, env.client().await);
    let queue = env.queue(&client).await;
    let mut confirmations = Vec::new();
    for number in numbers(0..900) {
        confirmations.push(client.publish_deferred("", &queue, Message::text(number)).await.unwrap());
    }
    within("closing", STEP, client.close()).await.unwrap();
    for confirmation in confirmations {
        assert!(confirmation.is_ready());
        confirmation.await.unwrap();
    }
    assert_eq!(other.queue_info(&queue).await.unwrap().message_count, 900);
}

async fn closing_ends_everything_else(env: &Env) {
    let client = env.client().await;
    let mut events = client.events();
    let queue = env.queue(&client).await;
    let consumer = client.consume(queue.as_str()).start().await.unwrap();
    let publisher = client.publisher("", queue.as_str());
    assert!(!client.is_closed());
    let waiting = tokio::spawn(async move {
        let end = consumer.next().await;
        (end.is_none(), consumer)
    });
    client.close().await.unwrap();
    assert!(client.is_closed());
    let (ended, consumer) = within("the consumer's end", STEP, waiting).await.unwrap();
    assert!(ended);
    let closed = [
        client.queue_info(&queue).await.map(|_| ()),
        client.declare_queue(&Queue::new(queue.as_str())).await.map(|_| ()),
        client.get_no_ack(&queue).await.map(|_| ()),
        client.consume(queue.as_str()).start().await.map(|_| ()),
        publisher.publish(Message::text("x")).await,
        publisher.publish_deferred(Message::text("x")).await.map(|_| ()),
        consumer.set_prefetch(1).await,
    ];
    for outcome in closed {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    }
    consumer.cancel().await.unwrap_or_else(|error| assert_eq!(error.kind(), ErrorKind::Closed));
    client.close().await.unwrap();
    let told = async {
        loop {
            if let Some(Event::Closed { role: Role::Main, reason }) = events.next().await {
                return reason;
            }
        }
    };
    assert!(within("the event", STEP, told).await.is_none(), "its owner's wish is no fault");
    // A subscriber that comes later is told of it too, once.
    let mut late = client.events();
    let first = within("the event", STEP, late.next()).await;
    assert!(matches!(first, Some(Event::Closed { role: Role::Main, reason: None })), "{first:?}");
    assert!(within("the end of the events", STEP, late.next()).await.is_none());
    let mut late = client.events();
    assert!(matches!(late.try_recv(), Some(Event::Closed { .. })));
    assert!(late.try_recv().is_none());
}

async fn closing_sends_the_last_acks(env: &Env) {
    let (client, other) = (env.client().await, env.client().await);
    let queue = env.queue(&client).await;
    send(&client, &queue, numbers(0..300)).await;
    let consumer = client.consume(queue.as_str()).prefetch(0).start().await.unwrap();
    for number in 0..250 {
        let delivery = next(&consumer).await;
        if number % 10 != 9 {
            delivery.ack().unwrap();
        }
    }
    client.close().await.unwrap();
    until_ready(&other, &queue, 25 + 50).await;
    let left = crate::env::take_all(&other, &queue).await;
    let expected: Vec<_> =
        (0..300).filter(|number| number % 10 == 9 || *number >= 250).map(|n: u32| n.to_string()).collect();
    assert_eq!(left, expected);
}

async fn dropping_the_last_handle_flushes(env: &Env) {
    let (client, other) = (env.client().await, env.client().await);
    let queue = env.queue_with(&client, |queue| queue).await;
    let locked = env.queue_with(&client, |queue| queue.exclusive(true)).await;
    send(&client, &queue, numbers(0..10)).await;
    let consumer = client.consume(queue.as_str()).prefetch(10).start().await.unwrap();
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(next(&consumer).await);
    }
    for delivery in &held[..5] {
        delivery.ack().unwrap();
    }
    for number in numbers(10..900) {
        drop(client.publish_deferred("", &queue, Message::text(number)).await.unwrap());
    }
    drop((client, consumer, held));
    // Its acks and publishes have left, and so has its connection.
    until_gone(&other, &locked).await;
    until_ready(&other, &queue, 5 + 890).await;
}

async fn dropping_right_after_the_first_publish_flushes(env: &Env) {
    let other = env.client().await;
    let queue = env.queue(&other).await;
    for round in 1..=5 {
        let client = env.client().await;
        for number in numbers(0..100) {
            // The connection that is to carry it is only being made.
            drop(client.publish_deferred("", &queue, Message::text(number)).await.unwrap());
        }
        drop(client);
        until_ready(&other, &queue, round * 100).await;
    }
}

async fn every_handle_keeps_the_client_open(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let consumer = client.consume(queue.as_str()).start().await.unwrap();
    let publisher = client.publisher("", queue.as_str());
    let copy = client.clone();
    drop(client);
    publisher.publish(Message::text("1")).await.unwrap();
    assert_eq!(next_text(&consumer).await, "1");
    drop(copy);
    publisher.publish(Message::text("2")).await.unwrap();
    assert_eq!(next_text(&consumer).await, "2");
    drop(publisher);
    let other = env.client().await;
    send(&other, &queue, ["3"]).await;
    let last = next(&consumer).await;
    drop(consumer);
    // A delivery alone does not.
    eventually("the connection is gone", STEP, || async { last.is_stale() }).await;
    until_ready(&other, &queue, 1).await;
}

async fn the_publishing_connection_opens_at_the_first_publish(env: &Env) {
    let client = env.client().await;
    let mut events = client.events();
    let queue = env.queue(&client).await;
    let mut connected_to_publish = || {
        let mut connected = 0;
        while let Some(event) = events.try_recv() {
            connected += u32::from(matches!(event, Event::Connected { role: Role::Publish, .. }));
        }
        connected
    };
    assert_eq!(connected_to_publish(), 0);
    // Many at once open one.
    all((0..20).map(|_| async { client.publish("", &queue, Message::text("x")).await.unwrap() })).await;
    assert_eq!(connected_to_publish(), 1);
}

async fn publishes_wait_for_their_channel_to_open(env: &Env) {
    let other = env.client().await;
    let queue = env.queue(&other).await;
    for round in 1..=25 {
        let client = env.options().window(100_000, 64 << 20).connect().await.unwrap();
        let publisher = client.publisher("", queue.as_str());
        let publish = || Box::pin(publisher.publish(Message::text("x").persistent(false)));
        let mut first = publish();
        let mut others = Vec::new();
        // While the connection is made and its channel opened, a task tries to write all the time.
        poll_fn(|cx| {
            while others.len() < 50_000 && first.as_mut().poll(cx).is_pending() {
                let mut other = publish();
                if other.as_mut().poll(cx).is_pending() {
                    others.push(other);
                }
            }
            Poll::Ready(())
        })
        .await;
        for publish in others {
            publish.await.unwrap();
        }
        let stats = client.stats();
        assert_eq!((stats.reconnects, stats.republished), (0, 0), "round {round}");
    }
}

async fn an_idle_client_keeps_its_connection(env: &Env) {
    // A machine that stands still for less than six seconds ends no connection.
    let client = env.options().heartbeat(Duration::from_secs(3)).connect().await.unwrap();
    let other = env.client().await;
    let queue = env.queue_with(&client, |queue| queue.exclusive(true)).await;
    send(&client, &queue, ["x"]).await;
    // Longer than a broker waits for heartbeats.
    let clock = env.queue_with(&other, |queue| queue.expires(Duration::from_secs(10))).await;
    until_gone(&other, &clock).await;
    assert_eq!(client.stats().reconnects, 0);
    assert_eq!(text(&client.get_no_ack(&queue).await.unwrap().unwrap()), "x");
}

async fn channels_run_out_without_harm(env: &Env) {
    let client = env.options().channel_max(10).connect().await.unwrap();
    let queue = env.queue(&client).await;
    let mut consumers = Vec::new();
    let error = loop {
        match client.consume(queue.as_str()).start().await {
            Ok(consumer) => consumers.push(consumer),
            Err(error) => break error,
        }
        assert!(consumers.len() <= 10);
    };
    assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
    assert!(error.to_string().contains("channel_max"), "says what to do: {error}");
    // One for declarations.
    assert_eq!(consumers.len(), 9);
    drop(consumers.pop());
    eventually("a channel is free again", STEP, || async {
        client.consume(queue.as_str()).start().await.is_ok()
    })
    .await;
    assert_eq!(client.queue_info(&queue).await.unwrap().message_count, 0);
}

async fn a_forgotten_queue_is_not_recorded(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    assert_eq!(client.stats().recorded, 1);
    client.forget(&queue);
    eventually("it is off the record", STEP, || async { client.stats().recorded == 0 }).await;
    client.queue_info(&queue).await.unwrap();
}

async fn a_new_secret_is_taken_by_both_connections(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    send(&client, &queue, ["before"]).await;
    within("both answers", STEP, client.update_secret("guest", "a test")).await.unwrap();
    let error = client.update_secret("guest", &"x".repeat(256)).await.unwrap_err();
    assert_eq!((error.kind(), error.reply_code()), (ErrorKind::InvalidArgument, None), "{error}");
    send(&client, &queue, ["after"]).await;
    until_ready(&client, &queue, 2).await;
    assert_eq!(client.stats().reconnects, 0);
}
