//! A bound on a wait that has none of its own.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{Instant, Sleep},
};

/// `future`, or `None` when `timeout` is over. The timer is only made when there is something to wait for.
pub struct Timeout<F> {
    future: F,
    runtime: Handle,
    deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// A longer timeout is as good as this one, and `Instant` does not overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

impl<F> Timeout<F> {
    pub fn new(runtime: Handle, timeout: Option<Duration>, future: F) -> Self {
        let deadline = timeout.map(|timeout| Instant::now() + timeout.min(LONGEST));
        Self { future, runtime, deadline, sleep: None }
    }
}

impl<F: Future + Unpin> Future for Timeout<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Poll::Ready(output) = Pin::new(&mut this.future).poll(cx) {
            return Poll::Ready(Some(output));
        }
        let Some(deadline) = this.deadline else {
            return Poll::Pending;
        };
        if deadline <= Instant::now() {
            return Poll::Ready(None);
        }
        let sleep = this.sleep.get_or_insert_with(|| {
            let _runtime = this.runtime.enter();
            Box::pin(tokio::time::sleep_until(deadline))
        });
        sleep.as_mut().poll(cx).map(|()| None)
    }
}
