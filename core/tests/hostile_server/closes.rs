//! Closes and cancels, which a server may send at any time: odd codes, broken texts, at the same time as the client.

use murano_messaging::{ErrorKind, Event};
use murano_testkit::within;
use tokio::sync::oneshot;

use crate::{
    bytes::*,
    script::{LONG, Server, end_of},
};

#[tokio::test(flavor = "multi_thread")]
async fn connection_closes_with_odd_codes() {
    for (code, kind) in [
        (0, ErrorKind::Refused),
        (200, ErrorKind::Refused),
        (312, ErrorKind::Refused),
        (541, ErrorKind::Refused),
        (u16::MAX, ErrorKind::Refused),
        (320, ErrorKind::ConnectionForced),
        (504, ErrorKind::Protocol),
    ] {
        let server = Server::start(async move |mut peer| {
            peer.consumed().await;
            peer.send(close(0, CLOSE, code, "x".repeat(255))).await;
            peer.until(CLOSE_OK).await;
            peer.gone().await;
        })
        .await;
        let client = server.client().await;
        let consumer = within("consuming", LONG, client.consume("q").start()).await.unwrap();
        let error = end_of(&consumer).await;
        assert_eq!((error.kind(), error.reply_code()), (kind, Some(code)), "{error}");
        server.end().await;
    }
}

/// `RabbitMQ` cuts its texts at 255 bytes, also in the middle of a character.
#[tokio::test(flavor = "multi_thread")]
async fn closes_whose_text_is_not_utf_8() {
    let server = Server::start(async move |mut peer| {
        peer.open().await;
        let declare = peer.until(DECLARE).await;
        peer.send(close(declare.channel, CHANNEL_CLOSE, 404, b"NOT_FOUND - no queue '\xC3...")).await;
        peer.until(CHANNEL_CLOSE_OK).await;
        let consume = peer.until(CONSUME).await;
        peer.answer(&consume).await;
        peer.send(close(0, CLOSE, 320, b"CONNECTION_FORCED - \xFF")).await;
        peer.until(CLOSE_OK).await;
        peer.gone().await;
    })
    .await;
    let client = server.client().await;
    let error = within("the refusal", LONG, client.queue_info("é")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(error.reply_text(), Some("NOT_FOUND - no queue '\u{FFFD}..."));
    let consumer = within("consuming", LONG, client.consume("q").start()).await.unwrap();
    let error = end_of(&consumer).await;
    assert_eq!(error.kind(), ErrorKind::ConnectionForced, "{error}");
    server.end().await;
}

/// Both sides close a channel at the same time. Until the answer to its own close is there, the client opens no other
/// under that number: `RabbitMQ` answers both, and the answer would be for the wrong one.
#[tokio::test(flavor = "multi_thread")]
async fn closes_that_cross() {
    let (seen, on_seen) = oneshot::channel();
    let server = Server::start(async move |mut peer| {
        let (channel, _) = peer.consumed().await;
        let closed = peer.until(CHANNEL_CLOSE).await;
        assert_eq!(closed.channel, channel);
        peer.send(close(channel, CHANNEL_CLOSE, 406, "PRECONDITION_FAILED - timeout")).await;
        peer.until(CHANNEL_CLOSE_OK).await;
        seen.send(()).unwrap();
        let opened = peer.until(CHANNEL_OPEN).await;
        peer.send(method(channel, CHANNEL_CLOSE_OK, &[])).await;
        peer.answer(&opened).await;
        // Now it is free.
        let declare = peer.until(DECLARE).await;
        peer.answer(&declare).await;
        assert_eq!(peer.until(CHANNEL_OPEN).await.channel, channel);
        peer.stay().await;
    })
    .await;
    let client = server.client().await;
    drop(within("consuming", LONG, client.consume("q").start()).await.unwrap());
    within("the close-ok", LONG, on_seen).await.unwrap();
    within("the client lives", LONG, client.queue_info("q")).await.unwrap();
    drop(within("consuming", LONG, client.consume("q").start()).await);
    drop(client);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn channel_closes_with_odd_codes_fail_one_operation() {
    const CODES: [u16; 5] = [0, 200, 320, 599, u16::MAX];
    let server = Server::start(async move |mut peer| {
        peer.open().await;
        for code in CODES {
            let declare = peer.until(DECLARE).await;
            peer.send(close(declare.channel, CHANNEL_CLOSE, code, "")).await;
            peer.until(CHANNEL_CLOSE_OK).await;
        }
        peer.until(CLOSE).await;
    })
    .await;
    let client = server.client().await;
    for code in CODES {
        let error = within("the refusal", LONG, client.queue_info("q")).await.unwrap_err();
        assert_eq!(error.reply_code(), Some(code), "{error}");
    }
    assert!(!client.is_closed());
    drop(client);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancels_for_a_consumer_that_is_gone() {
    let server = Server::start(async move |mut peer| {
        let (channel, tag) = peer.consumed().await;
        let cancel = method(channel, CANCEL, &[&short(tag)[..], &[1]].concat());
        peer.send([cancel.clone(), cancel].concat()).await;
        peer.until(CLOSE).await;
    })
    .await;
    let client = server.client().await;
    let consumer = within("consuming", LONG, client.consume("q").start()).await.unwrap();
    assert_eq!(end_of(&consumer).await.kind(), ErrorKind::ConsumerCancelled);
    within("the client lives", LONG, client.queue_info("q")).await.unwrap();
    drop((consumer, client));
    server.end().await;
}

/// The number of a closed channel is used again: what is left of the old channel has no part in the new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_a_closed_channel_is_dropped() {
    let (held, on_held) = oneshot::channel();
    let server = Server::start(async move |mut peer| {
        let (channel, tag) = peer.consumed().await;
        peer.send(message(channel, &tag, 1, b"x")).await;
        on_held.await.unwrap();
        peer.send(close(channel, CHANNEL_CLOSE, 406, "PRECONDITION_FAILED - timeout")).await;
        let get = peer.until(GET).await;
        assert_eq!(get.channel, channel);
        peer.send(got(channel, 1)).await;
        let ack = peer.until(ACK).await;
        assert_eq!(ack.channel, channel);
        peer.until(CLOSE).await;
    })
    .await;
    let client = server.client().await;
    let consumer = within("consuming", LONG, client.consume("q").start()).await.unwrap();
    let old = within("a delivery", LONG, consumer.next()).await.unwrap().unwrap();
    held.send(()).unwrap();
    assert_eq!(end_of(&consumer).await.kind(), ErrorKind::PreconditionFailed);
    assert!(old.is_stale());
    let new = within("a message", LONG, client.get_with_ack("q")).await.unwrap().unwrap();
    drop(old);
    // Behind the drop in the engine's inbox.
    within("the client lives", LONG, client.queue_info("q")).await.unwrap();
    assert!(!new.is_stale());
    new.ack().unwrap();
    drop((consumer, client));
    server.end().await;
}

/// The get behind the `channel.open` was not looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_for_a_get_that_is_refused() {
    let server = Server::start(async move |mut peer| {
        peer.open().await;
        let open = peer.until(CHANNEL_OPEN).await;
        assert_eq!(peer.until(GET).await.channel, open.channel);
        peer.send(close(open.channel, CHANNEL_CLOSE, 500, "")).await;
        let get = peer.until(GET).await;
        peer.send(got(get.channel, 1)).await;
        peer.until(CLOSE).await;
    })
    .await;
    let client = server.client().await;
    let got = within("a message", LONG, client.get_with_ack("q")).await.unwrap().unwrap();
    got.ack().unwrap();
    drop((got, client));
    server.end().await;
}

/// While it waits for another attempt, its old channel is not its own any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_cancelled_between_its_channels() {
    let server = Server::start(async move |mut peer| {
        let (channel, _) = peer.consumed().await;
        peer.send(close(channel, CHANNEL_CLOSE, 406, "PRECONDITION_FAILED - timeout")).await;
        let mut open = false;
        while let Some(heard) = peer.method().await {
            open |= heard.id == CHANNEL_OPEN;
            assert!(open || heard.id != CANCEL, "{heard:?} on a closed channel");
            peer.answer(&heard).await;
        }
    })
    .await;
    let client = server.client().await;
    let mut events = client.events();
    let consumer = within("consuming", LONG, client.consume("q").resume(true).start()).await.unwrap();
    within("the end of the channel", LONG, async {
        while !matches!(events.next().await.unwrap(), Event::ConsumerCancelled { resumes: true, .. }) {}
    })
    .await;
    within("the cancel", LONG, consumer.cancel()).await.unwrap();
    drop((consumer, client));
    server.end().await;
}
