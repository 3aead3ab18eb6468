//! Many publishes in flight at a time: every one has its own outcome, and there are never more than the window takes.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use murano_messaging::{Binding, ErrorKind, Exchange, Message, Overflow};
use murano_testkit::within;

use crate::env::{Env, STEP, all, get, next, numbers, send, take_all, text, until_ready};

contract!(
    fault_11_unroutable_among_thousands_in_flight_each_fails_its_own,
    fault_12_nacks_among_thousands_in_flight_each_fail_their_own,
    fault_10_a_missing_exchange_fails_only_what_goes_there,
    an_exchange_deleted_under_thousands_in_flight,
    the_window_bounds_messages_in_flight,
    the_window_bounds_bytes_in_flight,
    thousands_of_gets_without_acks_are_in_flight_among_refused_ones,
);

/// A runtime whose only thread can be held, and with it the engines of the clients that connect on it.
struct Holdable(Option<tokio::runtime::Runtime>);

impl Holdable {
    fn new() -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        Self(Some(builder.worker_threads(1).enable_all().build().unwrap()))
    }

    fn runtime(&self) -> &tokio::runtime::Runtime {
        self.0.as_ref().expect("it is there until it is dropped")
    }

    /// Holds the thread until the guard is dropped.
    async fn hold(&self) -> std::sync::mpsc::Sender<()> {
        let (guard, dropped) = std::sync::mpsc::channel();
        let (held, holds) = tokio::sync::oneshot::channel();
        self.runtime().spawn(async move {
            held.send(()).unwrap();
            // Nothing is ever sent.
            let _ = dropped.recv();
        });
        holds.await.unwrap();
        guard
    }
}

impl Drop for Holdable {
    fn drop(&mut self) {
        // Waiting for its tasks is not allowed where others run.
        self.0.take().expect("dropped once").shutdown_background();
    }
}

async fn fault_11_unroutable_among_thousands_in_flight_each_fails_its_own(env: &Env) {
    const TASKS: u32 = 8;
    const EACH: u32 = 1_000;
    let runtime = Holdable::new();
    let connecting = env.options().window(10_000, 64 << 20).connect();
    let client = runtime.runtime().spawn(connecting).await.unwrap().unwrap();
    let queue = env.queue(&client).await;
    let missing = env.unique("missing");
    // Opens the publishing connection.
    send(&client, &queue, ["0.0"]).await;
    let held = runtime.hold().await;
    let all_sent = Arc::new(tokio::sync::Barrier::new(TASKS as usize + 1));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (client, queue, missing) = (client.clone(), queue.clone(), missing.clone());
            let all_sent = all_sent.clone();
            tokio::spawn(async move {
                let mut confirmations = Vec::new();
                for number in 0..EACH {
                    let key = if number % 5 == task % 5 { &missing } else { &queue };
                    let message = Message::text(format!("{task}.{number}"));
                    confirmations.push(client.publish_deferred("", key, message).await.unwrap());
                }
                all_sent.wait().await;
                for (number, confirmation) in (0..EACH).zip(confirmations) {
                    let outcome = within("the outcome", STEP, confirmation).await;
                    if number % 5 == task % 5 {
                        let error = outcome.expect_err("it has no route");
                        assert_eq!(error.kind(), ErrorKind::Unroutable, "{error}");
                        let returned = error.returned().unwrap();
                        assert_eq!(returned.message.body().as_ref(), format!("{task}.{number}").as_bytes());
                        assert_eq!(returned.routing_key, missing);
                    } else {
                        outcome.unwrap_or_else(|error| panic!("{task}.{number} has a route: {error}"));
                    }
                }
            })
        })
        .collect();
    all_sent.wait().await;
    assert_eq!(client.stats().in_flight, u64::from(TASKS * EACH));
    drop(held);
    for task in tasks {
        task.await.unwrap();
    }
    let routable = u64::from(TASKS * EACH * 4 / 5);
    let stats = client.stats();
    assert_eq!((stats.confirmed, stats.returned), (routable + 1, u64::from(TASKS * EACH) - routable));
    assert_eq!((stats.in_flight, stats.in_flight_bytes, stats.republished), (0, 0, 0));
    assert_eq!(text(&get(&client, &queue).await), "0.0");
    assert_eq!(u64::from(client.queue_info(&queue).await.unwrap().message_count), routable);
    // Every one of them, once, and each task's in its order.
    let consumer = client.consume(queue.as_str()).prefetch(0).no_ack(true).start().await.unwrap();
    let mut last = [None; TASKS as usize];
    for _ in 0..routable {
        let text = text(&next(&consumer).await);
        let (task, number) = text.split_once('.').unwrap();
        let (task, number): (usize, u32) = (task.parse().unwrap(), number.parse().unwrap());
        assert!(last[task].is_none_or(|before| before < number), "{task}.{number} after {:?}", last[task]);
        last[task] = Some(number);
    }
}

async fn fault_12_nacks_among_thousands_in_flight_each_fail_their_own(env: &Env) {
    let client = env.options().window(5_000, 64 << 20).connect().await.unwrap();
    let full = env.queue_with(&client, |queue| queue.max_length(7).overflow(Overflow::RejectPublish)).await;
    let open = env.queue(&client).await;
    let mut confirmations = Vec::new();
    for number in 0..3_000 {
        let queue = if number % 3 == 0 { &full } else { &open };
        let message = Message::text(number.to_string());
        confirmations.push((number, client.publish_deferred("", queue, message).await.unwrap()));
    }
    let mut taken = Vec::new();
    for (number, confirmation) in confirmations {
        match (number % 3, within("the outcome", STEP, confirmation).await) {
            (0, Ok(())) => taken.push(number.to_string()),
            (0, Err(error)) => assert_eq!(error.kind(), ErrorKind::Nacked, "{error}"),
            (_, outcome) => outcome.unwrap(),
        }
    }
    assert_eq!(take_all(&client, &full).await, taken);
    assert_eq!(taken.len(), 7);
    let expected: Vec<_> = (0..3_000).filter(|number| number % 3 != 0).map(|n: u32| n.to_string()).collect();
    assert_eq!(take_all(&client, &open).await, expected);
}

async fn fault_10_a_missing_exchange_fails_only_what_goes_there(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let missing = env.unique("missing");
    let mut confirmations = Vec::new();
    for number in 0..600 {
        let (exchange, key) = if number % 200 == 100 { (missing.as_str(), "") } else { ("", queue.as_str()) };
        let message = Message::text(number.to_string());
        confirmations.push((number, client.publish_deferred(exchange, key, message).await.unwrap()));
    }
    let mut expected = BTreeSet::new();
    for (number, confirmation) in confirmations {
        let outcome = within("the outcome", STEP, confirmation).await;
        if number % 200 == 100 {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            assert_eq!(error.reply_code(), Some(404));
            let text = format!("NOT_FOUND - no exchange '{missing}' in vhost '/'");
            assert!(error.reply_text().unwrap().contains(&text), "{error}");
        } else {
            outcome.unwrap_or_else(|error| panic!("{number}: {error}"));
            expected.insert(number.to_string());
        }
    }
    let received = take_all(&client, &queue).await;
    let distinct: BTreeSet<_> = received.iter().cloned().collect();
    assert_eq!(distinct, expected);
    let copies = (received.len() - distinct.len()) as u64;
    assert!(copies <= client.stats().republished, "{copies} of {}", client.stats().republished);
    assert_eq!(client.stats().reconnects, 0);
    client.declare_exchange(&Exchange::fanout(missing.as_str())).await.unwrap();
    client.publish(&missing, "", Message::text("now").mandatory(false)).await.unwrap();
}

/// Some are routed before: what each is told is true of it.
async fn an_exchange_deleted_under_thousands_in_flight(env: &Env) {
    let client = env.options().window(10_000, 64 << 20).connect().await.unwrap();
    let other = env.client().await;
    let queue = env.queue(&client).await;
    let exchange = env.unique("deleted");
    client.declare_exchange(&Exchange::fanout(exchange.as_str())).await.unwrap();
    client.bind(&Binding::queue(queue.as_str(), exchange.as_str())).await.unwrap();
    let mut confirmations = Vec::new();
    let mut deleting = None;
    for number in numbers(0..5_000) {
        if number == "1000" {
            let (other, exchange) = (other.clone(), exchange.clone());
            deleting = Some(tokio::spawn(async move { other.delete_exchange(&exchange).await.unwrap() }));
        }
        let confirmation = client.publish_deferred(&exchange, "", number.as_str()).await.unwrap();
        confirmations.push((number, confirmation));
    }
    deleting.expect("it began").await.unwrap();
    let (mut confirmed, mut refused, mut unknown) = (BTreeSet::new(), BTreeSet::new(), 0);
    for (number, confirmation) in confirmations {
        match within("the outcome", STEP, confirmation).await {
            Ok(()) => assert!(confirmed.insert(number)),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                if error.outcome_unknown() {
                    unknown += 1;
                } else {
                    refused.insert(number);
                }
            }
        }
    }
    let received: BTreeSet<String> = take_all(&client, &queue).await.into_iter().collect();
    assert!(confirmed.is_subset(&received), "a confirmed message is lost");
    assert!(refused.is_disjoint(&received), "a message is there that was refused for certain");
    println!(
        "{} confirmed, {} refused, {unknown} unknown, {} received",
        confirmed.len(),
        refused.len(),
        received.len()
    );
    send(&client, &queue, ["goes on"]).await;
    assert_eq!(client.stats().reconnects, 0);
}

async fn the_window_bounds_messages_in_flight(env: &Env) {
    let client = env.options().window(10, 1 << 20).connect().await.unwrap();
    let queue = env.queue(&client).await;
    let most = AtomicU64::new(0);
    all((0..8).map(|_| async {
        for number in numbers(0..250) {
            let confirmation = client.publish_deferred("", &queue, Message::text(number)).await.unwrap();
            most.fetch_max(client.stats().in_flight, Ordering::Relaxed);
            drop(confirmation);
        }
    }))
    .await;
    assert_eq!(most.load(Ordering::Relaxed), 10, "full, and never over");
    until_ready(&client, &queue, 2_000).await;
}

async fn the_window_bounds_bytes_in_flight(env: &Env) {
    const SIZE: usize = 100_000;
    let client = env.options().window(1_000, 3 * SIZE).connect().await.unwrap();
    let queue = env.queue(&client).await;
    let most = AtomicU64::new(0);
    all((0..4).map(|_| async {
        for _ in 0..25 {
            drop(client.publish_deferred("", &queue, Message::new(vec![0; SIZE])).await.unwrap());
            most.fetch_max(client.stats().in_flight_bytes, Ordering::Relaxed);
        }
    }))
    .await;
    assert_eq!(most.load(Ordering::Relaxed), 3 * SIZE as u64, "full, and never over");
    // Larger than the whole window: alone.
    let large = client.publish("", &queue, Message::new(vec![1; 10 * SIZE]));
    within("a message larger than the window", STEP, large).await.unwrap();
    assert_eq!(client.queue_info(&queue).await.unwrap().message_count, 101);
}

async fn thousands_of_gets_without_acks_are_in_flight_among_refused_ones(env: &Env) {
    // More than a connection has channels.
    const COUNT: u32 = 3_000;
    let client = env.client().await;
    let queue = env.queue(&client).await;
    send(&client, &queue, numbers(0..COUNT)).await;
    let nothing = env.unique("nothing");
    let seen = Mutex::new(BTreeSet::new());
    let get = async |round: u32| {
        if round.is_multiple_of(500) {
            let refused = client.get_no_ack(&nothing).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::NotFound);
        }
        let delivery = client.get_no_ack(&queue).await.unwrap().unwrap();
        assert!(seen.lock().unwrap().insert(text(&delivery)));
    };
    within("the gets", STEP, all((0..COUNT).map(get))).await;
    assert!(client.get_no_ack(&queue).await.unwrap().is_none());
}
