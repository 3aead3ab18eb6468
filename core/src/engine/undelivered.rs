//! Deliveries that were received and not handed out: what the queues of deliveries and the engine share of the read budget.

use std::sync::Arc;

use super::{read_budget::ReadBudget, waker::EngineWaker};

pub(crate) struct Undelivered {
    budget: ReadBudget,
    waker: Arc<EngineWaker>,
}

impl Undelivered {
    pub fn new(limit: usize, waker: Arc<EngineWaker>) -> Self {
        Self { budget: ReadBudget::new(limit), waker }
    }

    pub fn arrived(&self, bytes: usize) {
        self.budget.arrived(bytes);
    }

    pub fn handed_out(&self, bytes: usize) {
        if self.budget.handed_out(bytes) {
            self.waker.wake();
        }
    }

    /// Whether no more is to be read; the engine hears when that is over.
    pub fn is_used_up(&self) -> bool {
        self.budget.must_pause()
    }

    /// Whether twice the budget is used up: then nothing is read, even if a caller waits for a reply.
    pub fn is_overdrawn(&self) -> bool {
        self.budget.is_overdrawn()
    }

    /// Somebody has begun to wait for something that is to be read: a paused engine looks whether it may be.
    pub fn somebody_waits(&self) {
        if self.budget.is_paused() {
            self.waker.wake();
        }
    }

    /// Bytes of memory that they take.
    pub fn bytes(&self) -> usize {
        self.budget.undelivered()
    }
}

#[cfg(all(test, not(engine_model)))]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    fn budget() -> (Undelivered, Arc<EngineWaker>) {
        let waker = Arc::<EngineWaker>::default();
        (Undelivered::new(10, waker.clone()), waker)
    }

    fn is_woken(waker: &EngineWaker) -> bool {
        waker.rearm();
        pin!(waker.woken()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_engine_hears_once_that_there_is_room_again() {
        let (budget, waker) = budget();
        budget.arrived(12);
        assert!(budget.is_used_up() && !budget.is_overdrawn());
        budget.handed_out(2);
        assert!(!is_woken(&waker), "still full");
        budget.handed_out(1);
        assert!(is_woken(&waker));
        budget.handed_out(1);
        assert!(!is_woken(&waker));
        assert!(!budget.is_used_up());
    }

    #[test]
    fn who_begins_to_wait_wakes_a_paused_engine_only() {
        let (budget, waker) = budget();
        budget.somebody_waits();
        assert!(!is_woken(&waker));
        budget.arrived(20);
        assert!(budget.is_used_up() && budget.is_overdrawn());
        budget.somebody_waits();
        assert!(is_woken(&waker));
    }
}
