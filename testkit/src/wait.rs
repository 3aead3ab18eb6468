//! Waiting for conditions, free ports, unique names.

use std::{
    future::Future,
    net::TcpListener,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime},
};

/// Waits until `condition` holds; panics with `what` after `deadline`.
pub async fn eventually<F, Fut>(what: &str, deadline: Duration, mut condition: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let until = tokio::time::Instant::now() + deadline;
    while !condition().await {
        assert!(tokio::time::Instant::now() < until, "not within {deadline:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for `future`; panics with `what` after `deadline`.
pub async fn within<F: Future>(what: &str, deadline: Duration, future: F) -> F::Output {
    tokio::time::timeout(deadline, future).await.unwrap_or_else(|_| panic!("not within {deadline:?}: {what}"))
}

/// A TCP port on the loopback address without a listener at this moment.
///
/// Below the range that the kernel hands out by itself, so that no outgoing connection takes it meanwhile.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(37) % 10_000;
    for _ in 0..10_000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + ((start + step) % 10_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("::1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port between 20000 and 30000 is free");
}

/// A unique name.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{:x}-{number}", std::process::id(), now.as_nanos() & 0xffff_ffff)
}
