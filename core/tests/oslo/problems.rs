//! The problems that operators of oslo.messaging report, by their number, with what is promised here instead. Those that
//! only Python has (a loop that is kept busy, forks, the names of workers) are tested there, those of connections alone
//! (host names of certificates) with the client.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use murano_messaging::{
    ErrorKind,
    options::Host,
    oslo::{
        Config, Context, Error, Failure, Target, Transport,
        notify::{Notifier, Priority},
        rpc::{AckOn, Endpoint, Server},
    },
};
use murano_testkit::{eventually, free_port, within};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::{
    Broker, LONG, on_both_brokers,
    peers::{Add, client, request, server, slow, sums, taken},
    warnings,
};

fn counters(permits: usize) -> (Arc<AtomicU32>, Arc<Semaphore>) {
    (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(permits)))
}

/// The name of a transport's reply queue: whoever reads a topic sees it in the requests.
async fn reply_queue(transport: &Transport, topic: &str) -> String {
    let topic = format!("{topic}-spy");
    let spy = client(transport, &topic);
    let spying = tokio::spawn(async move { spy.call::<Value>(&Context::new(), "x", ()).await });
    let seen = request(&taken(transport.client(), &topic).await);
    spying.abort();
    seen["_reply_q"].as_str().unwrap().to_owned()
}

async fn problem_01_the_reply_queue_is_deleted_with_16_calls_in_flight(broker: Broker) {
    let transport = broker.transport(&[]).await;
    let (calls, go) = counters(0);
    let servers = broker.transport(&[]).await;
    let _server = server(&servers, &broker.topic, "one", slow(&calls, &go)).await;
    let client = client(&transport, &broker.topic);
    let reply_queue = reply_queue(&transport, &broker.topic).await;
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

async fn problem_02_the_queues_of_a_server_are_deleted(broker: Broker) {
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

async fn problem_03_a_call_ends_at_its_timeout_while_the_broker_is_away(broker: Broker) {
    let transport = broker.transport(&[]).await;
    let fresh = broker.transport(&[]).await;
    let server = server(&transport, &broker.topic, "one", sums()).await;
    let good = client(&transport, &broker.topic);
    assert_eq!(good.call::<i64>(&Context::new(), "add", Add { a: 1, b: 2 }).await.unwrap(), 3);
    broker.away(true);
    let timeout = Duration::from_secs(1);
    let context = Context::new();
    // One has its reply queue, the other has not.
    for transport in [&transport, &fresh] {
        let client = client(transport, &broker.topic).timeout(timeout);
        let call = client.call::<i64>(&context, "add", Add { a: 1, b: 2 });
        let error = within("the timeout", timeout * 10, call).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { waited, .. } if waited == timeout), "{error}");
        let cast = client.cast(&context, "add", Add { a: 1, b: 2 });
        let error = within("the timeout of a cast", timeout * 10, cast).await.unwrap_err();
        assert!(matches!(&error, Error::Messaging(error) if error.kind() == ErrorKind::Timeout), "{error}");
    }
    broker.away(false);
    for transport in [&transport, &fresh] {
        let call = client(transport, &broker.topic);
        assert_eq!(call.call::<i64>(&Context::new(), "add", Add { a: 1, b: 2 }).await.unwrap(), 3);
    }
    server.stop().await;
    transport.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn problem_04_the_first_of_three_hosts_accepts_and_says_nothing() {
    let listening = murano_messaging::Broker::new().listen(("127.0.0.1", 0)).await.unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ports = [silent.local_addr().unwrap().port(), listening.port(), free_port()];
    let hosts = ports.map(|port| Host::new("127.0.0.1", port));
    // Three hosts share it, and there are two connections to make.
    let config = Config::from_url("rabbit://")
        .unwrap()
        .client_options(|options| options.hosts(hosts).connect_timeout(Duration::from_secs(3)));
    let transport = within("a connection", LONG, Transport::with_config(config)).await.unwrap();
    let server = server(&transport, "sums", "one", sums()).await;
    let (client, context) = (client(&transport, "sums"), Context::new());
    let sum = client.call::<i64>(&context, "add", Add { a: 1, b: 2 });
    assert_eq!(within("the reply", LONG, sum).await.unwrap(), 3);
    server.stop().await;
    transport.close().await.unwrap();
}

async fn problem_07_what_exists_with_other_properties_is_used_as_it_is(broker: Broker) {
    warnings::keep();
    let durable = broker.transport(&[("amqp_durable_queues", "true")]).await;
    let transient = broker.transport(&[]).await;
    let server = server(&durable, &broker.topic, "one", sums()).await;
    for _ in 0..3 {
        let sum =
            client(&transient, &broker.topic).call::<i64>(&Context::new(), "add", Add { a: 2, b: 3 }).await;
        assert_eq!(sum.unwrap(), 5);
    }
    let second = crate::peers::server(&transient, &broker.topic, "two", sums()).await;
    let to_two = client(&durable, &broker.topic).with_target(|target| target.server("two"));
    assert_eq!(to_two.call::<i64>(&Context::new(), "add", Add { a: 3, b: 3 }).await.unwrap(), 6);
    assert_eq!(warnings::of("with other properties", &format!("exchange '{}'", broker.exchange())), 1);
    assert_eq!(warnings::of("with other properties", &format!("queue '{}'", broker.topic)), 1);
    second.stop().await;
    server.stop().await;
}

async fn problem_08_the_broker_denies_transient_queues(broker: Broker) {
    // So does RabbitMQ 4.3 by itself.
    if let Some(embedded) = broker.as_embedded() {
        embedded.deny_deprecated(true);
    }
    let transport = broker.transport(&[]).await;
    let (calls, go) = counters(100);
    let server = server(&transport, &broker.topic, "one", slow(&calls, &go)).await;
    let client = client(&transport, &broker.topic);
    client.call::<String>(&Context::new(), "work", ()).await.unwrap();
    client.clone().with_target(|target| target.fanout(true)).cast(&Context::new(), "work", ()).await.unwrap();
    eventually("the fanout cast", LONG, || async { calls.load(Ordering::SeqCst) == 2 }).await;
    // What is made again is accepted too.
    for queue in [broker.topic.clone(), reply_queue(&transport, &broker.topic).await] {
        transport.client().delete_queue(&queue).await.unwrap();
        client.call::<String>(&Context::new(), "work", ()).await.unwrap();
    }
    let notifier = Notifier::new(&transport, "p").topics([broker.topic.as_str()]);
    notifier.notify(&Context::new(), Priority::Info, "e", json!({})).await.unwrap();
    server.stop().await;
    transport.close().await.unwrap();
}

async fn problem_09_casts_before_the_first_start_of_their_server(broker: Broker) {
    let transport = broker.transport(&[]).await;
    let client = client(&transport, &broker.topic);
    let to_one = client.clone().with_target(|target| target.server("one"));
    for _ in 0..5 {
        client.cast(&Context::new(), "work", ()).await.unwrap();
        to_one.cast(&Context::new(), "work", ()).await.unwrap();
    }
    let (calls, go) = counters(10);
    let other = broker.transport(&[]).await;
    let server = server(&other, &broker.topic, "one", slow(&calls, &go)).await;
    eventually("ten calls", LONG, || async { calls.load(Ordering::SeqCst) == 10 }).await;
    server.stop().await;
    other.close().await.unwrap();
    transport.close().await.unwrap();
}

async fn problem_10_a_server_dies_with_a_backlog_of_200(broker: Broker) {
    const POOL: u32 = 8;
    for (ack_on, may_be_lost) in [(AckOn::Dispatch, POOL), (AckOn::Done, 0)] {
        let topic = format!("{}-{ack_on:?}", broker.topic);
        let options = [("amqp_durable_queues", "true")];
        let (transport, dying) = (broker.transport(&options).await, broker.transport(&options).await);
        let client = client(&transport, &topic);
        for _ in 0..200 {
            client.cast(&Context::new(), "work", ()).await.unwrap();
        }
        let (first, never) = counters(0);
        let target = Target::topic(topic.as_str()).server("one");
        let server = Server::new(&dying, target).ack_on(ack_on).concurrency(POOL as u16);
        let server = server.endpoint(slow(&first, &never)).start().await.unwrap();
        eventually("the pool is busy", LONG, || async { first.load(Ordering::SeqCst) == POOL }).await;
        drop(server);
        dying.client().close().await.unwrap();
        let (second, go) = counters(200);
        let next = crate::peers::server(&transport, &topic, "two", slow(&second, &go)).await;
        let expected = 200 - may_be_lost;
        eventually("the rest", LONG, || async { second.load(Ordering::SeqCst) == expected }).await;
        assert_eq!(first.load(Ordering::SeqCst), POOL);
        next.stop().await;
        assert_eq!(second.load(Ordering::SeqCst), expected);
        transport.close().await.unwrap();
    }
}

async fn problem_11_a_second_server_joins_a_backlog_of_300(broker: Broker) {
    let transport = broker.transport(&[]).await;
    let client = client(&transport, &broker.topic);
    for _ in 0..300 {
        client.cast(&Context::new(), "work", ()).await.unwrap();
    }
    let ((first, go_first), (second, go_second)) = (counters(0), counters(0));
    let start = |name: &str, calls, go| {
        let target = Target::topic(broker.topic.as_str()).server(name);
        Server::new(&transport, target).concurrency(8).endpoint(slow(calls, go)).start()
    };
    let one = start("one", &first, &go_first).await.unwrap();
    eventually("eight at a time", LONG, || async { first.load(Ordering::SeqCst) == 8 }).await;
    let two = start("two", &second, &go_second).await.unwrap();
    eventually("the other takes its share", LONG, || async { second.load(Ordering::SeqCst) == 8 }).await;
    // Whatever the first does, the second gets as much as it can work on.
    go_second.add_permits(100);
    eventually("a third of it", LONG, || async { second.load(Ordering::SeqCst) == 108 }).await;
    assert_eq!(first.load(Ordering::SeqCst), 8);
    go_first.add_permits(300);
    go_second.add_permits(300);
    let both = || first.load(Ordering::SeqCst) + second.load(Ordering::SeqCst);
    eventually("all", LONG, || async { both() == 300 }).await;
    one.stop().await;
    two.stop().await;
    transport.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn problem_14_three_servers_and_sixteen_callers_share_two_connections() {
    let broker = Broker::embedded();
    let transport = broker.transport(&[]).await;
    let mut servers = Vec::new();
    for name in ["one", "two", "three"] {
        servers.push(server(&transport, &broker.topic, name, sums()).await);
    }
    let calls: Vec<_> = (0..16)
        .map(|a| {
            let client = client(&transport, &broker.topic);
            tokio::spawn(
                async move { client.call::<i64>(&Context::new(), "add", Add { a, b: 1 }).await.unwrap() },
            )
        })
        .collect();
    for (a, call) in (0..).zip(calls) {
        assert_eq!(within("the reply", LONG, call).await.unwrap(), a + 1);
    }
    assert_eq!(broker.as_embedded().unwrap().connections(), 2);
}

async fn problem_20_a_notification_fails_at_its_timeout_while_the_broker_is_away(broker: Broker) {
    let (transport, fresh) = (broker.transport(&[]).await, broker.transport(&[]).await);
    let (context, timeout) = (Context::new(), Duration::from_secs(1));
    let notifier =
        |transport: &Transport| Notifier::new(transport, "p").topics([broker.topic.as_str()]).timeout(LONG);
    notifier(&transport).notify(&context, Priority::Info, "before", json!({})).await.unwrap();
    broker.away(true);
    // One has declared its exchange, the other has not.
    for transport in [&transport, &fresh] {
        let short = notifier(transport).timeout(timeout);
        let notify = short.notify(&context, Priority::Info, "meanwhile", json!({}));
        let error = within("the timeout", timeout * 10, notify).await.unwrap_err();
        assert!(matches!(&error, Error::Messaging(error) if error.kind() == ErrorKind::Timeout), "{error}");
    }
    broker.away(false);
    notifier(&fresh).notify(&context, Priority::Info, "after", json!({})).await.unwrap();
    transport.close().await.unwrap();
}

/// Each call cuts the connections between its delivery and its ack, or between its reply and the confirm of that.
async fn problem_23_nothing_is_dispatched_twice_when_connections_are_cut(broker: Broker) {
    const CALLS: usize = 12;
    let broker = Arc::new(broker);
    let transport = broker.transport(&[]).await;
    let counts: Arc<Vec<AtomicU32>> = Arc::new((0..CALLS).map(|_| AtomicU32::new(0)).collect());
    let endpoint = {
        let (broker, counts) = (broker.clone(), counts.clone());
        Endpoint::new().method("count", move |_: Context, args: Value| {
            let (broker, counts) = (broker.clone(), counts.clone());
            async move {
                let number = args["number"].as_u64().unwrap() as usize;
                counts[number].fetch_add(1, Ordering::SeqCst);
                broker.cut();
                if number.is_multiple_of(2) {
                    // Its reply, and the next requests, meet a connection that is being made.
                    tokio::task::yield_now().await;
                }
                Ok::<_, Failure>(number)
            }
        })
    };
    let server = server(&transport, &broker.topic, "one", endpoint).await;
    let client = client(&transport, &broker.topic);
    for first in (0..CALLS).step_by(4) {
        let calls: Vec<_> = (first..first + 4)
            .map(|number| {
                let client = client.clone();
                tokio::spawn(async move {
                    client.call::<usize>(&Context::new(), "count", json!({"number": number})).await
                })
            })
            .collect();
        for (number, call) in calls.into_iter().enumerate() {
            assert_eq!(within("the reply", LONG, call).await.unwrap().unwrap(), first + number);
        }
    }
    assert!(counts.iter().all(|count| count.load(Ordering::SeqCst) == 1), "{counts:?}");
    server.stop().await;
    transport.close().await.unwrap();
}

on_both_brokers!(
    problem_01_the_reply_queue_is_deleted_with_16_calls_in_flight,
    problem_02_the_queues_of_a_server_are_deleted,
    problem_03_a_call_ends_at_its_timeout_while_the_broker_is_away,
    problem_07_what_exists_with_other_properties_is_used_as_it_is,
    problem_08_the_broker_denies_transient_queues,
    problem_09_casts_before_the_first_start_of_their_server,
    problem_10_a_server_dies_with_a_backlog_of_200,
    problem_11_a_second_server_joins_a_backlog_of_300,
    problem_20_a_notification_fails_at_its_timeout_while_the_broker_is_away,
    problem_23_nothing_is_dispatched_twice_when_connections_are_cut,
);
