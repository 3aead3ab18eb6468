//! What a publish is told that the broker did not answer: whether it may have been taken.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake},
    time::Duration,
};

use murano_messaging::{Client, Confirmation, ErrorKind, Event, Message, Recovery};
use murano_testkit::{eventually, within};
use tokio::sync::oneshot;

use crate::{
    bytes::*,
    script::{LONG, Server},
};

/// A client whose server took one publish, then ended the connection and is never there again. The second publish was
/// made after that.
async fn deserted(recovery: Recovery, deadline: Option<Duration>) -> (Client, Confirmation, Confirmation) {
    let (seen, on_seen) = oneshot::channel();
    let server = Server::start(async move |mut peer| {
        peer.open().await;
        peer.until(PUBLISH).await;
        seen.send(()).unwrap();
    })
    .await;
    let options = server.options().separate_publish_connection(false).recovery(recovery);
    let options = options.operation_timeout(Duration::from_millis(500));
    let client = within("connecting", LONG, options.connect()).await.unwrap();
    let mut events = client.events();
    let publisher = client.publisher("", "q").timeout(deadline);
    let sent = publisher.publish_deferred("sent").await.unwrap();
    within("the publish", LONG, on_seen).await.unwrap();
    server.end().await;
    within("the loss", LONG, async { while !matches!(events.next().await, Some(Event::Lost { .. })) {} })
        .await;
    let queued = publisher.publish_deferred("queued").await.unwrap();
    (client, sent, queued)
}

async fn assert_told(sent: Confirmation, queued: Confirmation, kind: ErrorKind) {
    for (confirmation, unknown) in [(sent, true), (queued, false)] {
        let error = within("the result", LONG, confirmation).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome_unknown()), (kind, unknown), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_after_a_lost_connection_leaves_the_outcome_of_what_was_sent_unknown() {
    let (client, sent, queued) = deserted(Recovery::default(), Some(Duration::from_millis(500))).await;
    assert_told(sent, queued, ErrorKind::Timeout).await;
    drop(client);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_after_a_lost_connection_leaves_the_outcome_of_what_was_sent_unknown() {
    let (client, sent, queued) = deserted(Recovery::default(), None).await;
    sent.cancel();
    queued.cancel();
    assert_told(sent, queued, ErrorKind::Cancelled).await;
    eventually("their places are free", LONG, || async { client.stats().in_flight == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_after_a_lost_connection_leaves_the_outcome_of_what_was_sent_unknown() {
    let (client, sent, queued) = deserted(Recovery::default(), None).await;
    assert_eq!(within("the close", LONG, client.close()).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_told(sent, queued, ErrorKind::Closed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_gives_up_leaves_the_outcome_of_what_was_sent_unknown() {
    let recovery = Recovery { max_elapsed: Some(Duration::from_millis(300)), ..Recovery::default() };
    let (_client, sent, queued) = deserted(recovery, None).await;
    assert_told(sent, queued, ErrorKind::ConnectFailed).await;
}

/// AMQP 0-9-1 section 1.5.2.3. What was sent would have an unknown outcome.
#[tokio::test(flavor = "multi_thread")]
async fn channel_flow_is_obeyed() {
    let (stopped, on_stopped) = oneshot::channel();
    let (go_on, on_go_on) = oneshot::channel();
    let server = Server::start(async move |mut peer| {
        const FLOW_OK: Id = (20, 21);
        peer.open().await;
        let first = peer.until(PUBLISH).await;
        let ack = |tag: u64| method(first.channel, ACK, &[&tag.to_be_bytes()[..], &[0]].concat());
        peer.send(ack(1)).await;
        peer.send(method(first.channel, FLOW, &[0])).await;
        assert_eq!(peer.until(FLOW_OK).await.fields, [0]);
        stopped.send(()).unwrap();
        on_go_on.await.unwrap();
        peer.send(method(first.channel, FLOW, &[1])).await;
        let answer = peer.method_but(&[], FLOW_OK).await;
        assert_eq!(answer.fields, [1]);
        peer.until(PUBLISH).await;
        peer.send(ack(2)).await;
        peer.until(CLOSE).await;
    })
    .await;
    let client = server.options().separate_publish_connection(false).operation_timeout(LONG).connect();
    let client = within("connecting", LONG, client).await.unwrap();
    within("the first publish", LONG, client.publish("", "q", "first")).await.unwrap();
    within("the stop", LONG, on_stopped).await.unwrap();
    let waits = client.publish_deferred("", "q", "waits").await.unwrap();
    let impatient = client.publisher("", "q").timeout(Some(Duration::from_millis(100)));
    let error = within("the deadline", LONG, impatient.publish("late")).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome_unknown()), (ErrorKind::Blocked, false), "{error}");
    assert!(error.to_string().contains("channel.flow"), "{error}");
    go_on.send(()).unwrap();
    within("the publish that waited", LONG, waits).await.unwrap();
    drop((impatient, client));
    server.end().await;
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Its properties do not fit into a frame, which is found by the thread of another publish.
#[tokio::test]
async fn a_publish_that_cannot_be_encoded_wakes_its_waiter_whoever_finds_it() {
    let server = Server::start(async move |mut peer| {
        peer.open().await;
        let publish = peer.until(PUBLISH).await;
        peer.send(method(publish.channel, ACK, &[0, 0, 0, 0, 0, 0, 0, 1, 0])).await;
        peer.until(CLOSE).await;
    })
    .await;
    let options = server.options().separate_publish_connection(false).frame_max(4_096);
    let client = within("connecting", LONG, options.connect()).await.unwrap();
    within("the first publish", LONG, client.publish("", "q", "first")).await.unwrap();
    let large = Message::text("x").header("large", "y".repeat(5_000));
    let mut waits = pin!(client.publisher("", "q").enqueue(large).unwrap());
    let flag = Arc::<Flag>::default();
    assert!(waits.as_mut().poll(&mut Context::from_waker(&flag.clone().into())).is_pending());
    client.flush();
    assert!(flag.0.load(Ordering::Relaxed), "it has its result and nobody was told");
    let error = within("the result", LONG, waits).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome_unknown()), (ErrorKind::InvalidArgument, false), "{error}");
    drop(client);
    server.end().await;
}
