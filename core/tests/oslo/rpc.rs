//! Calls, casts, failures, versions, monitoring.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use murano_messaging::{
    Message,
    oslo::{Compression, Context, Error, Target, rpc::Server},
};
use murano_testkit::{eventually, within};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    Broker, LONG, on_both_brokers,
    peers::{Add, client, request, server, slow, sums, taken},
};

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
    let _next = crate::peers::server(&transport, &broker.topic, "two", slow(&other, &go)).await;
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

/// A caller that cannot be answered must not have to wait for its timeout: what its peer wrote is no JSON, as Python writes
/// numbers that JSON has not.
async fn what_cannot_be_read_is_said_to_the_caller(broker: Broker) {
    let transport = broker.transport(&[]).await;
    let server = server(&transport, &broker.topic, "one", sums()).await;
    let raw = transport.client();
    let replies = format!("{}-replies", broker.topic);
    raw.declare_queue(&murano_messaging::Queue::new(replies.as_str()).expires(Duration::from_secs(60)))
        .await
        .unwrap();
    let inner = format!(
        r#"{{"method": "echo", "args": {{"n": NaN, "text": "\ud800"}}, "_msg_id": "m1", "_reply_q": "{replies}"}}"#
    );
    let outer = json!({"oslo.version": "2.0", "oslo.message": inner});
    raw.publish("", &broker.topic, Message::text(outer.to_string())).await.unwrap();
    let reply = taken(raw, &replies).await;
    let text = String::from_utf8(reply.body().to_vec()).unwrap();
    assert!(text.contains("ValueError") && text.contains("m1"), "{text}");

    // The other way round: a reply that cannot be read.
    let strange = format!("{}-strange", broker.topic);
    let client = client(&transport, &strange);
    let call = tokio::spawn(async move { client.call::<Value>(&Context::new(), "x", ()).await });
    let inner = request(&taken(raw, &strange).await);
    let reply = format!(r#"{{"result": NaN, "failure": null, "_msg_id": {}}}"#, inner["_msg_id"]);
    raw.publish("", inner["_reply_q"].as_str().unwrap(), Message::text(reply)).await.unwrap();
    let error = within("the end of the call", LONG, call).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Malformed(_)), "{error}");
    raw.delete_queue(&replies).await.unwrap();
    server.stop().await;
    transport.close().await.unwrap();
}

/// Replies to a caller that is gone are tried for a minute. Others are served meanwhile, and a stop does not wait for that.
async fn a_caller_that_went_away_holds_nothing_up(broker: Broker) {
    let transport = broker.transport(&[]).await;
    let (calls, go) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
    let target = Target::topic(broker.topic.as_str()).server("one");
    let server =
        Server::new(&transport, target).concurrency(2).endpoint(slow(&calls, &go)).start().await.unwrap();
    let leaving = broker.transport(&[]).await;
    for _ in 0..2 {
        let client = client(&leaving, &broker.topic);
        tokio::spawn(async move { client.call::<String>(&Context::new(), "work", ()).await });
    }
    eventually("two calls", LONG, || async { calls.load(Ordering::SeqCst) == 2 }).await;
    // It deletes its reply queue.
    leaving.close().await.unwrap();
    go.add_permits(3);
    let client = client(&transport, &broker.topic);
    assert_eq!(client.call::<String>(&Context::new(), "work", ()).await.unwrap(), "done");
    within("the stop", LONG, server.stop()).await;
    transport.close().await.unwrap();
}

on_both_brokers!(
    a_call_returns_the_result_and_carries_the_context,
    a_failure_arrives_with_class_and_arguments,
    a_mistake_of_the_caller_is_said_before_anything_is_sent,
    a_fanout_cast_reaches_every_server_and_servers_share_the_rest,
    a_stop_finishes_what_it_began_and_leaves_the_rest,
    a_call_ends_at_its_timeout_and_a_monitored_one_goes_on_while_the_server_works,
    a_monitored_call_ends_when_the_server_is_gone,
    bodies_are_decompressed_whatever_the_own_setting,
    what_cannot_be_read_disturbs_nothing,
    what_cannot_be_read_is_said_to_the_caller,
    a_caller_that_went_away_holds_nothing_up,
);
