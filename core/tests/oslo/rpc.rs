//! Calls, casts, failures, versions, monitoring; queues that are not there yet or not any more.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use murano_messaging::{
    Message,
    oslo::{
        Compression, Context, Error, Failure, Target, Transport,
        rpc::{AckOn, Client, Endpoint, RunningServer, Server},
    },
};
use murano_testkit::{eventually, within};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{Broker, LONG, on_both_brokers};

#[derive(Deserialize, Serialize)]
struct Add {
    a: i64,
    b: i64,
}

fn sums() -> Endpoint {
    Endpoint::new()
        .version("1.2")
        .method("add", |_: Context, args: Add| async move { Ok::<_, Failure>(args.a + args.b) })
        .method("echo", |context: Context, args: Value| async move {
            Ok::<_, Failure>(json!({"args": args, "context": context}))
        })
        .method("raise", |_: Context, _: Value| async {
            Err::<(), _>(
                Failure::new("InstanceNotFound", "no instance 7")
                    .module("nova.exception")
                    .args([json!("no instance 7")])
                    .kwarg("instance_id", 7),
            )
        })
        .method("panic", |_: Context, _: Value| async {
            assert!(std::hint::black_box(false), "this method panics");
            Ok::<_, Failure>(())
        })
}

async fn server(transport: &Transport, topic: &str, name: &str, endpoint: Endpoint) -> RunningServer {
    Server::new(transport, Target::topic(topic).server(name)).endpoint(endpoint).start().await.unwrap()
}

fn client(transport: &Transport, topic: &str) -> Client {
    Client::new(transport, Target::topic(topic).version("1.0")).timeout(LONG)
}

/// A method that counts its calls, and each waits until it may return.
fn slow(calls: &Arc<AtomicU32>, go: &Arc<Semaphore>) -> Endpoint {
    let (calls, go) = (calls.clone(), go.clone());
    Endpoint::new().method("work", move |_: Context, _: Value| {
        let (calls, go) = (calls.clone(), go.clone());
        async move {
            calls.fetch_add(1, Ordering::SeqCst);
            go.acquire().await.unwrap().forget();
            Ok::<_, Failure>("done")
        }
    })
}

async fn a_call_returns_the_result_and_carries_the_context(broker: Broker) {
    let transport = broker.transport(&[]).await;
    let server = server(&transport, &broker.topic, "one", sums()).await;
    let client = client(&transport, &broker.topic);
    let sum: i64 = client.call(&Context::new(), "add", Add { a: 1, b: 2 }).await.unwrap();
    assert_eq!(sum, 3);
    let context = Context::new()
        .with("request_id", "req-1")
        .with("unknown", json!([1]))
        .with_traceparent("00-ab-cd-01");
    let echoed: Value = client.call(&context, "echo", json!({"x": "ü"})).await.unwrap();
    assert_eq!(echoed, json!({"args": {"x": "ü"}, "context": context}));
    let to_one = client.clone().with_target(|target| target.server("one"));
    assert_eq!(to_one.call::<String>(&Context::new(), "oslo_rpc_server_ping", ()).await.unwrap(), "pong");
    server.stop().await;
    transport.close().await.unwrap();
}

async fn a_failure_arrives_with_class_and_arguments(broker: Broker) {
    let transport = broker.transport(&[]).await;
    let _server = server(&transport, &broker.topic, "one", sums()).await;
    let client = client(&transport, &broker.topic);
    let call = |method: &'static str, version: &str| {
        let client = client.clone().with_target(|target| target.version(version));
        async move {
            let error = client.call::<Value>(&Context::new(), method, ()).await.unwrap_err();
            error.failure().cloned().unwrap_or_else(|| panic!("{method}: {error}"))
        }
    };
    let failure = call("raise", "1.0").await;
    assert_eq!((failure.class.as_str(), failure.module.as_str()), ("InstanceNotFound", "nova.exception"));
    assert_eq!(
        (failure.args, failure.kwargs["instance_id"].clone()),
        (vec![json!("no instance 7")], json!(7))
    );
    assert_eq!(call("subtract", "1.0").await.class, "NoSuchMethod");
    assert_eq!(call("_private", "1.0").await.class, "NoSuchMethod");
    assert_eq!(call("add", "1.3").await.class, "UnsupportedVersion");
    assert_eq!(call("add", "2.0").await.class, "UnsupportedVersion");
    assert_eq!(call("add", "1.2").await.class, "TypeError");
    let failure = call("panic", "1.0").await;
    assert!(failure.message.contains("panic()"), "{failure}");
    transport.close().await.unwrap();
}

async fn a_mistake_of_the_caller_is_said_before_anything_is_sent(broker: Broker) {
    let transport = broker.transport(&[]).await;
    let client = client(&transport, &broker.topic);
    let fanout = client.clone().with_target(|target| target.fanout(true));
    let no_version = client.clone().with_target(|target| target.version("one"));
    let above_the_cap = client.clone().version_cap("1.1").with_target(|target| target.version("1.2"));
    let too_short = client.clone().monitor(Duration::from_secs(1));
    for (client, args) in [
        (&fanout, json!({})),
        (&no_version, json!({})),
        (&above_the_cap, json!({})),
        (&too_short, json!({})),
        (&client, json!([1, 2])),
    ] {
        let error = client.call::<Value>(&Context::new(), "add", args).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
    }
    assert_eq!(transport.client().stats().published, 0);
    assert!(Server::new(&transport, Target::topic("t")).start().await.is_err());
    transport.close().await.unwrap();
}

async fn a_cast_to_a_server_that_has_not_started_waits_for_it(broker: Broker) {
    let transport = broker.transport(&[]).await;
    let client = client(&transport, &broker.topic);
    let to_one = client.clone().with_target(|target| target.server("one"));
    for _ in 0..5 {
        client.cast(&Context::new(), "work", ()).await.unwrap();
        to_one.cast(&Context::new(), "work", ()).await.unwrap();
    }
    let (calls, go) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(10)));
    let other = broker.transport(&[]).await;
    let server = server(&other, &broker.topic, "one", slow(&calls, &go)).await;
    eventually("ten calls", LONG, || async { calls.load(Ordering::SeqCst) == 10 }).await;
    server.stop().await;
    other.close().await.unwrap();
    transport.close().await.unwrap();
}

async fn a_fanout_cast_reaches_every_server_and_servers_share_the_rest(broker: Broker) {
    let transport = broker.transport(&[]).await;
    let go = Arc::new(Semaphore::new(1000));
    let counts: Vec<_> = (0..3).map(|_| Arc::new(AtomicU32::new(0))).collect();
    let mut servers = Vec::new();
    for (number, calls) in counts.iter().enumerate() {
        servers.push(server(&transport, &broker.topic, &format!("s{number}"), slow(calls, &go)).await);
    }
    let all = || counts.iter().map(|calls| calls.load(Ordering::SeqCst)).sum::<u32>();
    let client = client(&transport, &broker.topic);
    let fanout = client.clone().with_target(|target| target.fanout(true));
    fanout.cast(&Context::new(), "work", ()).await.unwrap();
    eventually("each gets its copy", LONG, || async { all() == 3 }).await;
    assert!(counts.iter().all(|calls| calls.load(Ordering::SeqCst) == 1));
    for _ in 0..30 {
        client.call::<String>(&Context::new(), "work", ()).await.unwrap();
    }
    assert_eq!(all(), 33);
    assert!(counts.iter().all(|calls| calls.load(Ordering::SeqCst) > 1), "each takes a share");
    for server in servers {
        server.stop().await;
    }
    // Nobody listens any more; a fanout cast is not an error.
    fanout.cast(&Context::new(), "work", ()).await.unwrap();
    transport.close().await.unwrap();
}

async fn a_server_works_on_as_many_as_it_may_and_leaves_the_rest_to_others(broker: Broker) {
    let transport = broker.transport(&[]).await;
    let client = client(&transport, &broker.topic);
    for _ in 0..40 {
        client.cast(&Context::new(), "work", ()).await.unwrap();
    }
    let (first, second) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let go = Arc::new(Semaphore::new(0));
    let start = |name: &str, calls| {
        let target = Target::topic(broker.topic.as_str()).server(name);
        Server::new(&transport, target).concurrency(4).endpoint(slow(calls, &go)).start()
    };
    let one = start("one", &first).await.unwrap();
    eventually("four at a time", LONG, || async { first.load(Ordering::SeqCst) == 4 }).await;
    let two = start("two", &second).await.unwrap();
    eventually("the other takes its share", LONG, || async { second.load(Ordering::SeqCst) == 4 }).await;
    assert_eq!(first.load(Ordering::SeqCst), 4);
    go.add_permits(1000);
    eventually("all", LONG, || async { first.load(Ordering::SeqCst) + second.load(Ordering::SeqCst) == 40 })
        .await;
    one.stop().await;
    two.stop().await;
    transport.close().await.unwrap();
}

async fn a_stop_finishes_what_it_began_and_leaves_the_rest(broker: Broker) {
    let transport = broker.transport(&[]).await;
    let (calls, go) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
    let target = Target::topic(broker.topic.as_str()).server("one");
    let server =
        Server::new(&transport, target).concurrency(2).endpoint(slow(&calls, &go)).start().await.unwrap();
    let client = client(&transport, &broker.topic);
    let mut work = Vec::new();
    for _ in 0..5 {
        let client = client.clone();
        work.push(tokio::spawn(async move { client.call::<String>(&Context::new(), "work", ()).await }));
    }
    eventually("two have begun", LONG, || async { calls.load(Ordering::SeqCst) == 2 }).await;
    let stop = tokio::spawn(server.stop());
    let queue = broker.topic.as_str();
    let raw = transport.client();
    eventually("nobody takes more", LONG, || async {
        raw.queue_info(queue).await.is_ok_and(|info| info.consumer_count == 0)
    })
    .await;
    go.add_permits(2);
    within("the stop", LONG, stop).await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    go.add_permits(3);
    let other = Arc::new(AtomicU32::new(0));
    let _next = self::server(&transport, &broker.topic, "two", slow(&other, &go)).await;
    for call in work {
        assert_eq!(within("the reply", LONG, call).await.unwrap().unwrap(), "done");
    }
    assert_eq!(other.load(Ordering::SeqCst), 3);
    transport.close().await.unwrap();
}

async fn a_call_ends_at_its_timeout_and_a_monitored_one_goes_on_while_the_server_works(broker: Broker) {
    let transport = broker.transport(&[]).await;
    let client = client(&transport, &broker.topic);
    let short = client.clone().timeout(Duration::from_millis(300));
    let error = short.call::<Value>(&Context::new(), "work", ()).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }) && error.outcome_unknown(), "{error}");
    let (calls, go) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
    let server = server(&transport, &broker.topic, "one", slow(&calls, &go)).await;
    let monitored = client.monitor(Duration::from_secs(2));
    let call = tokio::spawn(async move { monitored.call::<String>(&Context::new(), "work", ()).await });
    eventually("the call has begun", LONG, || async { calls.load(Ordering::SeqCst) >= 1 }).await;
    // Longer than the monitor: heartbeats keep the call alive. Each is a publish.
    let published = transport.client().stats().published;
    eventually("three heartbeats", LONG, || async { transport.client().stats().published >= published + 3 })
        .await;
    assert!(!call.is_finished());
    go.add_permits(10);
    assert_eq!(within("the reply", LONG, call).await.unwrap().unwrap(), "done");
    server.stop().await;
    transport.close().await.unwrap();
}

async fn a_monitored_call_ends_when_the_server_is_gone(broker: Broker) {
    let transport = broker.transport(&[]).await;
    let monitored = client(&transport, &broker.topic).monitor(Duration::from_secs(2));
    // The request waits in the queue of a server that never comes.
    let error =
        within("the end", LONG, monitored.call::<Value>(&Context::new(), "work", ())).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { waited, .. } if waited == Duration::from_secs(2)), "{error}");
    transport.close().await.unwrap();
}

async fn a_deleted_reply_queue_is_made_again_and_the_calls_in_flight_are_answered(broker: Broker) {
    let transport = broker.transport(&[]).await;
    let (calls, go) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
    let servers = broker.transport(&[]).await;
    let _server = server(&servers, &broker.topic, "one", slow(&calls, &go)).await;
    let queues = Arc::new(std::sync::Mutex::new(String::new()));
    // A call that tells the name of the reply queue: whoever reads the topic sees it in the request.
    let client = client(&transport, &broker.topic);
    let spy_topic = format!("{}-spy", broker.topic);
    let spy = Client::new(&transport, Target::topic(spy_topic.as_str())).timeout(LONG);
    let spying = tokio::spawn(async move { spy.call::<Value>(&Context::new(), "x", ()).await });
    let raw = transport.client().clone();
    eventually("the request", LONG, || async {
        let Ok(Some(request)) = raw.get_no_ack(&spy_topic).await else { return false };
        let outer: Value = request.json().unwrap();
        let inner: Value = serde_json::from_str(outer["oslo.message"].as_str().unwrap()).unwrap();
        inner["_reply_q"].as_str().unwrap().clone_into(&mut queues.lock().unwrap());
        true
    })
    .await;
    spying.abort();
    let reply_queue = queues.lock().unwrap().clone();
    let work: Vec<_> = (0..16)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.call::<String>(&Context::new(), "work", ()).await })
        })
        .collect();
    eventually("16 in flight", LONG, || async { calls.load(Ordering::SeqCst) == 16 }).await;
    servers.client().delete_queue(&reply_queue).await.unwrap();
    go.add_permits(16);
    for call in work {
        assert_eq!(within("the reply", LONG, call).await.unwrap().unwrap(), "done");
    }
    transport.close().await.unwrap();
}

async fn a_deleted_server_queue_is_made_again(broker: Broker) {
    let transport = broker.transport(&[]).await;
    let server = server(&transport, &broker.topic, "one", sums()).await;
    let client = client(&transport, &broker.topic);
    for queue in [broker.topic.clone(), format!("{}.one", broker.topic)] {
        transport.client().delete_queue(&queue).await.unwrap();
        for _ in 0..5 {
            assert_eq!(client.call::<i64>(&Context::new(), "add", Add { a: 1, b: 1 }).await.unwrap(), 2);
        }
    }
    let to_one = client.with_target(|target| target.server("one"));
    assert_eq!(to_one.call::<i64>(&Context::new(), "add", Add { a: 1, b: 1 }).await.unwrap(), 2);
    server.stop().await;
    transport.close().await.unwrap();
}

async fn bodies_are_decompressed_whatever_the_own_setting(broker: Broker) {
    let gzip = broker.transport(&[("kombu_compression", "gzip")]).await;
    let bzip2 = broker.transport(&[("kombu_compression", "bz2")]).await;
    let plain = broker.transport(&[]).await;
    let server = server(&bzip2, &broker.topic, "one", sums()).await;
    for transport in [&gzip, &plain] {
        let client = client(transport, &broker.topic);
        let text = "compressible ".repeat(1000);
        let echoed: Value = client.call(&Context::new(), "echo", json!({"text": text})).await.unwrap();
        assert_eq!(echoed["args"]["text"], text);
    }
    assert_eq!(format!("{:?}", Compression::Gzip), "Gzip");
    server.stop().await;
}

async fn what_cannot_be_read_disturbs_nothing(broker: Broker) {
    let transport = broker.transport(&[]).await;
    let server = server(&transport, &broker.topic, "one", sums()).await;
    let raw = transport.client();
    for body in
        ["", "{", "[]", "17", "{\"method\": 5}", "{\"oslo.version\": \"9.0\", \"oslo.message\": \"{}\"}"]
    {
        raw.publish("", &broker.topic, Message::text(body)).await.unwrap();
    }
    let bomb = Message::text("not zlib").header("compression", "application/x-gzip");
    raw.publish("", &broker.topic, bomb).await.unwrap();
    raw.publish("", &broker.topic, Message::text("{}").header("compression", "application/zstd"))
        .await
        .unwrap();
    let sum: i64 =
        client(&transport, &broker.topic).call(&Context::new(), "add", Add { a: 2, b: 2 }).await.unwrap();
    assert_eq!(sum, 4);
    server.stop().await;
    transport.close().await.unwrap();
}

async fn what_exists_with_other_properties_is_used_as_it_is(broker: Broker) {
    let durable = broker.transport(&[("amqp_durable_queues", "true")]).await;
    let transient = broker.transport(&[]).await;
    let server = server(&durable, &broker.topic, "one", sums()).await;
    let sum: i64 =
        client(&transient, &broker.topic).call(&Context::new(), "add", Add { a: 2, b: 3 }).await.unwrap();
    assert_eq!(sum, 5);
    let second = self::server(&transient, &broker.topic, "two", sums()).await;
    let to_two = client(&durable, &broker.topic).with_target(|target| target.server("two"));
    assert_eq!(to_two.call::<i64>(&Context::new(), "add", Add { a: 3, b: 3 }).await.unwrap(), 6);
    second.stop().await;
    server.stop().await;
}

async fn acked_when_done_a_request_survives_its_server(broker: Broker) {
    let transport = broker.transport(&[("amqp_durable_queues", "true")]).await;
    let dying = broker.transport(&[("amqp_durable_queues", "true")]).await;
    let (first, second) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let never = Arc::new(Semaphore::new(0));
    let target = Target::topic(broker.topic.as_str()).server("one");
    let server =
        Server::new(&dying, target).ack_on(AckOn::Done).endpoint(slow(&first, &never)).start().await.unwrap();
    for _ in 0..10 {
        client(&transport, &broker.topic).cast(&Context::new(), "work", ()).await.unwrap();
    }
    eventually("ten have begun", LONG, || async { first.load(Ordering::SeqCst) == 10 }).await;
    drop(server);
    dying.client().close().await.unwrap();
    let go = Arc::new(Semaphore::new(10));
    let next = self::server(&transport, &broker.topic, "two", slow(&second, &go)).await;
    eventually("all ten again", LONG, || async { second.load(Ordering::SeqCst) == 10 }).await;
    next.stop().await;
    transport.close().await.unwrap();
}

on_both_brokers!(
    a_call_returns_the_result_and_carries_the_context,
    a_failure_arrives_with_class_and_arguments,
    a_mistake_of_the_caller_is_said_before_anything_is_sent,
    a_cast_to_a_server_that_has_not_started_waits_for_it,
    a_fanout_cast_reaches_every_server_and_servers_share_the_rest,
    a_server_works_on_as_many_as_it_may_and_leaves_the_rest_to_others,
    a_stop_finishes_what_it_began_and_leaves_the_rest,
    a_call_ends_at_its_timeout_and_a_monitored_one_goes_on_while_the_server_works,
    a_monitored_call_ends_when_the_server_is_gone,
    a_deleted_reply_queue_is_made_again_and_the_calls_in_flight_are_answered,
    a_deleted_server_queue_is_made_again,
    bodies_are_decompressed_whatever_the_own_setting,
    what_cannot_be_read_disturbs_nothing,
    what_exists_with_other_properties_is_used_as_it_is,
    acked_when_done_a_request_survives_its_server,
);
