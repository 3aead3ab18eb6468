//! The wake-up of an engine: many callers, one sleeper, one notification for a batch of calls.

use super::sync::{AtomicBool, Notify, Ordering};

#[derive(Default)]
pub(crate) struct EngineWaker {
    /// The engine was notified and has not looked yet.
    notified: AtomicBool,
    notify: Notify,
}

impl EngineWaker {
    /// Has the engine take a turn, which sees everything that the caller did before.
    ///
    /// Caller and engine both swap the flag. In its modification order the caller's swap comes either before that of
    /// [`Self::rearm`], which then acquires what the caller released, or after it: then it finds the flag unset and
    /// notifies.
    pub fn wake(&self) {
        if !self.notified.swap(true, Ordering::AcqRel) {
            self.notify.notify_one();
        }
    }

    /// The engine is about to look at what callers left: whoever comes later notifies it again.
    pub fn rearm(&self) {
        self.notified.swap(false, Ordering::AcqRel);
    }

    /// Waits for [`Self::wake`].
    pub async fn woken(&self) {
        self.notify.notified().await;
    }
}
