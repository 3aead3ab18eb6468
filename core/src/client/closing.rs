//! The end of a client: in order, or when its last handle is dropped.

use std::time::Duration;

use tokio::{sync::oneshot, time::Instant};

use super::{Client, Inner};
use crate::{
    Result,
    engine::{
        closed,
        command::{Command, Pending},
        link::Link,
    },
    options::LONGEST_TIMEOUT,
};

impl Drop for Inner {
    fn drop(&mut self) {
        for link in self.links() {
            let deadline = Instant::now() + self.options.operation_timeout;
            let reply = Pending { name: "close".into(), deadline, to: None };
            // An engine that is gone has closed its connection.
            let _ = link.send(Command::Close { drain: false, reply });
        }
    }
}

impl Client {
    /// Closes the client in order: consumers are cancelled and acks sent, publishes flushed and confirmed, the
    /// connections closed. What takes longer than the operation timeout (or that of [`Self::with_timeout`]) is dropped,
    /// with [`crate::ErrorKind::Timeout`].
    pub async fn close(&self) -> Result<()> {
        self.end(false, self.timeout()).await
    }

    /// As [`Self::close`], and waits up to `timeout` for the application to settle the deliveries that it holds, as a
    /// SIGTERM handler should. Consumers end at once; what they had not handed out goes back to its queue. Where
    /// publishes on a connection of their own are unconfirmed when it begins, a fifth of the time, 2 s at most, is kept
    /// for their confirms.
    pub async fn drain(&self, timeout: Duration) -> Result<()> {
        self.end(true, timeout).await
    }

    async fn end(&self, drain: bool, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout.min(LONGEST_TIMEOUT);
        // Consumers first: while their deliveries are settled, answers may still be published, also for the first time.
        let unconfirmed =
            self.0.options.separate_publish_connection && self.0.publishing.with(|window| !window.is_empty());
        let reserve = if unconfirmed { reserve(timeout) } else { Duration::ZERO };
        let main = end_link(&self.0.main, drain, deadline.checked_sub(reserve).unwrap_or(deadline)).await;
        let publish = match self.0.publish_link() {
            Some(link) => end_link(&link, drain, deadline).await,
            None => Ok(()),
        };
        self.0.publishing.with(|window| {
            if !window.is_closed() {
                window.close(&closed());
            }
        });
        publish.and(main)
    }
}

/// What is kept of a close's time for the publishes, whatever becomes of the deliveries: one that is never settled must not
/// cost the confirms.
fn reserve(timeout: Duration) -> Duration {
    (timeout / 5).min(Duration::from_secs(2))
}

/// Has the engine of a connection end it, and waits for that.
async fn end_link(link: &Link, drain: bool, deadline: Instant) -> Result<()> {
    let (reply, answer) = oneshot::channel();
    let reply = Pending { name: "close".into(), deadline, to: Some(reply) };
    // An engine that is gone has nothing left to close.
    if link.send(Command::Close { drain, reply }).is_err() {
        return Ok(());
    }
    answer.await.unwrap_or(Ok(()))
}
