//! What becomes of a publish: confirmed, returned, nacked, refused, each to its own caller.

use std::time::Duration;

use murano_messaging::{ErrorKind, Exchange, Message};
use murano_testkit::within;

use crate::env::{Env, STEP, all, next, next_text, numbers, send, take_all, until_ready};

contract!(
    a_confirmed_message_is_in_its_queue,
    a_nowait_publish_is_confirmed_later_and_in_order,
    a_dropped_confirmation_does_not_cancel_its_publish,
    an_unroutable_message_comes_back_whole,
    an_unroutable_message_that_is_too_large_to_receive,
    a_message_that_is_not_mandatory_may_be_lost,
    every_publish_is_mandatory_unless_told_otherwise,
    a_delayed_message_is_not_mandatory_unless_it_says_so,
    what_a_message_may_be_made_of,
    a_cancelled_publish_says_so,
    bodies_of_every_size_arrive,
    a_body_of_64_mib_arrives_or_fails_with_the_brokers_limit,
    one_connection_does_for_publishing_and_consuming,
    what_cannot_be_sent_is_refused_locally,
);

async fn a_confirmed_message_is_in_its_queue(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    for number in numbers(0..20) {
        client.publish("", &queue, Message::text(number)).await.unwrap();
    }
    // No waiting: that is what the confirm says.
    assert_eq!(client.queue_info(&queue).await.unwrap().message_count, 20);
    assert_eq!(take_all(&client, &queue).await, numbers(0..20));
    let stats = client.stats();
    assert_eq!((stats.published, stats.confirmed, stats.in_flight), (20, 20, 0));
}

async fn a_nowait_publish_is_confirmed_later_and_in_order(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let publisher = client.publisher("", queue.as_str());
    assert_eq!((publisher.exchange(), publisher.routing_key()), ("", queue.as_str()));
    let mut confirmations = Vec::new();
    for number in numbers(0..900) {
        confirmations.push(publisher.publish_deferred(Message::text(number)).await.unwrap());
    }
    // In any order.
    while let Some(confirmation) = confirmations.pop() {
        within("a confirm", STEP, confirmation).await.unwrap();
    }
    assert_eq!(take_all(&client, &queue).await, numbers(0..900));
}

async fn a_dropped_confirmation_does_not_cancel_its_publish(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    for number in numbers(0..100) {
        drop(client.publish_deferred("", &queue, Message::text(number)).await.unwrap());
    }
    until_ready(&client, &queue, 100).await;
    assert_eq!(take_all(&client, &queue).await, numbers(0..100));
}

/// The bound on bodies is for what others sent.
async fn an_unroutable_message_that_is_too_large_to_receive(env: &Env) {
    let client = within("connecting", STEP, env.options().max_body_size(1_000).connect()).await.unwrap();
    for size in [1_000, 1_001, 300_000] {
        let body = "x".repeat(size);
        let nowhere = env.unique("nowhere");
        let (small, large) = within("the publishes", STEP, async {
            tokio::join!(
                client.publish("", &nowhere, Message::text("small")),
                client.publish("", &nowhere, Message::text(body.as_str())),
            )
        })
        .await;
        assert_eq!(small.unwrap_err().returned().unwrap().message.body(), "small");
        let error = large.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unroutable, "{error}");
        assert_eq!(error.returned().unwrap().message.body(), &body);
    }
}

async fn an_unroutable_message_comes_back_whole(env: &Env) {
    let client = env.client().await;
    let missing = env.unique("missing");
    let message = Message::new(vec![7; 300_000]).message_id("mine").header("h", "v").priority(3);
    let error = client.publish("amq.direct", &missing, message.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unroutable, "{error}");
    assert!(!error.outcome_unknown());
    let returned = error.returned().unwrap();
    assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
    assert_eq!((returned.exchange.as_str(), returned.routing_key.as_str()), ("amq.direct", missing.as_str()));
    assert_eq!(returned.message.body(), message.body());
    assert_eq!(returned.message.properties(), message.properties());
    let stats = client.stats();
    assert_eq!((stats.returned, stats.confirmed, stats.in_flight), (1, 0, 0));
}

async fn a_message_that_is_not_mandatory_may_be_lost(env: &Env) {
    let client = env.client().await;
    let missing = env.unique("missing");
    client.publish("", &missing, Message::text("x").mandatory(false)).await.unwrap();
    client.publisher("amq.fanout", missing.as_str()).mandatory(false).publish("x").await.unwrap();
    assert_eq!(client.stats().returned, 0);
    let client = env.options().mandatory(false).connect().await.unwrap();
    client.publish("", &missing, "x").await.unwrap();
    assert_eq!(client.stats().returned, 0);
}

/// Whatever the exchange and whoever declared it; the message is asked first, then the publisher, then the client.
async fn every_publish_is_mandatory_unless_told_otherwise(env: &Env) {
    let client = env.client().await;
    let (missing, own) = (env.unique("missing"), env.unique("own"));
    client.declare_exchange(&Exchange::fanout(own.as_str())).await.unwrap();
    let lenient = env.options().mandatory(false).connect().await.unwrap();
    let publishers = [
        client.publisher("", missing.as_str()),
        client.publisher("amq.fanout", missing.as_str()),
        client.publisher(own.as_str(), ""),
        lenient.publisher("", missing.as_str()).mandatory(true),
    ];
    for publisher in publishers {
        // Other tests may have bound a queue to the broker's own fanout.
        if publisher.exchange() == "amq.fanout" && env.is_shared() {
            continue;
        }
        let error = publisher.publish("x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unroutable, "{error}");
        assert!(!error.outcome_unknown(), "{error}");
        publisher.publish(Message::text("x").mandatory(false)).await.unwrap();
        let error = publisher.mandatory(false).publish(Message::text("x").mandatory(true)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unroutable, "{error}");
    }
}

/// RabbitMQ's delayed message exchange returns every mandatory message, which arrives all the same.
async fn a_delayed_message_is_not_mandatory_unless_it_says_so(env: &Env) {
    let client = env.client().await;
    let missing = env.unique("missing");
    client.publish("", &missing, Message::text("later").header("x-delay", 5_000)).await.unwrap();
    client.publish("", &missing, Message::text("later").header("x-delay", "5000")).await.unwrap();
    for message in [
        Message::text("now").header("x-delay", 0),
        Message::text("now").header("x-delay", -5),
        Message::text("later").header("x-delay", 5_000).mandatory(true),
    ] {
        let error = client.publish("", &missing, message).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unroutable, "{error}");
    }
}

async fn what_a_message_may_be_made_of(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let publisher = client.publisher("", queue.as_str());
    publisher.publish("str").await.unwrap();
    publisher.publish(String::from("String")).await.unwrap();
    publisher.publish(vec![b'V', b'e', b'c']).await.unwrap();
    publisher.publish(&b"slice"[..]).await.unwrap();
    publisher.publish(b"array").await.unwrap();
    client.publish("", &queue, bytes::Bytes::from_static(b"Bytes")).await.unwrap();
    client.publish_deferred("", &queue, "deferred").await.unwrap().await.unwrap();
    let texts = ["str", "String", "Vec", "slice", "array", "Bytes", "deferred"];
    assert_eq!(take_all(&client, &queue).await, texts);
}

/// Its owner is told so, and whether it may have been taken.
async fn a_cancelled_publish_says_so(env: &Env) {
    let client = env.options().window(1, 1 << 20).connect().await.unwrap();
    let queue = env.queue(&client).await;
    let confirmation = client.publish_deferred("", &queue, "x").await.unwrap();
    confirmation.cancel();
    match within("the result", STEP, confirmation).await {
        // The broker was faster.
        Ok(()) => {}
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
            let depth = client.queue_info(&queue).await.unwrap().message_count;
            assert!(error.outcome_unknown() || depth == 0, "{error}");
        }
    }
    within("the next one", STEP, client.publish("", &queue, "y")).await.unwrap();
}

async fn bodies_of_every_size_arrive(env: &Env) {
    // What fits into one frame, one byte less and more, and the same for two.
    let frame_max = if env.since(4, 1) { 8_192 } else { 4_096 };
    let client = env.options().frame_max(frame_max).connect().await.unwrap();
    let queue = env.queue(&client).await;
    let one = frame_max as usize - 8;
    let sizes = [0, 1, 100, one - 1, one, one + 1, 2 * one, 2 * one + 1, 1_000_000];
    let body = |size: usize| (0..size).map(|at| (at % 251) as u8).collect::<Vec<_>>();
    let consumer = client.consume(queue.as_str()).start().await.unwrap();
    for size in sizes {
        client.publish("", &queue, Message::new(body(size))).await.unwrap();
    }
    for size in sizes {
        let delivery = next(&consumer).await;
        assert!(delivery.body() == &body(size), "{size} bytes became {}", delivery.body().len());
        delivery.ack().unwrap();
    }
}

async fn a_body_of_64_mib_arrives_or_fails_with_the_brokers_limit(env: &Env) {
    const SIZE: usize = 64 << 20;
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let consumer = client.consume(queue.as_str()).start().await.unwrap();
    let mut body = vec![0; SIZE];
    for (at, block) in body.chunks_mut(1 << 16).enumerate() {
        block.fill((at % 251) as u8);
    }
    let message = Message::new(body).persistent(false);
    let expected = message.body().clone();
    if env.since(4, 0) {
        let error = client.publish("", &queue, message).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error}");
        assert!(error.to_string().contains("16777216"), "it names the limit: {error}");
        send(&client, &queue, ["small"]).await;
        assert_eq!(next_text(&consumer).await, "small");
        return;
    }
    within("64 MiB", STEP * 2, client.publish("", &queue, message)).await.unwrap();
    // What comes after it is not held up by it.
    send(&client, &queue, ["small"]).await;
    let delivery = next(&consumer).await;
    assert!(delivery.body() == &expected, "the same {SIZE} bytes");
    delivery.ack().unwrap();
    assert_eq!(next_text(&consumer).await, "small");
}

async fn one_connection_does_for_publishing_and_consuming(env: &Env) {
    let client = env.options().separate_publish_connection(false).connect().await.unwrap();
    let queue = env.queue(&client).await;
    let missing = env.unique("missing");
    let consumer = client.consume(queue.as_str()).start().await.unwrap();
    all((0..4).map(|_| async {
        for number in numbers(0..250) {
            client.publish("", &queue, Message::text(number)).await.unwrap();
            let refused = client.publish("", &missing, Message::text("x")).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unroutable);
            let delivery = next(&consumer).await;
            delivery.ack().unwrap();
        }
    }))
    .await;
    assert_eq!(client.stats().reconnects, 0);
    assert_eq!(client.queue_info(&queue).await.unwrap().message_count, 0);
}

async fn what_cannot_be_sent_is_refused_locally(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let long = "x".repeat(256);
    let table = |key: &str| {
        let mut table = murano_messaging::FieldTable::default();
        table.insert(key.into(), murano_messaging::Value::Boolean(true));
        table
    };
    let message = || Message::text("x");
    let refused = [
        ("content_type", message().content_type(&*long)),
        ("content_encoding", message().content_encoding(&*long)),
        ("correlation_id", message().correlation_id(&*long)),
        ("reply_to", message().reply_to(&*long)),
        ("message_id", message().message_id(&*long)),
        ("kind", message().kind(&*long)),
        ("user_id", message().user_id(&*long)),
        ("app_id", message().app_id(&*long)),
        ("cluster_id", message().cluster_id(&*long)),
        ("header", message().header(&*long, 1)),
        ("unsigned", message().header("big", u64::MAX)),
        ("unsigned", message().header("big", i64::MAX as u64 + 1)),
        ("NaN", message().header("number", f64::NAN)),
        ("inf", message().header("number", f32::INFINITY)),
        ("CC", message().headers(table("CC"))),
        ("expiration", message().expiration(Duration::from_secs(3_651 * 24 * 3600))),
    ];
    for (what, message) in refused {
        let error = client.publish("", &queue, message).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{what}: {error}");
        assert!(error.to_string().contains(what), "{error} has no {what}");
    }
    for (exchange, key, what) in [("", &*long, "routing key"), (&*long, "", "exchange name")] {
        let error = client.publish(exchange, key, message()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains(what), "{error} has no {what}");
    }
    let stats = client.stats();
    assert_eq!((stats.published, stats.in_flight), (0, 0), "nothing was sent");
    for refused in [
        client.declare_queue(&murano_messaging::Queue::new(&*long)).await.map(|_| ()),
        client.declare_exchange(&Exchange::direct(&*long)).await,
        client.queue_info(&long).await.map(|_| ()),
        client.get_no_ack(&long).await.map(|_| ()),
        client.consume(&*long).start().await.map(|_| ()),
        client.bind(&murano_messaging::Binding::queue(&*queue, "amq.topic").routing_key(&*long)).await,
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    // One byte less is taken.
    let most = "y".repeat(255);
    client
        .publish("", &queue, message().correlation_id(&*most).header(&*most, i64::MAX as u64))
        .await
        .unwrap();
    let delivery = client.get_no_ack(&queue).await.unwrap().unwrap();
    assert_eq!(delivery.properties().correlation_id().as_ref().unwrap().as_str(), most);
}
