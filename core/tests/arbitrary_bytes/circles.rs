//! An engine that has nothing to do waits. On a clock that only jumps when every task waits, one that spins
//! stops time.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use murano_messaging::{
    Connecting, Connector, ErrorKind, Event, Events, Host, Message, Options, Stream, TlsOptions, events::Role,
};
use tokio::task::AbortHandle;

use crate::{ONE_AT_A_TIME, PATIENCE, server::serve_politely, watch};

/// Serves some connections and never answers the others.
struct Moody {
    /// By number, from the first connection on; never afterwards.
    serves: &'static [bool],
    asked: AtomicUsize,
    served: Mutex<Vec<AbortHandle>>,
}

impl Moody {
    /// Ends the connection that was served `back` connections before the last one.
    fn cut(&self, back: usize) {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served[served.len() - 1 - back].abort();
    }
}

impl Connector for Moody {
    fn connect<'a>(&'a self, _: &'a Host, _: Option<&'a TlsOptions>) -> Connecting<'a> {
        Box::pin(async move {
            let number = self.asked.fetch_add(1, Ordering::Relaxed);
            if !self.serves.get(number).copied().unwrap_or(false) {
                std::future::pending::<()>().await;
            }
            let (ours, theirs) = tokio::io::duplex(4096);
            let task = tokio::spawn(serve_politely(theirs)).abort_handle();
            self.served.lock().unwrap_or_else(PoisonError::into_inner).push(task);
            Ok(Stream::new(ours, "moody"))
        })
    }
}

async fn wait_for(events: &mut Events, wanted: impl Fn(&Event) -> bool) {
    while !wanted(&events.next().await.expect("the client lives")) {}
}

/// The publishing connection is lost while it waits for the other one's topology, and neither comes back.
#[test]
fn reconnecting_after_the_wait_for_the_topology_was_cut_short() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (ended, done) = mpsc::channel();
    watch(&RUNS, done);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        // Main, publishing; main again, which is not answered; publishing again, which is.
        let serves = &[true, true, false, true];
        let moody = Arc::new(Moody { serves, asked: AtomicUsize::new(0), served: Mutex::default() });
        let client = Options::new().connector(moody.clone()).connect().await.unwrap();
        let mut events = client.events();
        let publish = client.publish_deferred("", "q", Message::text("x")).await.unwrap();
        wait_for(&mut events, |event| matches!(event, Event::Connected { role: Role::Publish, .. })).await;
        moody.cut(1);
        wait_for(&mut events, |event| matches!(event, Event::Connecting { role: Role::Main, .. })).await;
        moody.cut(0);
        wait_for(&mut events, |event| matches!(event, Event::Connected { role: Role::Publish, .. })).await;
        moody.cut(0);
        wait_for(&mut events, |event| matches!(event, Event::Lost { role: Role::Publish, .. })).await;
        // Longer than it would have waited for the topology.
        tokio::time::sleep(2 * PATIENCE).await;
        assert_eq!(publish.await.unwrap_err().kind(), ErrorKind::Timeout);
        assert!(tokio::time::timeout(Duration::from_secs(60), client.close()).await.is_ok());
    });
    ended.send(()).expect("the watchdog waits");
}
