//! Faults 4, 25 and 27 of `docs/faults.md`: a network that loses, slows and cuts.

use std::time::{Duration, Instant};

use murano_messaging::{Event, Message, Queue, events::Role};
use murano_testkit::{Direction, Proxy, shared_node, unique, within};

use crate::load::{IN_FLIGHT, LONG, Load, account, client_with_queue, empty_queue, expect_event, patient};

pub async fn proxy() -> Proxy {
    let uri = shared_node().await;
    Proxy::start(uri.rsplit_once(':').unwrap().1.parse().unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_04_half_open_connection() {
    let proxy = proxy().await;
    let queue = unique("q");
    let client = patient(&proxy.uri()).heartbeat(Duration::from_secs(2)).connect().await.unwrap();
    client.declare_queue(&Queue::new(queue.as_str())).await.unwrap();
    let load = Load::start(&client, &queue, IN_FLIGHT);
    load.more(300).await;
    let events = &mut client.events();
    proxy.stall_all();
    let started = Instant::now();
    expect_event("the silence is noticed", events, |event| {
        matches!(event, Event::Lost { role: Role::Main, .. }).then_some(())
    })
    .await;
    println!("noticed after {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    // The publishing connection is silent too; what it carried must be sent again.
    let unconfirmed = client.stats().in_flight;
    assert!(unconfirmed > 0);
    proxy.cut();
    expect_event("the cut is noticed", events, |event| {
        matches!(event, Event::Recovering { role: Role::Publish, .. }).then_some(())
    })
    .await;
    proxy.unstall();
    load.more(300).await;
    let published = load.finish().await;
    let received = empty_queue(&client, &queue).await;
    account(&client, &published, &received);
    assert_eq!(client.stats().republished, unconfirmed);
    client.delete_queue(&queue).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_25_slow_consumer_and_slow_network() {
    let proxy = proxy().await;
    let queue = unique("q");
    let direct = client_with_queue(shared_node().await, &Queue::new(queue.as_str())).await;
    let body = vec![7; 64 * 1024];
    for _ in 0..100 {
        direct.publish("", &queue, Message::new(body.clone())).await.unwrap();
    }
    let client = patient(&proxy.uri())
        .heartbeat(Duration::from_secs(3))
        .delivery_buffer(256 * 1024)
        .connect()
        .await
        .unwrap();
    let consumer = client.consume(queue.as_str()).prefetch(0).start().await.unwrap();
    // The application looks away for several heartbeats: what is held is bounded, and the connection lives.
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        let held = client.stats().undelivered_bytes;
        // A read may bring what is one buffer over the bound.
        assert!(held <= 256 * 1024 + 512 * 1024, "{held} bytes held");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    proxy.throttle(Some(2 * 1024 * 1024));
    for _ in 0..100 {
        let delivery = within("a slow delivery", LONG, consumer.next()).await.unwrap().unwrap();
        assert_eq!(delivery.body().len(), body.len());
        delivery.ack().unwrap();
    }
    assert_eq!(client.stats().reconnects, 0);
    direct.delete_queue(&queue).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_25_full_socket_buffer() {
    let proxy = proxy().await;
    let queue = unique("q");
    let client = client_with_queue(&proxy.uri(), &Queue::new(queue.as_str())).await;
    client.publish("", &queue, Message::text("opens the connection")).await.unwrap();
    proxy.stall(Direction::ToBroker);
    let publisher = client.publisher("", queue.as_str());
    let body = vec![1; 1024 * 1024];
    let mut pending = Vec::new();
    // The window (64 MiB) fills; publishing waits and nothing grows.
    let full = loop {
        let publish = publisher.publish_deferred(Message::new(body.clone()));
        match tokio::time::timeout(Duration::from_secs(2), publish).await {
            Ok(confirmation) => pending.push(confirmation.unwrap()),
            Err(_) => break client.stats(),
        }
        assert!(pending.len() <= 64, "the window is 64 MiB");
    };
    assert_eq!(full.in_flight, 64);
    proxy.unstall();
    for confirmation in pending {
        within("a confirm", LONG, confirmation).await.unwrap();
    }
    assert_eq!(client.delete_queue(&queue).await.unwrap(), 65);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_27_cut_at_every_byte_of_the_handshake() {
    let proxy = proxy().await;
    // What a handshake takes in each direction.
    let client = patient(&proxy.uri()).connect().await.unwrap();
    let sizes = [proxy.bytes(Direction::ToBroker), proxy.bytes(Direction::ToClient)];
    client.close().await.unwrap();
    for (direction, size) in [(Direction::ToBroker, sizes[0]), (Direction::ToClient, sizes[1])] {
        for limit in 1..size {
            proxy.cut_after(limit, direction);
            let options = patient(&proxy.uri()).connect_timeout(Duration::from_secs(5));
            let result = within("an answer", LONG, options.connect()).await;
            // The very last bytes may be more than the client needs.
            if let Err(error) = result {
                assert!(!error.to_string().is_empty());
            } else {
                assert!(
                    limit + 16 >= size,
                    "connected although cut after {limit} of {size} bytes {direction:?}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_27_cut_at_every_byte_of_a_publish() {
    let proxy = proxy().await;
    let queue = unique("q");
    let direct = client_with_queue(shared_node().await, &Queue::new(queue.as_str())).await;
    // Where the first publish begins and ends on its connection.
    let probe = patient(&proxy.uri()).separate_publish_connection(false).connect().await.unwrap();
    let begin = proxy.bytes(Direction::ToBroker);
    probe.publish("", &queue, Message::text("m")).await.unwrap();
    let size = proxy.bytes(Direction::ToBroker) - begin;
    probe.close().await.unwrap();
    let handshake = begin;
    let mut sent = 1;
    // From the first byte on: before that, the cut may end the handshake.
    for offset in 1..=size {
        proxy.cut_after(handshake + offset, Direction::ToBroker);
        let client = patient(&proxy.uri()).separate_publish_connection(false).connect().await.unwrap();
        within("the publish survives", LONG, client.publish("", &queue, Message::text("m"))).await.unwrap();
        sent += 1;
        let stats = client.stats();
        assert_eq!((stats.published, stats.confirmed), (1, 1));
        client.close().await.unwrap();
    }
    let received = direct.delete_queue(&queue).await.unwrap();
    // A copy may be there twice when the cut came between the broker's taking it and its confirm.
    assert!(received >= sent, "{received} of {sent}");
    println!("{sent} sent, {received} received");
}
