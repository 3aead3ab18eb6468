//! Contents out of order, bodies that do not end, and more than the client asked for: in bounded memory.

use std::time::Duration;

use murano_messaging::{Client, Consumer, ErrorKind, Event};
use murano_testkit::{eventually, within};
use tokio::sync::{Mutex, oneshot};

use crate::{
    bytes::*,
    framing::refused,
    script::{LONG, Peer, Server, end_of},
};

refused! {
    body_that_nothing_announced:
        |channel, _| body(channel, b"x") => 505, "no method announced";
    header_that_nothing_announced:
        |channel, _| header(channel, 1, BARE) => 505, "no method announced";
    body_before_its_header:
        |channel, tag| [deliver(channel, tag, 1), body(channel, b"x")].concat() => 505, "content header was expected";
    second_header:
        |channel, tag| [deliver(channel, tag, 1), header(channel, 9, BARE), header(channel, 9, BARE)].concat()
        => 505, "second content header";
    delivery_instead_of_a_header:
        |channel, tag| [deliver(channel, tag, 1), deliver(channel, tag, 2)].concat()
        => 505, "in the middle of a content";
    delivery_instead_of_a_body:
        |channel, tag| [deliver(channel, tag, 1), header(channel, 9, BARE), deliver(channel, tag, 2)].concat()
        => 505, "in the middle of a content";
    method_in_the_middle_of_a_body: |channel, tag| {
        let content = [deliver(channel, tag, 1), header(channel, 9, BARE), body(channel, b"x")].concat();
        [content, method(channel, QOS_OK, &[])].concat()
    } => 505, "in the middle of a content";
    get_ok_in_the_middle_of_a_content: |channel, tag| {
        let got = method(channel, GET_OK, &[0; 15]);
        [deliver(channel, tag, 1), got].concat()
    } => 505, "in the middle of a content";
    return_in_the_middle_of_a_content: |channel, tag| {
        let returned = [&[1, 56][..], &short("NO_ROUTE"), &short(""), &short("q")].concat();
        [deliver(channel, tag, 1), method(channel, RETURN, &returned)].concat()
    } => 505, "in the middle of a content";
    body_longer_than_announced:
        |channel, tag| [deliver(channel, tag, 1), header(channel, 3, BARE), body(channel, b"four")].concat()
        => 501, "announced 3";
    body_longer_than_announced_in_its_last_frame: |channel, tag| {
        let whole = [deliver(channel, tag, 1), header(channel, 3, BARE), body(channel, b"ab")].concat();
        [whole, body(channel, b"cd")].concat()
    } => 501, "announced 3";
    body_behind_a_message_without_one:
        |channel, tag| [message(channel, tag, 1, b""), body(channel, b"x")].concat() => 505, "no method announced";

    delivery_tag_0:
        |channel, tag| message(channel, tag, 0, b"x") => 503, "delivery tag 0";
    delivery_tag_that_skips_one:
        |channel, tag| [message(channel, tag, 1, b"x"), message(channel, tag, 3, b"x")].concat()
        => 503, "delivery tag 3 where 2 is next";
    delivery_tag_twice:
        |channel, tag| [message(channel, tag, 1, b"x"), message(channel, tag, 1, b"x")].concat()
        => 503, "delivery tag 1 where 2 is next";
    last_delivery_tag_there_is:
        |channel, tag| message(channel, tag, u64::MAX, b"x") => 503, "delivery tag 18446744073709551615";
    delivery_for_an_unknown_consumer:
        |channel, _| message(channel, "somebody else", 1, b"x") => 503, "consumer tag 'somebody else'";
    delivery_for_a_consumer_without_a_name:
        |channel, _| message(channel, "", 1, b"x") => 503, "consumer tag ''";
}

/// What must not disturb a content: other frames in between that do not belong to its channel, in parts of any size.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_come_in_the_middle_of_a_content() {
    let server = Server::start(async move |mut peer| {
        let (channel, tag) = peer.consumed().await;
        let bytes = [
            deliver(channel, &tag, 1),
            HEARTBEAT.to_vec(),
            header(channel, 4, BARE),
            method(0, BLOCKED, &short("low on memory")),
            body(channel, b""),
            body(channel, b"ab"),
            HEARTBEAT.to_vec(),
            body(channel, b"cd"),
        ]
        .concat();
        for byte in bytes {
            peer.send([byte]).await;
        }
        peer.until(CLOSE).await;
    })
    .await;
    let client = server.client().await;
    let consumer = within("consuming", LONG, client.consume("q").start()).await.unwrap();
    let delivery = within("the message", LONG, consumer.next()).await.unwrap().unwrap();
    assert_eq!(delivery.body().as_ref(), b"abcd");
    drop((consumer, delivery, client));
    server.end().await;
}

// ---- memory --------------------------------------------------------------------------------------------------

/// Tests that measure the memory of this process run one at a time.
static MEASURING: Mutex<()> = Mutex::const_new(());

/// What the client may take for itself, whatever it is sent: its buffers, and what other tests need meanwhile.
const SLACK: u64 = 48 * 1024 * 1024;

/// Memory of this process in bytes, without the files it has mapped.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn assert_bounded(before: u64) {
    let grown = resident().saturating_sub(before);
    assert!(grown < SLACK, "grown by {grown} bytes");
}

/// A client that consumes from a server whose script is `evil`, with a small bound on what it holds.
async fn victim(server: &Server<u64>) -> (Client, Consumer) {
    let options =
        server.options().max_body_size(1024 * 1024).discard_oversize(true).delivery_buffer(4 * 1024 * 1024);
    let client = within("connecting", LONG, options.connect()).await.unwrap();
    let consumer = within("consuming", LONG, client.consume("q").start()).await.unwrap();
    (client, consumer)
}

/// A body whose header announces `announced` bytes, sent in frames of `chunk` bytes, `frames` of them.
async fn endless_body(announced: u64, chunk: usize, frames: u64) {
    let _alone = MEASURING.lock().await;
    let server = Server::start(async move |mut peer| {
        let (channel, tag) = peer.consumed().await;
        peer.send([deliver(channel, &tag, 1), header(channel, announced, BARE)].concat()).await;
        let batch = 128 * 1024 / chunk.min(128 * 1024);
        let bytes = body(channel, &vec![7; chunk]).repeat(batch);
        let mut sent = 0;
        while sent < frames && peer.send(&bytes).await {
            sent += batch as u64;
        }
        sent
    })
    .await;
    let before = resident();
    let (client, consumer) = victim(&server).await;
    // The end of the script cuts the connection in the middle of the body, which has not ended till then.
    let error = end_of(&consumer).await;
    assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
    assert_bounded(before);
    assert_eq!(client.stats().bytes_delivered, 0);
    assert!(server.end().await >= frames, "the client stopped reading");
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_body_in_whole_frames() {
    endless_body(u64::MAX, 131_064, 2048).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_body_in_frames_of_one_byte() {
    endless_body(u64::MAX, 1, 300_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn body_just_over_the_bound() {
    endless_body(1024 * 1024 * 1024, 64 * 1024, 4096).await;
}

/// Bodies that are announced with all that is allowed, on channels of their own, and do not come.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_announced_and_do_not_come() {
    const CONSUMERS: usize = 200;
    let _alone = MEASURING.lock().await;
    let server = Server::start(async move |mut peer| {
        peer.open().await;
        for _ in 0..CONSUMERS {
            let consume = peer.until(CONSUME).await;
            peer.answer(&consume).await;
            let (channel, tag) = (consume.channel, crate::script::consumer_tag(&consume));
            peer.send([deliver(channel, &tag, 1), header(channel, 128 * 1024 * 1024, BARE)].concat()).await;
        }
        peer.until(CLOSE).await;
    })
    .await;
    let before = resident();
    let client = server.client().await;
    let mut consumers = Vec::new();
    for _ in 0..CONSUMERS {
        consumers.push(within("consuming", LONG, client.consume("q").start()).await.unwrap());
    }
    assert_bounded(before);
    drop((consumers, client));
    server.end().await;
}

/// Sends a message over and over, whatever the prefetch says, until the client takes no more. Returns how many.
async fn flood(peer: &mut Peer, properties: &[u8], most: u64) -> u64 {
    let (channel, tag) = peer.consumed().await;
    let mut sent = 0;
    while sent < most {
        let mut batch = Vec::new();
        while batch.len() < 64 * 1024 {
            sent += 1;
            batch.extend([deliver(channel, &tag, sent), header(channel, 0, properties)].concat());
        }
        if tokio::time::timeout(Duration::from_secs(1), peer.send(&batch)).await.is_err() {
            return sent;
        }
    }
    panic!("{sent} messages were taken, and no end");
}

/// More messages than were asked for, and without a byte in them: the client stops reading, and lives.
async fn stops_reading(properties: Vec<u8>, most: u64) {
    let _alone = MEASURING.lock().await;
    let (stalled, on_stall) = oneshot::channel();
    let server = Server::start(async move |mut peer| {
        let sent = flood(&mut peer, &properties, most).await;
        stalled.send(()).unwrap();
        peer.stay().await;
        sent
    })
    .await;
    let before = resident();
    let (client, consumer) = victim(&server).await;
    within("the client stops reading", LONG, on_stall).await.unwrap();
    // What the sockets hold is more than enough for that.
    eventually("the client holds all it may", LONG, || async {
        client.stats().undelivered_bytes >= 4 * 1024 * 1024
    })
    .await;
    assert_bounded(before);
    for _ in 0..100 {
        within("a message", LONG, consumer.next()).await.unwrap().unwrap().ack().unwrap();
    }
    assert_eq!(client.stats().reconnects, 0);
    drop((consumer, client));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_empty_messages_than_were_asked_for() {
    stops_reading(BARE.to_vec(), 3_000_000).await;
}

/// A header of which each byte is a value takes far more memory than it has bytes.
#[tokio::test(flavor = "multi_thread")]
async fn more_headers_than_were_asked_for() {
    let array = long([b'V'; 10_000]);
    let table = long([&[1, b'k', b'A'][..], &array].concat());
    stops_reading([&[0x20, 0][..], &table].concat(), 2_000).await;
}

/// The same with tables of one entry each, for each of which a map is made.
#[tokio::test(flavor = "multi_thread")]
async fn more_small_tables_than_were_asked_for() {
    let array = long([b'F', 0, 0, 0, 2, 0, b'V'].repeat(1_400));
    let table = long([&[1, b'k', b'A'][..], &array].concat());
    stops_reading([&[0x20, 0][..], &table].concat(), 2_000).await;
}

/// A server that asks and asks and does not read the answers.
#[tokio::test(flavor = "multi_thread")]
async fn questions_whose_answers_are_not_read() {
    let _alone = MEASURING.lock().await;
    let server = Server::start(async move |mut peer| {
        let (channel, _) = peer.consumed().await;
        let bytes = method(channel, FLOW, &[1]).repeat(8192);
        let mut sent = 0;
        // 16 MiB is more than both sockets hold.
        while sent < 64 * 1024 * 1024 && peer.send(&bytes).await {
            sent += bytes.len() as u64;
        }
        sent
    })
    .await;
    let before = resident();
    let (_client, consumer) = victim(&server).await;
    let error = end_of(&consumer).await;
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains("channel.flow"), "{error}");
    assert_bounded(before);
    server.end().await;
}

/// An oversize message is drained, rejected and told of; the messages around it arrive.
#[tokio::test(flavor = "multi_thread")]
async fn oversize_among_others() {
    let server = Server::start(async move |mut peer| {
        let (channel, tag) = peer.consumed().await;
        peer.send(message(channel, &tag, 1, b"before")).await;
        peer.send([deliver(channel, &tag, 2), header(channel, 3 * 1024 * 1024, BARE)].concat()).await;
        for _ in 0..48 {
            peer.send(body(channel, &vec![7; 64 * 1024])).await;
        }
        peer.send(message(channel, &tag, 3, b"after")).await;
        let nack = peer.until(NACK).await;
        assert_eq!(nack.fields, [0, 0, 0, 0, 0, 0, 0, 2, 0], "delivery 2, neither multiple nor requeued");
        peer.until(CLOSE).await;
        0
    })
    .await;
    let options = server.options().max_body_size(1024 * 1024).discard_oversize(true);
    let client = within("connecting", LONG, options.connect()).await.unwrap();
    let mut events = client.events();
    let consumer = within("consuming", LONG, client.consume("q").start()).await.unwrap();
    for text in ["before", "after"] {
        let delivery = within("a message", LONG, consumer.next()).await.unwrap().unwrap();
        assert_eq!(delivery.body().as_ref(), text.as_bytes());
        delivery.ack().unwrap();
    }
    within("the event", LONG, async {
        loop {
            if let Event::OversizeRejected { queue, size, limit } = events.next().await.unwrap() {
                assert_eq!((queue.as_str(), size, limit), ("q", 3 * 1024 * 1024, 1024 * 1024));
                return;
            }
        }
    })
    .await;
    drop((consumer, client));
    server.end().await;
}
