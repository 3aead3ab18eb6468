//! Which queues a message reaches: every exchange type, bindings between exchanges, alternate exchanges.

use murano_messaging::{Binding, Client, ErrorKind, Exchange, Message};

use crate::env::{Env, take_all};

contract!(
    the_default_exchange_routes_by_queue_name,
    a_direct_exchange_routes_by_the_exact_key,
    a_topic_exchange_routes_by_patterns,
    a_fanout_exchange_routes_everywhere,
    a_headers_exchange_matches_all_or_any,
    the_exchanges_of_the_broker_route,
    exchanges_bound_to_exchanges_route_once,
    an_alternate_exchange_takes_what_nothing_else_does,
    a_removed_binding_routes_no_more,
    extra_routing_keys_route_too,
);

/// Publishes and says whether any queue took it.
async fn routed(client: &Client, exchange: &str, key: &str, message: Message) -> bool {
    match client.publish(exchange, key, message.mandatory(true)).await {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unroutable, "{error}");
            let returned = error.returned().unwrap();
            assert_eq!((returned.exchange.as_str(), returned.routing_key.as_str()), (exchange, key));
            assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
            false
        }
    }
}

/// Publishes one text to one key, not mandatory.
async fn put(client: &Client, exchange: &str, key: &str, text: &str) {
    client.publish(exchange, key, Message::text(text).mandatory(false)).await.unwrap();
}

/// An exchange for one test.
async fn exchange(env: &Env, client: &Client, make: impl FnOnce(String) -> Exchange) -> String {
    let name = env.unique("x");
    client.declare_exchange(&make(name.clone())).await.unwrap();
    name
}

async fn bind(client: &Client, queue: &str, exchange: &str, key: &str) {
    client.bind(&Binding::queue(queue, exchange).routing_key(key)).await.unwrap();
}

async fn the_default_exchange_routes_by_queue_name(env: &Env) {
    let client = env.client().await;
    let (queue, missing) = (env.queue(&client).await, env.unique("missing"));
    assert!(routed(&client, "", &queue, Message::text("x")).await);
    assert!(!routed(&client, "", &missing, Message::text("x")).await);
    let delivery = client.get_no_ack(&queue).await.unwrap().unwrap();
    assert_eq!((delivery.exchange(), delivery.routing_key()), ("", queue.as_str()));
}

async fn a_direct_exchange_routes_by_the_exact_key(env: &Env) {
    let client = env.client().await;
    let name = exchange(env, &client, Exchange::direct).await;
    let (one, both) = (env.queue(&client).await, env.queue(&client).await);
    bind(&client, &one, &name, "one").await;
    bind(&client, &both, &name, "one").await;
    bind(&client, &both, &name, "two").await;
    // The same binding twice is one binding.
    bind(&client, &both, &name, "two").await;
    for key in ["one", "two"] {
        assert!(routed(&client, &name, key, Message::text(key)).await);
    }
    for key in ["", "One", "one.two", "#"] {
        assert!(!routed(&client, &name, key, Message::text(key)).await);
    }
    assert_eq!(take_all(&client, &one).await, ["one"]);
    assert_eq!(take_all(&client, &both).await, ["one", "two"]);
}

async fn a_topic_exchange_routes_by_patterns(env: &Env) {
    let keys = ["", "a", "b", "a.b", "a..b", "a.b.c", "a.x.c", "b.a.b", "c.c.a", "a.b.c.d"];
    let patterns: [(&str, &[&str]); 11] = [
        ("#", &keys),
        ("*", &["a", "b"]),
        ("a", &["a"]),
        ("a.*", &["a.b"]),
        ("a.#", &["a", "a.b", "a..b", "a.b.c", "a.x.c", "a.b.c.d"]),
        ("#.a.#", &["a", "a.b", "a..b", "a.b.c", "a.x.c", "b.a.b", "c.c.a", "a.b.c.d"]),
        ("#.c", &["a.b.c", "a.x.c"]),
        ("*.*", &["a.b"]),
        ("a.*.c", &["a.b.c", "a.x.c"]),
        ("a.*.b", &["a..b"]),
        ("*.#.c.#", &["a.b.c", "a.x.c", "c.c.a", "a.b.c.d"]),
    ];
    let client = env.client().await;
    let name = exchange(env, &client, Exchange::topic).await;
    let mut queues = Vec::new();
    for (pattern, _) in &patterns {
        let queue = env.queue(&client).await;
        bind(&client, &queue, &name, pattern).await;
        queues.push(queue);
    }
    for key in keys {
        put(&client, &name, key, key).await;
    }
    for ((pattern, expected), queue) in patterns.iter().zip(&queues) {
        assert_eq!(take_all(&client, queue).await, *expected, "pattern {pattern}");
    }
    // A queue whose bindings match twice gets one copy.
    bind(&client, &queues[0], &name, "a.b.#").await;
    put(&client, &name, "a.b.c", "once").await;
    assert_eq!(take_all(&client, &queues[0]).await, ["once"]);
    let missed = exchange(env, &client, Exchange::topic).await;
    bind(&client, &queues[0], &missed, "x.*").await;
    assert!(!routed(&client, &missed, "x.y.z", Message::text("x")).await);
}

async fn a_fanout_exchange_routes_everywhere(env: &Env) {
    let client = env.client().await;
    let name = exchange(env, &client, Exchange::fanout).await;
    // Nobody listens.
    client.publish(&name, "", Message::text("lost").mandatory(false)).await.unwrap();
    assert!(!routed(&client, &name, "", Message::text("lost")).await);
    let queues = [env.queue(&client).await, env.queue(&client).await, env.queue(&client).await];
    for (number, queue) in queues.iter().enumerate() {
        bind(&client, queue, &name, &format!("ignored {number}")).await;
    }
    client.publish(&name, "some key", Message::text("to all")).await.unwrap();
    for queue in &queues {
        assert_eq!(take_all(&client, queue).await, ["to all"]);
    }
}

async fn a_headers_exchange_matches_all_or_any(env: &Env) {
    let client = env.client().await;
    let name = exchange(env, &client, Exchange::headers).await;
    let (all, any, default, nothing) = (
        env.queue(&client).await,
        env.queue(&client).await,
        env.queue(&client).await,
        env.queue(&client).await,
    );
    let binding =
        |queue: &str| Binding::queue(queue, name.as_str()).argument("color", "red").argument("size", 3);
    client.bind(&binding(&all).argument("x-match", "all")).await.unwrap();
    client.bind(&binding(&any).argument("x-match", "any")).await.unwrap();
    client.bind(&binding(&default)).await.unwrap();
    // A void only asks for the presence of the header.
    client
        .bind(
            &Binding::queue(nothing.as_str(), name.as_str()).argument("color", ()).argument("x-match", "all"),
        )
        .await
        .unwrap();
    let messages = [
        ("both", Message::text("both").header("color", "red").header("size", 3).header("more", true)),
        ("one", Message::text("one").header("color", "red")),
        ("wrong", Message::text("wrong").header("color", "blue").header("size", 4)),
        ("other width", Message::text("other width").header("color", "red").header("size", 3_i64)),
    ];
    for (text, message) in messages {
        assert!(routed(&client, &name, "ignored", message).await, "{text}");
    }
    assert!(!routed(&client, &name, "", Message::text("none")).await);
    assert!(!routed(&client, &name, "", Message::text("other case").header("Color", "red")).await);
    assert_eq!(take_all(&client, &all).await, ["both", "other width"]);
    assert_eq!(take_all(&client, &default).await, ["both", "other width"]);
    assert_eq!(take_all(&client, &any).await, ["both", "one", "other width"]);
    assert_eq!(take_all(&client, &nothing).await, ["both", "one", "wrong", "other width"]);
}

async fn the_exchanges_of_the_broker_route(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let key = env.unique("key");
    bind(&client, &queue, "amq.direct", &key).await;
    bind(&client, &queue, "amq.topic", &format!("{key}.*")).await;
    bind(&client, &queue, "amq.fanout", "").await;
    for exchange in ["amq.headers", "amq.match"] {
        let binding = Binding::queue(queue.as_str(), exchange).argument("key", key.as_str());
        client.bind(&binding).await.unwrap();
    }
    assert!(routed(&client, "amq.direct", &key, Message::text("direct")).await);
    assert!(routed(&client, "amq.topic", &format!("{key}.x"), Message::text("topic")).await);
    assert!(routed(&client, "amq.headers", "", Message::text("headers").header("key", key.as_str())).await);
    assert!(routed(&client, "amq.match", "", Message::text("match").header("key", key.as_str())).await);
    // Other tests may publish to it, too.
    client.publish("amq.fanout", "", Message::text(key.as_str())).await.unwrap();
    let texts = take_all(&client, &queue).await;
    for text in ["direct", "topic", "headers", "match", key.as_str()] {
        assert_eq!(texts.iter().filter(|have| *have == text).count(), 1, "{text} in {texts:?}");
    }
}

async fn exchanges_bound_to_exchanges_route_once(env: &Env) {
    let client = env.client().await;
    let source = exchange(env, &client, Exchange::topic).await;
    let (left, right) =
        (exchange(env, &client, Exchange::fanout).await, exchange(env, &client, Exchange::direct).await);
    let queue = env.queue(&client).await;
    client.bind(&Binding::exchange(left.as_str(), source.as_str()).routing_key("a.#")).await.unwrap();
    let to_right = Binding::exchange(right.as_str(), source.as_str()).routing_key("#.b");
    client.bind(&to_right).await.unwrap();
    // A circle is walked once.
    client.bind(&Binding::exchange(source.as_str(), left.as_str())).await.unwrap();
    bind(&client, &queue, &left, "").await;
    bind(&client, &queue, &right, "a.b").await;
    for key in ["a.b", "a.c", "x.b"] {
        put(&client, &source, key, key).await;
    }
    assert_eq!(take_all(&client, &queue).await, ["a.b", "a.c"]);
    assert!(routed(&client, &source, "a.b", Message::text("x")).await);
    let delivery = client.get_no_ack(&queue).await.unwrap().unwrap();
    assert_eq!(delivery.exchange(), source, "the exchange it was published to");
    bind(&client, &queue, &right, "x.b").await;
    assert!(routed(&client, &source, "x.b", Message::text("now")).await);
    client.unbind(&to_right).await.unwrap();
    assert!(!routed(&client, &source, "x.b", Message::text("x")).await);
    assert_eq!(take_all(&client, &queue).await, ["now"]);
}

async fn an_alternate_exchange_takes_what_nothing_else_does(env: &Env) {
    let client = env.client().await;
    let last = exchange(env, &client, Exchange::fanout).await;
    let name = exchange(env, &client, |name| Exchange::direct(name).alternate_exchange(last.as_str())).await;
    assert!(
        !routed(&client, &name, "known", Message::text("nobody")).await,
        "not even the alternate has a queue"
    );
    let (known, rest) = (env.queue(&client).await, env.queue(&client).await);
    bind(&client, &known, &name, "known").await;
    bind(&client, &rest, &last, "").await;
    assert!(routed(&client, &name, "known", Message::text("known")).await);
    assert!(routed(&client, &name, "unknown", Message::text("unknown")).await);
    assert_eq!(take_all(&client, &known).await, ["known"]);
    let delivery = client.get_no_ack(&rest).await.unwrap().unwrap();
    assert_eq!((delivery.exchange(), delivery.routing_key()), (name.as_str(), "unknown"));
    assert_eq!(take_all(&client, &rest).await, [""; 0]);
}

async fn a_removed_binding_routes_no_more(env: &Env) {
    let client = env.client().await;
    let name = exchange(env, &client, Exchange::direct).await;
    let queue = env.queue(&client).await;
    bind(&client, &queue, &name, "a").await;
    bind(&client, &queue, &name, "b").await;
    client.unbind(&Binding::queue(queue.as_str(), name.as_str()).routing_key("a")).await.unwrap();
    assert!(!routed(&client, &name, "a", Message::text("a")).await);
    assert!(routed(&client, &name, "b", Message::text("b")).await);
    // Arguments are part of what a binding is.
    let headers = exchange(env, &client, Exchange::headers).await;
    let binding = |number: i32| Binding::queue(queue.as_str(), headers.as_str()).argument("n", number);
    client.bind(&binding(1)).await.unwrap();
    client.bind(&binding(2)).await.unwrap();
    client.unbind(&binding(1)).await.unwrap();
    assert!(!routed(&client, &headers, "", Message::text("1").header("n", 1)).await);
    assert!(routed(&client, &headers, "", Message::text("2").header("n", 2)).await);
    // A queue takes its bindings with it.
    client.delete_queue(&queue).await.unwrap();
    assert!(!routed(&client, &name, "b", Message::text("b")).await);
}

async fn extra_routing_keys_route_too(env: &Env) {
    let client = env.client().await;
    let queues = [env.queue(&client).await, env.queue(&client).await, env.queue(&client).await];
    let key = |at: usize| murano_messaging::Value::LongString(queues[at].as_str().into());
    let message = Message::text("copies").header("CC", vec![key(1)]).header("BCC", vec![key(2)]);
    assert!(routed(&client, "", &queues[0], message).await);
    for queue in &queues {
        let delivery = client.get_no_ack(queue).await.unwrap().unwrap();
        assert_eq!(delivery.routing_key(), queues[0]);
        let headers = delivery.properties().headers().clone().unwrap_or_default();
        assert!(headers.contains_key("CC"));
        assert!(!headers.contains_key("BCC"), "the blind copies are nobody's business");
    }
}
