//! Futures of the application (credentials callbacks, connectors), run so that a panic in one is an error of its own: it
//! must not end the engine that polls it.

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::Poll,
};

/// The application's future panicked. What it said is not kept: it may be a secret, and the panic hook has printed it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panicked;

impl From<Box<dyn Any + Send>> for Panicked {
    fn from(_: Box<dyn Any + Send>) -> Self {
        Self
    }
}

/// Calls `make`, and polls the future that it gives.
pub(crate) async fn guarded<'a, T>(
    make: impl FnOnce() -> Pin<Box<dyn Future<Output = T> + Send + 'a>>,
) -> Result<T, Panicked> {
    // Neither is used again after a panic, so nothing half changed is seen.
    let mut future = catch_unwind(AssertUnwindSafe(make))?;
    poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => Poll::Ready(Err(panic.into())),
    })
    .await
}
