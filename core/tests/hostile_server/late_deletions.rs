//! A broker that notices the end of the lost connection only after the new one has declared everything: the exclusive
//! queues of the lost one go then, and with their bindings auto-delete exchanges.

use std::future::Future;

use murano_messaging::{Binding, Event, Exchange, Queue, events::Restored};
use murano_testkit::within;
use tokio::sync::oneshot;

use crate::{
    bytes::*,
    consumers::reconnecting,
    script::{LONG, Peer},
};

const DECLARE_EXCHANGE: Id = (40, 10);
const DECLARE_EXCHANGE_OK: Id = (40, 11);
const BIND: Id = (50, 20);
const BIND_OK: Id = (50, 21);

impl Peer {
    async fn exchange_declared(&mut self) {
        let declare = self.until(DECLARE_EXCHANGE).await;
        self.send(method(declare.channel, DECLARE_EXCHANGE_OK, &[])).await;
    }

    async fn bound(&mut self) {
        let bind = self.until(BIND).await;
        self.send(method(bind.channel, BIND_OK, &[])).await;
    }

    /// The exchange has just gone.
    async fn bind_refused(&mut self) {
        let bind = self.until(BIND).await;
        let text = "NOT_FOUND - no exchange 'e' in vhost '/'";
        self.send(close(bind.channel, CHANNEL_CLOSE, 404, text)).await;
    }

    /// The script has come to its end: the client may close.
    async fn until_closed(mut self, done: oneshot::Sender<()>) {
        done.send(()).unwrap();
        let close = self.until(CLOSE).await;
        self.answer(&close).await;
    }
}

/// The recoveries of a client that has bound an exclusive queue to an exchange, up to the one that `is_last`. `second` is
/// the script of the new connection, up to its close.
async fn recoveries<S>(
    auto_delete: bool,
    second: impl FnOnce(Peer, oneshot::Sender<()>) -> S + Send + 'static,
    is_last: impl Fn(&Restored) -> bool,
) -> Vec<Restored>
where
    S: Future<Output = ()> + Send + 'static,
{
    let (lose, on_lose) = oneshot::channel::<()>();
    let first = async move |mut peer: Peer| {
        peer.open().await;
        peer.exchange_declared().await;
        peer.bound().await;
        on_lose.await.unwrap();
    };
    let (done, on_done) = oneshot::channel();
    let (client, server) = reconnecting(first, |peer| second(peer, done)).await;
    let mut events = client.events();
    let exchange = Exchange::fanout("e").auto_delete(auto_delete);
    within("declaring", LONG, client.declare_exchange(&exchange)).await.unwrap();
    within("declaring", LONG, client.declare_queue(&Queue::new("q").exclusive(true))).await.unwrap();
    within("binding", LONG, client.bind(&Binding::queue("q", "e"))).await.unwrap();
    lose.send(()).unwrap();
    let mut recoveries = Vec::new();
    within("the recoveries", LONG, async {
        while !recoveries.last().is_some_and(&is_last) {
            if let Event::Recovered { restored, .. } = events.next().await.unwrap() {
                recoveries.push(restored);
            }
        }
    })
    .await;
    within("the script", LONG, on_done).await.unwrap();
    within("closing", LONG, client.close()).await.unwrap();
    within("the server", LONG, server).await.unwrap();
    recoveries
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auto_delete_exchange_that_goes_during_the_recovery_is_declared_once_more() {
    let second = async move |mut peer: Peer, done: oneshot::Sender<()>| {
        peer.open().await;
        peer.exchange_declared().await;
        peer.bind_refused().await;
        peer.exchange_declared().await;
        peer.bound().await;
        peer.until_closed(done).await;
    };
    let recoveries = recoveries(true, second, |_| true).await;
    let restored = &recoveries[0];
    assert_eq!((restored.exchanges, restored.queues, restored.bindings), (1, 1, 1), "{restored:?}");
    assert!(restored.failed.is_empty(), "{restored:?}");
}

/// It was not the exchange's going, or it goes for another reason: once is enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_binding_that_is_refused_again_is_told_of() {
    let second = async move |mut peer: Peer, done: oneshot::Sender<()>| {
        peer.open().await;
        peer.exchange_declared().await;
        peer.bind_refused().await;
        peer.exchange_declared().await;
        peer.bind_refused().await;
        peer.until_closed(done).await;
    };
    let recoveries = recoveries(true, second, |_| true).await;
    let restored = &recoveries[0];
    assert_eq!((restored.exchanges, restored.queues, restored.bindings), (1, 1, 0), "{restored:?}");
    assert_eq!(restored.failed.len(), 1, "{restored:?}");
}

/// Somebody has deleted it.
#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_is_no_auto_delete_one_is_not_declared_again_for_its_binding() {
    let second = async move |mut peer: Peer, done: oneshot::Sender<()>| {
        peer.open().await;
        peer.exchange_declared().await;
        peer.bind_refused().await;
        done.send(()).unwrap();
        let next = peer.method_but(&[CHANNEL_CLOSE_OK, CHANNEL_OPEN], CLOSE).await;
        peer.answer(&next).await;
    };
    let recoveries = recoveries(false, second, |_| true).await;
    assert_eq!(recoveries[0].failed.len(), 1, "{recoveries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auto_delete_exchange_that_goes_while_its_queue_is_locked_is_declared_once_more() {
    let second = async move |mut peer: Peer, done: oneshot::Sender<()>| {
        peer.open().await;
        peer.exchange_declared().await;
        let declare = peer.until(DECLARE).await;
        let text = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q'";
        peer.send(close(declare.channel, CHANNEL_CLOSE, 405, text)).await;
        let declare = peer.until(DECLARE).await;
        peer.answer(&declare).await;
        peer.bind_refused().await;
        peer.exchange_declared().await;
        peer.bound().await;
        peer.until_closed(done).await;
    };
    let recoveries = recoveries(true, second, |restored| restored.queues == 1).await;
    assert!(recoveries.iter().all(|restored| restored.failed.is_empty()), "{recoveries:?}");
}
