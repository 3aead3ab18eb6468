//! Answers to publishes that other publishes depend on.

use std::time::Duration;

use murano_messaging::{Client, ErrorKind, Message};
use murano_testkit::within;
use tokio::sync::oneshot;

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

/// Nacks for the first three of so many publishes, over longer than the client takes nothing but nacks on a channel.
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

/// A queue that was full and refused publishes has room again: publishing goes on.
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
        pending.push(client.publish_nowait("", "q", Message::text(text)).await.unwrap());
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

/// Requests have no other channel to go on with: that would give up the answers that are still to come.
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
        pending.push(client.publish_nowait("", "q", request).await.unwrap());
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
    let guilty = client.publish_nowait("missing", "", Message::text("x")).await.unwrap();
    let innocent = client.publish_nowait("", "q", Message::text("y")).await.unwrap();
    within("both publishes", LONG, on_seen).await.unwrap();
    guilty.cancel();
    given_up.send(()).unwrap();
    within("the other publish", LONG, innocent).await.unwrap();
    drop(client);
    server.end().await;
}
