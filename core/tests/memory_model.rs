//! The parts of the engine whose safety is a matter of the order of memory accesses, in every order that the memory model
//! allows: `RUSTFLAGS='--cfg engine_model' cargo test -p murano-messaging --test memory_model`.

#![cfg(engine_model)]

/// What the parts use of `engine/sync.rs`.
mod sync {
    pub use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

    /// As tokio's, but that its wait blocks the thread.
    pub struct Notify(loom::sync::Notify);

    impl Default for Notify {
        fn default() -> Self {
            Self(loom::sync::Notify::new())
        }
    }

    impl Notify {
        pub fn notify_one(&self) {
            self.0.notify();
        }

        #[allow(clippy::unused_async, reason = "tokio's waits")]
        pub async fn notified(&self) {
            self.0.wait();
        }
    }
}

#[path = "../src/engine/read_budget.rs"]
#[allow(dead_code, reason = "the engine uses more of it")]
mod read_budget;
#[path = "../src/engine/waker.rs"]
mod waker;

use std::{
    pin::pin,
    task::{Context, Waker},
};

use loom::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// The engine stops reading and is woken by nobody: it would sleep for ever.
#[test]
fn a_hand_out_wakes_an_engine_that_stopped_reading() {
    loom::model(|| {
        let budget = Arc::new(read_budget::ReadBudget::new(1));
        budget.arrived(1);
        let application = thread::spawn({
            let budget = budget.clone();
            move || budget.handed_out(1)
        });
        let pauses = budget.must_pause();
        let woken = application.join().unwrap();
        assert!(woken || !pauses, "the engine sleeps with room in its budget");
    });
}

/// What a caller did before it woke the engine is seen by the look that follows.
#[test]
fn a_wake_up_is_never_lost() {
    loom::model(|| {
        let waker = Arc::new(waker::EngineWaker::default());
        let work = Arc::new(AtomicUsize::new(0));
        let caller = thread::spawn({
            let (waker, work) = (waker.clone(), work.clone());
            move || {
                for _ in 0..2 {
                    work.fetch_add(1, Ordering::Relaxed);
                    waker.wake();
                }
            }
        });
        // The engine's loop: sleep, rearm, look. Without a wake-up for work that it has not seen it would sleep for ever.
        while work.load(Ordering::Relaxed) < 2 {
            assert!(pin!(waker.woken()).poll(&mut Context::from_waker(Waker::noop())).is_ready());
            waker.rearm();
        }
        caller.join().unwrap();
    });
}
