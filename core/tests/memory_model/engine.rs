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

pub(crate) use crate::publish;

/// What the modules use of `engine/sync.rs`.
pub mod sync {
    use std::{
        future::poll_fn,
        ops::{Deref, DerefMut},
        sync::{LockResult, TryLockError, TryLockResult},
        task::{Poll, Waker},
    };

    use loom::sync::Condvar;
    pub use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

    /// A lock of loom's, behind a flag: loom 0.7 has a thread that is about to `try_lock` wait for the holder, which is a
    /// deadlock where there is none.
    pub struct Mutex<T> {
        held: loom::sync::Mutex<bool>,
        freed: Condvar,
        value: loom::sync::Mutex<T>,
    }

    pub struct MutexGuard<'a, T> {
        mutex: &'a Mutex<T>,
        value: Option<loom::sync::MutexGuard<'a, T>>,
    }

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            let value = loom::sync::Mutex::new(value);
            Self { held: loom::sync::Mutex::new(false), freed: Condvar::new(), value }
        }

        fn guard(&self) -> MutexGuard<'_, T> {
            MutexGuard { mutex: self, value: Some(self.value.lock().unwrap()) }
        }

        #[allow(clippy::unnecessary_wraps, reason = "as std's")]
        pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            let mut held = self.held.lock().unwrap();
            while *held {
                held = self.freed.wait(held).unwrap();
            }
            *held = true;
            drop(held);
            Ok(self.guard())
        }

        pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
            if std::mem::replace(&mut *self.held.lock().unwrap(), true) {
                return Err(TryLockError::WouldBlock);
            }
            Ok(self.guard())
        }
    }

    impl<T: Default> Default for Mutex<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.value.as_ref().unwrap()
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.value.as_mut().unwrap()
        }
    }

    impl<T> Drop for MutexGuard<'_, T> {
        fn drop(&mut self) {
            self.value = None;
            *self.mutex.held.lock().unwrap() = false;
            self.mutex.freed.notify_one();
        }
    }

    /// As tokio's, for one that waits.
    #[derive(Default)]
    pub struct Notify(loom::sync::Mutex<(bool, Option<Waker>)>);

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
