//! Unexpected methods, confirms of nothing, and answers to other methods.

use std::time::{Duration, Instant};

use murano_messaging::{Client, Error, ErrorKind, Event, Message, Queue};
use murano_testkit::within;
use tokio::{net::TcpListener, sync::oneshot};

use crate::{
    bytes::*,
    framing::refused,
    script::{DEADLINE, LONG, Peer, Server, consumer_tag},
};

refused! {
    channel_open_ok_nobody_waits_for:
        |channel, _| method(channel, CHANNEL_OPEN_OK, &[0; 4]) => 503, "20.11";
    qos_ok_nobody_waits_for:
        |channel, _| method(channel, QOS_OK, &[]) => 503, "60.11";
    consume_ok_nobody_waits_for:
        |channel, tag| method(channel, CONSUME_OK, &short(tag)) => 503, "60.21";
    cancel_ok_nobody_waits_for:
        |channel, tag| method(channel, CANCEL_OK, &short(tag)) => 503, "60.31";
    declare_ok_nobody_waits_for:
        |channel, _| method(channel, DECLARE_OK, &[&short("q")[..], &[0; 8]].concat()) => 503, "50.11";
    select_ok_nobody_waits_for:
        |channel, _| method(channel, SELECT_OK, &[]) => 503, "85.11";
    recover_ok_nobody_waits_for:
        |channel, _| method(channel, (60, 111), &[]) => 503, "60.111";
    channel_close_ok_nobody_waits_for:
        |channel, _| method(channel, CHANNEL_CLOSE_OK, &[]) => 503, "20.41";
    get_empty_nobody_waits_for:
        |channel, _| method(channel, (60, 72), &short("")) => 503, "60.72";
    get_ok_nobody_waits_for: |channel, _| {
        let got = [&1u64.to_be_bytes()[..], &[0], &short(""), &short("q"), &[0; 4]].concat();
        [method(channel, GET_OK, &got), header(channel, 0, BARE)].concat()
    } => 503, "basic.get-ok";
    methods_that_only_clients_send: |channel, _| {
        method(channel, DECLARE, &[&[0, 0][..], &short("q"), &[0], &[0; 4]].concat())
    } => 503, "50.10";
    publish_from_the_server:
        |channel, _| method(channel, PUBLISH, &[&[0, 0][..], &short(""), &short("q"), &[0]].concat()) => 503, "60.40";

    start_on_an_open_connection:
        |_, _| start(&[0; 4], "PLAIN") => 503, "10.10";
    tune_on_an_open_connection:
        |_, _| tune(1, 4096, 1) => 503, "10.30";
    open_ok_on_an_open_connection:
        |_, _| method(0, OPEN_OK, &[0]) => 503, "10.41";
    connection_close_ok_nobody_waits_for:
        |_, _| method(0, CLOSE_OK, &[]) => 503, "10.51";
    update_secret_ok_nobody_waits_for:
        |_, _| method(0, UPDATE_SECRET_OK, &[]) => 503, "10.71";
    blocked_with_a_reason_that_is_not_utf_8:
        |_, _| method(0, BLOCKED, &short([0xC3])) => 502, "[10, 60]";
    blocked_without_a_reason:
        |_, _| method(0, BLOCKED, &[]) => 502, "[10, 60]";

    confirm_on_a_channel_that_publishes_nothing:
        |channel, _| method(channel, ACK, &[0, 0, 0, 0, 0, 0, 0, 1, 0]) => 503, "publishes nothing";
    nack_on_a_channel_that_publishes_nothing:
        |channel, _| method(channel, NACK, &[0, 0, 0, 0, 0, 0, 0, 1, 1]) => 503, "publishes nothing";
    return_on_a_channel_that_publishes_nothing: |channel, _| {
        let returned = [&[1, 56][..], &short("NO_ROUTE"), &short(""), &short("q")].concat();
        [method(channel, RETURN, &returned), header(channel, 0, BARE)].concat()
    } => 503, "publishes nothing";
}

// ---- calls ---------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_never_answered_holds_up_no_later_one() {
    let server = Server::start(async move |mut peer| {
        peer.open().await;
        let unanswered = peer.until(DECLARE).await;
        let behind = peer.until(DECLARE).await;
        assert_eq!(behind.channel, unanswered.channel);
        // After the deadline of the first, the one behind it comes again, and then what is asked later.
        for _ in 0..2 {
            let declare = peer.until(DECLARE).await;
            assert_ne!(declare.channel, unanswered.channel);
            peer.answer(&declare).await;
        }
        peer.stay().await;
    })
    .await;
    let options = server.options().operation_timeout(Duration::from_secs(2));
    let client = within("connecting", LONG, options.connect()).await.unwrap();
    let other = client.clone();
    let unanswered = tokio::spawn(async move { other.queue_info("q").await });
    // The one behind it has a later deadline.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let behind = client.queue_info("q").await.unwrap();
    assert_eq!(behind.name, "q");
    let error = within("the deadline", LONG, unanswered).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    within("a later call", LONG, client.queue_info("q")).await.unwrap();
    drop(client);
}

// ---- publishing ----------------------------------------------------------------------------------------------

/// A server whose client publishes three messages, which it answers with what `evil` makes of the channel.
async fn publishing(evil: impl FnOnce(u16) -> Vec<u8> + Send + 'static) -> (Vec<Result<(), Error>>, Client) {
    let server = Server::start(async move |mut peer| {
        peer.open().await;
        let publish = peer.until(PUBLISH).await;
        for _ in 1..3 {
            peer.until(PUBLISH).await;
        }
        peer.send(evil(publish.channel)).await;
        peer.stay().await;
    })
    .await;
    let options = server.options().separate_publish_connection(false);
    let client = within("connecting", LONG, options.connect()).await.unwrap();
    let mut pending = Vec::new();
    for text in ["a", "b", "c"] {
        pending.push(client.publish_deferred("", "q", Message::text(text)).await.unwrap());
    }
    let mut results = Vec::new();
    for confirmation in pending {
        results.push(within("a result", LONG, confirmation).await);
    }
    (results, client)
}

fn ack(channel: u16, tag: u64, multiple: bool) -> Vec<u8> {
    method(channel, ACK, &[&tag.to_be_bytes()[..], &[u8::from(multiple)]].concat())
}

async fn bad_confirm(tag: u64, multiple: bool, named: &str) {
    let (results, client) = publishing(move |channel| ack(channel, tag, multiple)).await;
    for result in results {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.outcome_unknown(), "{error}");
        assert!(error.to_string().contains(named), "{error}");
    }
    assert_eq!(client.stats().confirmed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn confirm_for_delivery_tag_0() {
    bad_confirm(0, false, "delivery tag 0; 3 publishes are out").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn confirm_for_a_publish_that_is_not_out_yet() {
    bad_confirm(4, false, "delivery tag 4; 3 publishes are out").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn confirm_up_to_a_publish_that_is_not_out_yet() {
    bad_confirm(4, true, "delivery tag 4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn confirm_for_the_last_delivery_tag_there_is() {
    bad_confirm(u64::MAX, true, "delivery tag 18446744073709551615").await;
}

/// A second answer changes nothing: neither the result of its own publish nor those of others.
#[tokio::test(flavor = "multi_thread")]
async fn confirms_twice() {
    let (results, client) = publishing(|channel| {
        let nack = method(channel, NACK, &[0, 0, 0, 0, 0, 0, 0, 2, 0]);
        [ack(channel, 2, false), nack, ack(channel, 1, false), ack(channel, 2, true), ack(channel, 0, true)]
            .concat()
    })
    .await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!((client.stats().confirmed, client.stats().nacked), (3, 0));
}

/// Also one that looks like a publish that is in flight, but for its body.
#[tokio::test(flavor = "multi_thread")]
async fn return_of_a_message_that_was_never_published() {
    let (results, client) = publishing(|channel| {
        let fields = [&[1, 56][..], &short("NO_ROUTE"), &short(""), &short("q")].concat();
        let returned =
            [method(channel, RETURN, &fields), header(channel, 1, BARE), body(channel, b"x")].concat();
        [returned, ack(channel, 3, true)].concat()
    })
    .await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(client.stats().confirmed, 3);
}

/// Publishes that wait for an answer are confirmed after the consumer of the answers was cancelled: not the broker's fault.
#[tokio::test(flavor = "multi_thread")]
async fn confirm_of_a_request_whose_consumer_is_gone() {
    const REPLY_TO: &str = "amq.rabbitmq.reply-to";
    let (seen, on_seen) = oneshot::channel();
    let server = Server::start(async move |mut peer| {
        peer.open().await;
        let publish = peer.until(PUBLISH).await;
        seen.send(()).unwrap();
        let cancel = peer.until(CANCEL).await;
        let cancel_ok = method(cancel.channel, CANCEL_OK, &cancel.fields[..cancel.fields.len() - 1]);
        let returned = [&[1, 56][..], &short("NO_ROUTE"), &short(""), &short("q")].concat();
        let returned =
            [method(publish.channel, RETURN, &returned), header(publish.channel, 0, BARE)].concat();
        peer.send([cancel_ok, returned, ack(publish.channel, 1, false)].concat()).await;
        peer.until(CLOSE).await;
    })
    .await;
    let client = server.client().await;
    let consumer = client.consume(REPLY_TO).no_ack(true).start();
    let consumer = within("consuming", LONG, consumer).await.unwrap();
    let request = Message::text("?").reply_to(REPLY_TO);
    let confirmation = client.publish_deferred("", "q", request).await.unwrap();
    within("the publish", LONG, on_seen).await.unwrap();
    within("the cancel", LONG, consumer.cancel()).await.unwrap();
    assert_eq!(within("the result", LONG, confirmation).await.unwrap_err().kind(), ErrorKind::Closed);
    within("the client lives", LONG, client.queue_info("q")).await.unwrap();
    drop((consumer, client));
    server.end().await;
}

// ---- answers that do not fit ---------------------------------------------------------------------------------

/// The caller hears what the server did, not that its client was closed.
#[tokio::test(flavor = "multi_thread")]
async fn answer_to_another_question() {
    let server = Server::start(async move |mut peer| {
        peer.open().await;
        let declare = peer.until(DECLARE).await;
        // purge-ok
        peer.send(method(declare.channel, (50, 31), &[0; 4])).await;
        peer.closed().await
    })
    .await;
    let client = server.client().await;
    let error = within("the error", LONG, client.declare_queue(&Queue::new("q"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains("50.31"), "{error}");
    assert_eq!(server.end().await.0, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn message_for_a_get_that_was_not_answered_yet() {
    let server = Server::start(async move |mut peer| {
        peer.open().await;
        let get = peer.until(GET).await;
        peer.send(message(get.channel, "t", 1, b"x")).await;
        peer.closed().await
    })
    .await;
    let client = server.client().await;
    let error = within("the error", LONG, client.get_with_ack("q")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains("consumes nothing"), "{error}");
    assert_eq!(server.end().await.0, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_at_all() {
    let server = Server::start(async move |mut peer| {
        peer.open().await;
        peer.stay().await;
    })
    .await;
    let client = server.client().await;
    let started = Instant::now();
    let (queue, consumer, got, published) = tokio::join!(
        client.queue_info("q"),
        client.consume("q").start(),
        client.get_with_ack("q"),
        // Its connection is refused, which ends its engine.
        client.publish("", "q", Message::text("x")),
    );
    for error in [queue.unwrap_err(), consumer.unwrap_err(), got.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    }
    assert_eq!(published.unwrap_err().kind(), ErrorKind::ConnectFailed);
    let error = within("closing", LONG, client.close()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(started.elapsed() < 3 * DEADLINE, "{:?}", started.elapsed());
    server.end().await;
}

/// There is no next offset behind the last one.
#[tokio::test(flavor = "multi_thread")]
async fn last_offset_there_is_in_a_stream() {
    let server = Server::start(async move |mut peer| {
        let (channel, tag) = peer.consumed().await;
        let entry = [&short("x-stream-offset")[..], b"l", &i64::MAX.to_be_bytes()].concat();
        let properties = [&[0x20, 0][..], &long(entry)].concat();
        peer.send([deliver(channel, &tag, 1), header(channel, 0, &properties)].concat()).await;
        let consume = peer.until(CONSUME).await;
        assert!(consume.fields.ends_with(&i64::MAX.to_be_bytes()), "{:?}", consume.fields);
        peer.answer(&consume).await;
        peer.until(CLOSE).await;
    })
    .await;
    let client = server.client().await;
    let consumer = client.consume("q").stream_offset("first").start();
    let consumer = within("consuming", LONG, consumer).await.unwrap();
    let delivery = within("the message", LONG, consumer.next()).await.unwrap().unwrap();
    within("starting again", LONG, consumer.set_prefetch(7)).await.unwrap();
    drop((delivery, consumer, client));
    server.end().await;
}

/// The queue is deleted while a changed prefetch starts its consumer anew: the old one is cancelled, and the new one is
/// refused, or consumes what was declared again in the meantime. Either way there is one in the end.
async fn a_restart_crosses_the_brokers_cancel(refused: bool) {
    let server = Server::start(async move |mut peer| {
        let (channel, tag) = peer.consumed().await;
        let consume = peer.until(CONSUME).await;
        peer.send(method(channel, CANCEL, &[&short(&tag)[..], &[1]].concat())).await;
        if refused {
            peer.send(close(channel, CHANNEL_CLOSE, 404, "NOT_FOUND - no queue 'q' in vhost '/'")).await;
        } else {
            peer.answer(&consume).await;
            peer.send(message(channel, &consumer_tag(&consume), 1, b"x")).await;
        }
        // The next one works, and stays the only one.
        let consume = peer.until(CONSUME).await;
        peer.answer(&consume).await;
        peer.send(message(consume.channel, &consumer_tag(&consume), 1, b"y")).await;
        let cancel = peer.method_but(&[CHANNEL_CLOSE, CHANNEL_CLOSE_OK, ACK], CANCEL).await;
        assert_eq!(cancel.channel, consume.channel);
        peer.answer(&cancel).await;
        let close = peer.method_but(&[CHANNEL_CLOSE, ACK], CLOSE).await;
        peer.answer(&close).await;
    })
    .await;
    let client = server.client().await;
    let consumer = client.consume("q").resume(true).start();
    let consumer = within("consuming", LONG, consumer).await.unwrap();
    within("the change", LONG, consumer.set_prefetch(7)).await.unwrap();
    let delivery = within("a message", LONG, consumer.next()).await.unwrap().unwrap();
    assert_eq!(&delivery.body()[..], b"y");
    // Longer than it would take to try once more.
    tokio::time::sleep(Duration::from_millis(300)).await;
    delivery.ack().unwrap();
    within("the cancel", LONG, consumer.cancel()).await.unwrap();
    within("closing", LONG, client.close()).await.unwrap();
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_refused_after_the_brokers_cancel() {
    a_restart_crosses_the_brokers_cancel(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_works_after_the_brokers_cancel() {
    a_restart_crosses_the_brokers_cancel(false).await;
}

// ---- with recovery -------------------------------------------------------------------------------------------

/// A server that breaks the protocol on every connection is not hammered, and no operation hangs.
#[tokio::test(flavor = "multi_thread")]
async fn every_connection_is_broken() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let mut connections = 0;
        while let Ok((stream, _)) =
            tokio::time::timeout(DEADLINE, listener.accept()).await.map(Result::unwrap)
        {
            connections += 1;
            let mut peer = Peer::new(stream);
            peer.open().await;
            peer.send([0xFF]).await;
            peer.stay().await;
        }
        connections
    });
    let options = murano_messaging::Options::new().host("127.0.0.1", port).operation_timeout(DEADLINE);
    let client = within("connecting", LONG, options.connect()).await.unwrap();
    let mut events = client.events();
    let started = Instant::now();
    let error = within("the deadline", LONG, client.queue_info("q")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(started.elapsed() < DEADLINE + Duration::from_secs(1));
    let reason = within("the reason", LONG, async {
        loop {
            if let Event::Lost { reason, .. } = events.next().await.unwrap() {
                return reason;
            }
        }
    })
    .await;
    assert_eq!(reason.kind(), ErrorKind::Protocol, "{reason}");
    drop(client);
    let connections = within("the server", LONG, server).await.unwrap();
    assert!((3..20).contains(&connections), "{connections} connections in {DEADLINE:?}");
}
