//! The wait of the publishing connection for the topology of the other one.

use std::{future::poll_fn, pin::Pin, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::{
    command::{Command, Pending},
    link::Link,
};
use crate::Result;

/// The longest wait: after that, publishes are sent whatever is there.
const LONGEST: Duration = Duration::from_secs(5);

/// Publishes are sent again once the queues that they are for are back, which another connection sees to.
pub(super) struct TopologyWait {
    restored: oneshot::Receiver<Result<()>>,
    pub until: Instant,
}

impl TopologyWait {
    /// Asks the engine of `other` to say when its topology is back. `None` when that engine is gone.
    pub fn begin(other: &Link) -> Option<Self> {
        let (reply, restored) = oneshot::channel();
        let until = Instant::now() + LONGEST;
        let reply = Pending { name: "wait for the topology".into(), deadline: until, to: Some(reply) };
        other.send(Command::AwaitRestored { reply }).ok()?;
        Some(Self { restored, until })
    }

    /// Ready when the topology of the other connection is back, or its engine is gone; never without a wait.
    pub async fn over(wait: Option<&mut Self>) {
        match wait {
            Some(wait) => poll_fn(|cx| Pin::new(&mut wait.restored).poll(cx).map(drop)).await,
            None => std::future::pending().await,
        }
    }
}
