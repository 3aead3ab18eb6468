//! The result of one publish.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::Publishing;
use crate::{Error, ErrorKind, Result};

/// The broker's answer to one publish, to be awaited now or later (RabbitMQ, publisher confirms).
///
/// `Ok` when the broker has taken responsibility for the message. Errors: [`ErrorKind::Unroutable`],
/// [`ErrorKind::Nacked`], [`ErrorKind::NotFound`] (no such exchange), [`ErrorKind::AccessRefused`],
/// [`ErrorKind::Timeout`], [`ErrorKind::Blocked`], [`ErrorKind::Cancelled`], [`ErrorKind::ConnectionLost`],
/// [`ErrorKind::Closed`] ... [`Error::outcome_unknown`] says whether the broker may have taken the message all the same.
/// Dropping it does not cancel the publish.
///
/// ```
/// # async fn example() -> murano_messaging::Result<()> {
/// # use murano_messaging::{Client, Queue};
/// let client = Client::connect("memory://confirmation").await?;
/// client.declare_queue(&Queue::new("tasks")).await?;
/// let publisher = client.publisher("", "tasks");
/// let mut pending = Vec::new();
/// for number in 0..100 {
///     pending.push(publisher.publish_deferred(format!("task {number}")).await?);
/// }
/// for confirmation in pending {
///     confirmation.await?;
/// }
/// # client.close().await
/// # }
/// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
/// ```
#[must_use = "a publish is known to be safe only when its confirmation was awaited"]
pub struct Confirmation {
    publishing: Arc<Publishing>,
    index: u32,
}

/// The number of a slot that is not ours any more.
const TAKEN: u32 = u32::MAX;

impl Confirmation {
    pub(super) fn new(publishing: Arc<Publishing>, index: u32) -> Self {
        Self { publishing, index }
    }

    /// Whether the result is known, so that awaiting it will not wait.
    pub fn is_ready(&self) -> bool {
        self.index == TAKEN || self.publishing.with(|window| window.has_result(self.index))
    }

    /// Gives the publish up, unless its result is known: it is not sent if it has not been, and never republished. Awaiting
    /// it then returns [`ErrorKind::Cancelled`]; [`Error::outcome_unknown`] is false if it was never sent.
    pub fn cancel(&self) {
        if self.index != TAKEN {
            let error = Error::new(ErrorKind::Cancelled, "the publish was cancelled");
            self.publishing.with(|window| window.give_up(self.index, error));
        }
    }
}

impl Future for Confirmation {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let index = self.index;
        assert!(index != TAKEN, "a Confirmation was polled after it was ready");
        let polled = self.publishing.lock().poll_result(cx, index);
        if polled.is_ready() {
            self.index = TAKEN;
        }
        polled
    }
}

impl Drop for Confirmation {
    fn drop(&mut self) {
        if self.index != TAKEN {
            let index = self.index;
            self.publishing.with(|window| window.detach(index));
        }
    }
}

impl std::fmt::Debug for Confirmation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Confirmation").field("ready", &self.is_ready()).finish()
    }
}

/// A publish that is awaited whole: dropping it cancels the publish.
pub(crate) struct CancelOnDrop(pub Confirmation);

impl Future for CancelOnDrop {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
