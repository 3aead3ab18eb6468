//! The bound on the memory of deliveries that were received and not handed out, at which the engine stops reading.

use super::sync::{AtomicBool, AtomicUsize, Ordering, fence};

pub(crate) struct ReadBudget {
    limit: usize,
    /// Bytes of memory that deliveries take which were received and not handed out.
    undelivered: AtomicUsize,
    /// The engine has stopped reading until they are fewer.
    paused: AtomicBool,
}

impl ReadBudget {
    pub fn new(limit: usize) -> Self {
        Self { limit, undelivered: AtomicUsize::new(0), paused: AtomicBool::new(false) }
    }

    pub fn arrived(&self, bytes: usize) {
        self.undelivered.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Deliveries were handed out. Returns whether the engine is to be woken, because it may read again.
    ///
    /// This side writes `undelivered` and then looks at `paused`; [`Self::must_pause`] writes `paused` and then looks at
    /// `undelivered`. One of the two must see the other's write, or the engine sleeps with room in the budget. Release and
    /// acquire allow both loads to pass the stores; a `SeqCst` fence between the two on each side forbids it.
    #[must_use]
    pub fn handed_out(&self, bytes: usize) -> bool {
        let before = self.undelivered.fetch_sub(bytes, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        before - bytes < self.limit && self.paused.swap(false, Ordering::AcqRel)
    }

    /// Whether reading must stop; [`Self::handed_out`] says when it may go on.
    pub fn must_pause(&self) -> bool {
        // Most of the time there is room, and nobody needs to be told.
        if self.undelivered.load(Ordering::Relaxed) < self.limit {
            return false;
        }
        self.paused.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        self.undelivered.load(Ordering::Acquire) >= self.limit
    }

    /// Whether the engine may be paused. Also true after [`Self::must_pause`] has found room at its second look, until
    /// deliveries are handed out: a wake-up for nothing does no harm.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    /// Whether twice the budget is used up.
    pub fn is_overdrawn(&self) -> bool {
        self.undelivered.load(Ordering::SeqCst) >= self.limit.saturating_mul(2)
    }

    pub fn undelivered(&self) -> usize {
        self.undelivered.load(Ordering::Relaxed)
    }
}
