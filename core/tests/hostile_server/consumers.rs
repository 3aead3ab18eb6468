//! Consumers at moments when something else is under way: the connection is being made again, an answer is missing.

use std::{
    future::{Future, poll_fn},
    task::Poll,
};

use murano_messaging::{Binding, Client, ErrorKind, Event, Events, Options, Queue};
use murano_testkit::within;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::{
    bytes::*,
    script::{DEADLINE, LONG, Peer, Server, consumer_tag},
};

/// A server with a script for its first connection and one for the second, and a client of it that reconnects.
pub async fn reconnecting<F, S, A, B>(first: F, second: S) -> (Client, JoinHandle<()>)
where
    F: FnOnce(Peer) -> A + Send + 'static,
    S: FnOnce(Peer) -> B + Send + 'static,
    A: Future<Output = ()> + Send + 'static,
    B: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(within("the scripts", LONG, async move {
        let accept = async || {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            Peer::new(stream)
        };
        first(accept().await).await;
        second(accept().await).await;
    }));
    let options = Options::new().host("127.0.0.1", port).operation_timeout(DEADLINE);
    (within("connecting", LONG, options.connect()).await.unwrap(), server)
}

async fn until(events: &mut Events, is_it: impl Fn(&Event) -> bool) {
    within("an event", LONG, async { while !is_it(&events.next().await.unwrap()) {} }).await;
}

fn not_found(channel: u16) -> Vec<u8> {
    close(channel, CHANNEL_CLOSE, 404, "NOT_FOUND - no queue 'q' in vhost '/'")
}

/// The consumer is dropped before there is a connection to start it on.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_given_up_while_the_connection_is_down() {
    let (lose, on_lose) = oneshot::channel::<()>();
    let (given_up, on_given_up) = oneshot::channel::<()>();
    let (client, server) = reconnecting(
        async move |mut peer| {
            peer.open().await;
            on_lose.await.unwrap();
        },
        async move |mut peer| {
            on_given_up.await.unwrap();
            peer.open().await;
            // The declaration comes behind the consumer in the client's queue.
            let declare = peer.method_but(&[CHANNEL_OPEN], DECLARE).await;
            peer.answer(&declare).await;
            let close = peer.method_but(&[], CLOSE).await;
            peer.answer(&close).await;
        },
    )
    .await;
    let mut events = client.events();
    lose.send(()).unwrap();
    until(&mut events, |event| matches!(event, Event::Lost { .. })).await;
    {
        let mut starting = Box::pin(client.consume("q").start());
        assert!(poll_fn(|cx| Poll::Ready(starting.as_mut().poll(cx).is_pending())).await);
    }
    let queue = Queue::new("q");
    let declaring = within("the declaration", LONG, client.declare_queue(&queue));
    let (declared, ()) = tokio::join!(declaring, async { given_up.send(()).unwrap() });
    declared.unwrap();
    within("closing", LONG, client.close()).await.unwrap();
    within("the server", LONG, server).await.unwrap();
}

/// A consumer that the broker ends the connection for does not take another one with it that is just being started.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_over_one_of_two_consumers() {
    let (client, server) = reconnecting(
        async move |mut peer| {
            peer.open().await;
            peer.until(CONSUME).await;
            peer.until(CONSUME).await;
            let text = short("NOT_IMPLEMENTED - Global qos not supported for queue type");
            peer.send(method(0, CLOSE, &[&[2, 28][..], &text, &[0, 60, 0, 20]].concat())).await;
            peer.until(CLOSE_OK).await;
        },
        async move |mut peer| {
            peer.open().await;
            for _ in 0..2 {
                let consume = peer.until(CONSUME).await;
                peer.answer(&consume).await;
            }
            let close = peer.until(CLOSE).await;
            peer.answer(&close).await;
        },
    )
    .await;
    let (one, exclusive) = within("consuming", LONG, async {
        tokio::join!(client.consume("p").start(), client.consume("q").exclusive(true).start())
    })
    .await;
    let consumers = (one.unwrap(), exclusive.unwrap());
    within("closing", LONG, client.close()).await.unwrap();
    drop(consumers);
    within("the server", LONG, server).await.unwrap();
}

/// Both sides cancel a consumer at the same time: it is over as its owner wants it.
#[tokio::test(flavor = "multi_thread")]
async fn cancels_that_cross() {
    for resume in [false, true] {
        let server = Server::start(async move |mut peer| {
            let (channel, tag) = peer.consumed().await;
            let cancel = peer.until(CANCEL).await;
            peer.send(method(channel, CANCEL, &[&short(&tag)[..], &[1]].concat())).await;
            peer.answer(&cancel).await;
            let close = peer.method_but(&[CHANNEL_CLOSE], CLOSE).await;
            peer.answer(&close).await;
        })
        .await;
        let client = server.client().await;
        let consumer = within("consuming", LONG, client.consume("q").resume(resume).start()).await.unwrap();
        within("the cancel", LONG, consumer.cancel()).await.unwrap();
        let last = within("the end", LONG, consumer.next()).await;
        assert!(last.is_none(), "{last:?}");
        within("closing", LONG, client.close()).await.unwrap();
        server.end().await;
    }
}

/// The broker cancels a consumer that has everything put back: its deliveries are void all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_recover_crosses_the_brokers_cancel() {
    let server = Server::start(async move |mut peer| {
        let (channel, tag) = peer.consumed().await;
        peer.send(message(channel, &tag, 1, b"x")).await;
        peer.until((60, 110)).await;
        peer.send(method(channel, CANCEL, &[&short(&tag)[..], &[1]].concat())).await;
        peer.send(method(channel, (60, 111), &[])).await;
        let close = peer.method_but(&[CHANNEL_CLOSE], CLOSE).await;
        peer.answer(&close).await;
    })
    .await;
    let client = server.client().await;
    let consumer = within("consuming", LONG, client.consume("q").start()).await.unwrap();
    let delivery = within("the message", LONG, consumer.next()).await.unwrap().unwrap();
    within("recovering", LONG, consumer.recover(true)).await.unwrap();
    assert!(delivery.is_stale());
    delivery.ack().unwrap();
    within("draining", LONG, client.drain(DEADLINE)).await.unwrap();
    server.end().await;
}

// ---- a changed prefetch --------------------------------------------------------------------------------------

/// The broker's word on the consumer that was replaced, which it had cancelled before it was asked to, is not about the one
/// in its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_consumer_is_cancelled_by_the_broker() {
    let server = Server::start(async move |mut peer| {
        let (channel, old) = peer.consumed().await;
        let consume = peer.until(CONSUME).await;
        peer.answer(&consume).await;
        let cancel = peer.until(CANCEL).await;
        peer.send(method(channel, CANCEL, &[&short(&old)[..], &[1]].concat())).await;
        peer.send(message(channel, &consumer_tag(&consume), 1, b"x")).await;
        peer.answer(&cancel).await;
        let cancel = peer.method_but(&[ACK], CANCEL).await;
        assert_eq!(cancel.fields[1..=usize::from(cancel.fields[0])], *consumer_tag(&consume).as_bytes());
        peer.answer(&cancel).await;
        let close = peer.until(CLOSE).await;
        peer.answer(&close).await;
    })
    .await;
    let client = server.client().await;
    let consumer = within("consuming", LONG, client.consume("q").resume(true).start()).await.unwrap();
    within("the change", LONG, consumer.set_prefetch(7)).await.unwrap();
    let delivery = within("a message", LONG, consumer.next()).await.unwrap().unwrap();
    delivery.ack().unwrap();
    within("the cancel", LONG, consumer.cancel()).await.unwrap();
    within("closing", LONG, client.close()).await.unwrap();
    server.end().await;
}

/// A client whose stream consumer loses its connection over a change; the next one has no such queue at first.
async fn lost_over_a_change(resume: bool) {
    let (client, server) = reconnecting(
        async move |mut peer| {
            peer.consumed().await;
            peer.until(CANCEL).await;
        },
        async move |mut peer| {
            peer.open().await;
            let consume = peer.until(CONSUME).await;
            peer.send(not_found(consume.channel)).await;
            if resume {
                let consume = peer.until(CONSUME).await;
                peer.answer(&consume).await;
                peer.send(message(consume.channel, &consumer_tag(&consume), 1, b"x")).await;
            }
            let close = peer.until(CLOSE).await;
            peer.answer(&close).await;
        },
    )
    .await;
    let consumer = client.consume("q").stream_offset("first").resume(resume).start();
    let consumer = within("consuming", LONG, consumer).await.unwrap();
    let changed = within("the change", LONG, consumer.set_prefetch(7)).await;
    let next = within("what becomes of it", LONG, consumer.next()).await.unwrap();
    if resume {
        changed.unwrap();
        assert_eq!(&next.unwrap().body()[..], b"x");
    } else {
        assert_eq!(changed.unwrap_err().kind(), ErrorKind::ConsumerCancelled);
        assert_eq!(next.unwrap_err().kind(), ErrorKind::ConsumerCancelled);
    }
    within("closing", LONG, client.close()).await.unwrap();
    within("the server", LONG, server).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_ends_that_lost_its_queue_over_a_change() {
    lost_over_a_change(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_resumes_that_lost_its_queue_over_a_change() {
    lost_over_a_change(true).await;
}

// ---- a queue that the broker keeps for the dead connection ---------------------------------------------------

const BIND: Id = (50, 20);
const BIND_OK: Id = (50, 21);

fn locked(channel: u16) -> Vec<u8> {
    close(channel, CHANNEL_CLOSE, 405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q'")
}

fn exclusive() -> Queue {
    Queue::new("q").exclusive(true)
}

/// One binding that cannot be made again does not cost the others.
#[tokio::test(flavor = "multi_thread")]
async fn bindings_of_a_locked_queue() {
    let (lose, on_lose) = oneshot::channel::<()>();
    let (client, server) = reconnecting(
        async move |mut peer| {
            peer.open().await;
            for _ in 0..2 {
                let bind = peer.until(BIND).await;
                peer.send(method(bind.channel, BIND_OK, &[])).await;
            }
            on_lose.await.unwrap();
        },
        async move |mut peer| {
            peer.open().await;
            let declare = peer.until(DECLARE).await;
            peer.send(locked(declare.channel)).await;
            let declare = peer.until(DECLARE).await;
            peer.answer(&declare).await;
            let first = peer.until(BIND).await;
            // It follows at once, and is not looked at.
            peer.until(BIND).await;
            peer.send(close(first.channel, CHANNEL_CLOSE, 404, "NOT_FOUND - no exchange 'a' in vhost '/'"))
                .await;
            let second = peer.until(BIND).await;
            assert!(second.fields.windows(2).any(|bytes| bytes == [1, b'b']), "{second:?}");
            peer.send(method(second.channel, BIND_OK, &[])).await;
            let close = peer.until(CLOSE).await;
            peer.answer(&close).await;
        },
    )
    .await;
    let mut events = client.events();
    within("declaring", LONG, client.declare_queue(&exclusive())).await.unwrap();
    for exchange in ["a", "b"] {
        within("binding", LONG, client.bind(&Binding::queue("q", exchange))).await.unwrap();
    }
    lose.send(()).unwrap();
    until(&mut events, |event| {
        let failed = |event: &Event| match event {
            Event::Recovered { restored, .. } => restored.failed.len(),
            _ => 0,
        };
        failed(event) == 1
    })
    .await;
    within("closing", LONG, client.close()).await.unwrap();
    within("the server", LONG, server).await.unwrap();
}

/// Its consumer does not wait for it to be declared again by a client that was told not to.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_queue_is_forgotten() {
    let (lose, on_lose) = oneshot::channel::<()>();
    let (client, server) = reconnecting(
        async move |mut peer| {
            peer.consumed().await;
            on_lose.await.unwrap();
        },
        async move |mut peer| {
            peer.open().await;
            let declare = peer.until(DECLARE).await;
            peer.send(locked(declare.channel)).await;
            let consume = peer.until(CONSUME).await;
            peer.answer(&consume).await;
            peer.send(message(consume.channel, &consumer_tag(&consume), 1, b"x")).await;
            let close = peer.until(CLOSE).await;
            peer.answer(&close).await;
        },
    )
    .await;
    let mut events = client.events();
    within("declaring", LONG, client.declare_queue(&exclusive())).await.unwrap();
    let consumer = within("consuming", LONG, client.consume("q").start()).await.unwrap();
    lose.send(()).unwrap();
    until(&mut events, |event| matches!(event, Event::Recovered { .. })).await;
    client.forget("q");
    within("a message", LONG, consumer.next()).await.unwrap().unwrap();
    within("closing", LONG, client.close()).await.unwrap();
    within("the server", LONG, server).await.unwrap();
}

/// A consumer that is being started when the queue is there again is not started twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_starts_while_a_locked_queue_comes_back() {
    let (lose, on_lose) = oneshot::channel::<()>();
    let (client, server) = reconnecting(
        async move |mut peer| {
            peer.open().await;
            let declare = peer.until(DECLARE).await;
            peer.answer(&declare).await;
            on_lose.await.unwrap();
        },
        async move |mut peer| {
            peer.open().await;
            let declare = peer.until(DECLARE).await;
            peer.send(locked(declare.channel)).await;
            let consume = peer.until(CONSUME).await;
            let declare = peer.until(DECLARE).await;
            peer.answer(&declare).await;
            peer.answer(&consume).await;
            let cancel = peer.method_but(&[], CANCEL).await;
            peer.answer(&cancel).await;
            let close = peer.until(CLOSE).await;
            peer.answer(&close).await;
        },
    )
    .await;
    let mut events = client.events();
    within("declaring", LONG, client.declare_queue(&exclusive())).await.unwrap();
    lose.send(()).unwrap();
    until(&mut events, |event| matches!(event, Event::Recovered { .. })).await;
    let consumer = within("consuming", LONG, client.consume("q").start()).await.unwrap();
    within("the cancel", LONG, consumer.cancel()).await.unwrap();
    within("closing", LONG, client.close()).await.unwrap();
    within("the server", LONG, server).await.unwrap();
}

// ---- starts that end the connection --------------------------------------------------------------------------

/// The broker ends the connection over a `basic.consume`.
async fn refuse(peer: &mut Peer, text: &str) {
    let text = short(text);
    peer.send(method(0, CLOSE, &[&[2, 28][..], &text, &[0, 60, 0, 20]].concat())).await;
    peer.until(CLOSE_OK).await;
}

/// Consumers that ask for the same are not tried one connection after the other.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_refused_with_540_is_not_asked_again() {
    let (client, server) = reconnecting(
        async move |mut peer| {
            peer.open().await;
            for _ in 0..4 {
                peer.until(CONSUME).await;
            }
            refuse(&mut peer, "NOT_IMPLEMENTED - no_ack is not supported by queue 'q' in vhost '/'").await;
        },
        async move |mut peer| {
            peer.open().await;
            // Of the five, the one that asks for something else.
            let consume = peer.until(CONSUME).await;
            assert_eq!(consume.fields[2..=3], [1, b'p'], "{consume:?}");
            peer.answer(&consume).await;
            let cancel = peer.method_but(&[], CANCEL).await;
            peer.answer(&cancel).await;
            let close = peer.until(CLOSE).await;
            peer.answer(&close).await;
        },
    )
    .await;
    let start = |queue: &str| client.consume(queue).no_ack(true).start();
    let (a, b, c, other) =
        within("consuming", LONG, async { tokio::join!(start("q"), start("q"), start("q"), start("p")) })
            .await;
    for refused in [a, b, c] {
        assert_eq!(refused.unwrap_err().reply_code(), Some(540));
    }
    let late = within("another", LONG, start("q")).await.unwrap_err();
    assert_eq!(late.reply_code(), Some(540), "{late}");
    let other = other.unwrap();
    within("closing", LONG, client.close()).await.unwrap();
    drop(other);
    within("the server", LONG, server).await.unwrap();
    assert_eq!(client.stats().reconnects, 1);
}

/// Where the broker does not say which consumer it was, they start one after the other: the guilty one is alone then.
#[tokio::test(flavor = "multi_thread")]
async fn the_consumer_that_ends_connections_is_found() {
    const TEXT: &str = "NOT_IMPLEMENTED - whatever";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(within("the scripts", LONG, async move {
        let accept = async || Peer::new(listener.accept().await.unwrap().0);
        let mut peer = accept().await;
        peer.open().await;
        for _ in 0..3 {
            peer.until(CONSUME).await;
        }
        refuse(&mut peer, TEXT).await;
        let mut peer = accept().await;
        peer.open().await;
        for queue in [b'a', b'b'] {
            let consume = peer.method_but(&[CHANNEL_OPEN, (60, 10)], CONSUME).await;
            assert_eq!(consume.fields[2..=3], [1, queue], "one at a time");
            if queue == b'a' {
                peer.answer(&consume).await;
            } else {
                refuse(&mut peer, TEXT).await;
            }
        }
        let mut peer = accept().await;
        peer.open().await;
        for queue in [b'a', b'c'] {
            let consume = peer.until(CONSUME).await;
            assert_eq!(consume.fields[2..=3], [1, queue]);
            peer.answer(&consume).await;
        }
        let close = peer.until(CLOSE).await;
        peer.answer(&close).await;
    }));
    let options = Options::new().host("127.0.0.1", port).operation_timeout(DEADLINE);
    let client = within("connecting", LONG, options.connect()).await.unwrap();
    let start = |queue: &str| client.consume(queue).start();
    let (a, b, c) =
        within("consuming", LONG, async { tokio::join!(start("a"), start("b"), start("c")) }).await;
    let guilty = b.unwrap_err();
    assert_eq!(guilty.reply_code(), Some(540), "{guilty}");
    let innocent = (a.unwrap(), c.unwrap());
    within("closing", LONG, client.close()).await.unwrap();
    drop(innocent);
    within("the server", LONG, server).await.unwrap();
}

/// A consumer that was refused and resumes counts once.
#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_waits_for_every_consumer() {
    let (lose, on_lose) = oneshot::channel::<()>();
    let (resumed, on_resumed) = oneshot::channel::<()>();
    let (client, server) = reconnecting(
        async move |mut peer| {
            peer.open().await;
            for _ in 0..2 {
                let consume = peer.until(CONSUME).await;
                peer.answer(&consume).await;
            }
            on_lose.await.unwrap();
        },
        async move |mut peer| {
            peer.open().await;
            let first = peer.until(CONSUME).await;
            let second = peer.until(CONSUME).await;
            peer.send(not_found(first.channel)).await;
            let again = peer.until(CONSUME).await;
            peer.answer(&again).await;
            on_resumed.await.unwrap();
            peer.answer(&second).await;
            let close = peer.until(CLOSE).await;
            peer.answer(&close).await;
        },
    )
    .await;
    let mut events = client.events();
    let resuming = within("consuming", LONG, client.consume("q").resume(true).start()).await.unwrap();
    let other = within("consuming", LONG, client.consume("p").start()).await.unwrap();
    lose.send(()).unwrap();
    let mut seen = Vec::new();
    let mut resumed = Some(resumed);
    within("the recovery", LONG, async {
        loop {
            match events.next().await.unwrap() {
                Event::ConsumerCancelled { resumes, .. } => seen.push(format!("cancelled {resumes}")),
                Event::ConsumerResumed { .. } => {
                    seen.push("resumed".into());
                    resumed.take().unwrap().send(()).unwrap();
                }
                Event::Recovered { restored, .. } => {
                    seen.push(format!("recovered {} of 2", restored.consumers));
                    break;
                }
                _ => {}
            }
        }
    })
    .await;
    assert_eq!(seen, ["cancelled true", "resumed", "recovered 1 of 2"]);
    within("closing", LONG, client.close()).await.unwrap();
    drop((resuming, other));
    within("the server", LONG, server).await.unwrap();
}

/// A message over which the connection ends, again and again, ends its own consumer.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_breaks_connections_ends_its_own_consumer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(within("the scripts", LONG, async move {
        let accept = async || Peer::new(listener.accept().await.unwrap().0);
        for _ in 0..2 {
            let mut peer = accept().await;
            peer.open().await;
            let (bad, good) = (peer.until(CONSUME).await, peer.until(CONSUME).await);
            peer.answer(&bad).await;
            peer.answer(&good).await;
            peer.send(message(bad.channel, &consumer_tag(&bad), 1, b"fine")).await;
            // The second is larger than its header says.
            let tag = consumer_tag(&bad);
            peer.send([deliver(bad.channel, &tag, 2), header(bad.channel, 1, BARE)].concat()).await;
            peer.send(body(bad.channel, b"xx")).await;
            peer.until(CLOSE).await;
        }
        let mut peer = accept().await;
        peer.open().await;
        let good = peer.until(CONSUME).await;
        peer.answer(&good).await;
        peer.send(message(good.channel, &consumer_tag(&good), 1, b"good")).await;
        let cancel = peer.method_but(&[ACK], CANCEL).await;
        peer.answer(&cancel).await;
        let close = peer.method_but(&[CHANNEL_CLOSE], CLOSE).await;
        peer.answer(&close).await;
    }));
    let options = Options::new().host("127.0.0.1", port).operation_timeout(DEADLINE);
    let client = within("connecting", LONG, options.connect()).await.unwrap();
    let (bad, good) = within("consuming", LONG, async {
        tokio::join!(client.consume("bad").start(), client.consume("good").start())
    })
    .await;
    let (bad, good) = (bad.unwrap(), good.unwrap());
    let error = within("the end", LONG, async {
        loop {
            if let Err(error) = bad.next().await.unwrap() {
                return error;
            }
        }
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::Protocol);
    let text = error.to_string();
    assert!(text.contains("'bad'") && text.contains("routing key 'q'") && text.contains("twice"), "{text}");
    let delivery = within("the other's message", LONG, good.next()).await.unwrap().unwrap();
    assert_eq!(delivery.body().as_ref(), b"good");
    delivery.ack().unwrap();
    within("closing", LONG, client.close()).await.unwrap();
    within("the server", LONG, server).await.unwrap();
}
