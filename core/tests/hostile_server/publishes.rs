//! Answers to publishes that other publishes depend on.

use std::time::Duration;

use murano_messaging::{Client, ErrorKind, Message, Options, Queue};
use murano_testkit::within;
use tokio::{net::TcpListener, sync::oneshot};

use crate::{
    bytes::*,
    script::{LONG, Peer, Server},
};

/// A client that publishes on the connection it has.
async fn client_of<T: Send + 'static>(server: &Server<T>) -> Client {
    let options = server.options().separate_publish_connection(false).operation_timeout(LONG / 2);
    within("connecting", LONG, options.connect()).await.unwrap()
}

async fn confirm(peer: &mut Peer, channel: u16, id: Id, tag: u64) {
    peer.send(method(channel, id, &[&tag.to_be_bytes()[..], &[0]].concat())).await;
}

/// Nacks the first three of `publishes` publishes, over a longer time than the client accepts only nacks on a channel.
async fn only_nacks(peer: &mut Peer, publishes: u64) -> u16 {
    let channel = peer.until(PUBLISH).await.channel;
    for _ in 1..publishes {
        peer.until(PUBLISH).await;
    }
    confirm(peer, channel, NACK, 1).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    confirm(peer, channel, NACK, 2).await;
    confirm(peer, channel, NACK, 3).await;
    channel
}

/// A queue that was full and refused publishes has room again: publishing continues.
#[tokio::test(flavor = "multi_thread")]
async fn an_ack_after_only_nacks() {
    let server = Server::start(async move |mut peer| {
        peer.open().await;
        let channel = only_nacks(&mut peer, 4).await;
        confirm(&mut peer, channel, ACK, 4).await;
        let next = peer.until(PUBLISH).await;
        confirm(&mut peer, next.channel, ACK, 5).await;
        peer.until(CLOSE).await;
    })
    .await;
    let client = client_of(&server).await;
    let mut pending = Vec::new();
    for text in ["a", "b", "c", "d"] {
        pending.push(client.publish_deferred("", "q", Message::text(text)).await.unwrap());
    }
    let last = pending.pop().unwrap();
    for nacked in pending {
        assert_eq!(within("a nack", LONG, nacked).await.unwrap_err().kind(), ErrorKind::Nacked);
    }
    within("the ack", LONG, last).await.unwrap();
    within("the next publish", LONG, client.publish("", "q", Message::text("e"))).await.unwrap();
    drop(client);
    server.end().await;
}

/// Requests cannot move to another channel: that would give up the answers that are still to come.
#[tokio::test(flavor = "multi_thread")]
async fn only_nacks_for_requests() {
    const REPLY_TO: &str = "amq.rabbitmq.reply-to";
    let server = Server::start(async move |mut peer| {
        peer.open().await;
        let channel = only_nacks(&mut peer, 3).await;
        let next = peer.method_but(&[], PUBLISH).await;
        assert_eq!(next.channel, channel);
        confirm(&mut peer, channel, ACK, 4).await;
        peer.until(CLOSE).await;
    })
    .await;
    let client = client_of(&server).await;
    let answers = client.consume(REPLY_TO).no_ack(true).start();
    let answers = within("consuming", LONG, answers).await.unwrap();
    let mut pending = Vec::new();
    for text in ["a", "b", "c"] {
        let request = Message::text(text).reply_to(REPLY_TO);
        pending.push(client.publish_deferred("", "q", request).await.unwrap());
    }
    for nacked in pending {
        assert_eq!(within("a nack", LONG, nacked).await.unwrap_err().kind(), ErrorKind::Nacked);
    }
    let request = Message::text("d").reply_to(REPLY_TO);
    within("the next request", LONG, client.publish("", "q", request)).await.unwrap();
    drop((answers, client));
    server.end().await;
}

/// The publish that the channel was closed for was given up meanwhile: the other one is not to blame.
#[tokio::test(flavor = "multi_thread")]
async fn a_publish_that_was_given_up_is_refused() {
    let (seen, on_seen) = oneshot::channel();
    let (given_up, on_given_up) = oneshot::channel();
    let server = Server::start(async move |mut peer| {
        peer.open().await;
        let channel = peer.until(PUBLISH).await.channel;
        peer.until(PUBLISH).await;
        seen.send(()).unwrap();
        on_given_up.await.unwrap();
        let text = "NOT_FOUND - no exchange 'missing' in vhost '/'";
        peer.send(method(channel, CHANNEL_CLOSE, &[&[1, 148][..], &short(text), &[0, 60, 0, 40]].concat()))
            .await;
        let again = peer.until(PUBLISH).await;
        confirm(&mut peer, again.channel, ACK, 1).await;
        peer.until(CLOSE).await;
    })
    .await;
    let client = client_of(&server).await;
    let guilty = client.publish_deferred("missing", "", Message::text("x")).await.unwrap();
    let innocent = client.publish_deferred("", "q", Message::text("y")).await.unwrap();
    within("both publishes", LONG, on_seen).await.unwrap();
    guilty.cancel();
    given_up.send(()).unwrap();
    within("the other publish", LONG, innocent).await.unwrap();
    drop(client);
    server.end().await;
}

/// Requests that are made possible while the broker blocks publishers wait like all others.
#[tokio::test(flavor = "multi_thread")]
async fn requests_while_publishers_are_blocked() {
    const REPLY_TO: &str = "amq.rabbitmq.reply-to";
    let server = Server::start(async move |mut peer| {
        peer.open().await;
        let declare = peer.until(DECLARE).await;
        peer.send(method(0, BLOCKED, &short("memory"))).await;
        peer.answer(&declare).await;
        let close = peer.method_but(&[CHANNEL_OPEN, SELECT, CONSUME, CANCEL, CHANNEL_CLOSE], CLOSE).await;
        peer.answer(&close).await;
    })
    .await;
    let client = client_of(&server).await;
    within("the alarm", LONG, client.queue_info("q")).await.unwrap();
    let answers = client.consume(REPLY_TO).no_ack(true).start();
    let answers = within("consuming", LONG, answers).await.unwrap();
    let requests = client.publisher("", "q").timeout(Some(Duration::from_millis(100)));
    let request = Message::text("?").reply_to(REPLY_TO);
    let error = within("the deadline", LONG, requests.publish(request)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Blocked, "{error}");
    assert!(!error.outcome_unknown(), "{error}");
    drop((answers, requests, client));
    server.end().await;
}

/// The publishing connection is made while the other one is brought back: the queues are there before the publishes.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_publish_during_a_recovery() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (lose, on_lose) = oneshot::channel::<()>();
    let (declaring, on_declaring) = oneshot::channel();
    let server = tokio::spawn(within("the scripts", LONG, async move {
        let accept = async || Peer::new(listener.accept().await.unwrap().0);
        let mut lost = accept().await;
        lost.open().await;
        let declare = lost.until(DECLARE).await;
        lost.answer(&declare).await;
        on_lose.await.unwrap();
        drop(lost);
        let mut main = accept().await;
        main.open().await;
        let declare = main.until(DECLARE).await;
        declaring.send(()).unwrap();
        let mut publishing = accept().await;
        publishing.open().await;
        // Longer than a publish takes that does not wait.
        let early = tokio::time::timeout(Duration::from_millis(300), publishing.until(PUBLISH)).await;
        assert!(early.is_err(), "published before the queue is there");
        main.answer(&declare).await;
        let main = tokio::spawn(async move {
            let close = main.until(CLOSE).await;
            main.answer(&close).await;
        });
        let publish = publishing.until(PUBLISH).await;
        confirm(&mut publishing, publish.channel, ACK, 1).await;
        let close = publishing.until(CLOSE).await;
        publishing.answer(&close).await;
        main.await.unwrap();
    }));
    let options = Options::new().host("127.0.0.1", port).operation_timeout(LONG / 2);
    let client = within("connecting", LONG, options.connect()).await.unwrap();
    within("declaring", LONG, client.declare_queue(&Queue::new("q"))).await.unwrap();
    lose.send(()).unwrap();
    within("the recovery", LONG, on_declaring).await.unwrap();
    within("the publish", LONG, client.publish("", "q", Message::text("x"))).await.unwrap();
    within("closing", LONG, client.close()).await.unwrap();
    within("the server", LONG, server).await.unwrap();
}
