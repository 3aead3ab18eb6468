//! The engine's modules that are checked, from their own files, and stubs of those that they use.

#[path = "../../src/engine/delivery_queue.rs"]
#[allow(dead_code, reason = "the engine uses more of it")]
pub mod delivery_queue;
#[path = "../../src/engine/outbox.rs"]
#[allow(dead_code, reason = "the engine uses more of it")]
pub mod outbox;
#[path = "../../src/engine/read_budget.rs"]
#[allow(dead_code, reason = "the engine uses more of it")]
pub mod read_budget;
#[path = "../../src/engine/undelivered.rs"]
#[allow(dead_code, reason = "the engine uses more of it")]
pub mod undelivered;
#[path = "../../src/engine/waker.rs"]
pub mod waker;

pub use crate::publish;

/// What the modules use of `engine/sync.rs`.
pub mod sync {
    use std::{
        future::poll_fn,
        task::{Poll, Waker},
    };

    pub use loom::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering, fence},
    };

    /// As tokio's, for one that waits.
    #[derive(Default)]
    pub struct Notify(Mutex<(bool, Option<Waker>)>);

    impl Notify {
        pub fn notify_one(&self) {
            let mut state = self.0.lock().unwrap();
            state.0 = true;
            let waker = state.1.take();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }

        pub async fn notified(&self) {
            poll_fn(|cx| {
                let mut state = self.0.lock().unwrap();
                if std::mem::take(&mut state.0) {
                    return Poll::Ready(());
                }
                state.1 = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
        }
    }
}

pub mod acks {
    pub use murano_messaging::OnDrop;
}

/// A write half that counts bytes.
pub mod writer {
    pub const HIGH_WATER: usize = 100;

    pub struct Writer {
        pub buffer: Vec<u8>,
        pub frame_max: u32,
        pub written: usize,
        /// The socket takes what callers write.
        pub takes: bool,
    }

    impl Default for Writer {
        fn default() -> Self {
            Self { buffer: Vec::new(), frame_max: 4096, written: 0, takes: true }
        }
    }

    impl Writer {
        pub fn is_attached(&self) -> bool {
            true
        }

        pub fn is_idle(&self) -> bool {
            self.buffer.is_empty()
        }

        /// As the engine writes.
        pub fn flush(&mut self) {
            self.written += self.buffer.len();
            self.buffer.clear();
        }

        /// As a caller writes. Returns whether the engine has something left to do.
        pub fn flush_now(&mut self) -> bool {
            if self.takes {
                self.flush();
            }
            !self.takes
        }
    }
}
