//! Who waits for one thing that wakes only one: the core knows one waker of a confirmation, or of a consumer that starts.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Wake, Waker},
};

/// A number for each wait, so that one that is over can take itself off.
pub fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Who waits for one thing: nearly always nobody or one, but any thread or task may.
#[derive(Default)]
pub enum Waiters {
    #[default]
    None,
    One(u64, Waker),
    Many(Arc<All>),
}

/// Wakes all of them: the core knows one waker only.
#[derive(Default)]
pub struct All(Mutex<HashMap<u64, Waker>>);

impl All {
    fn wakers(&self) -> MutexGuard<'_, HashMap<u64, Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for All {
    fn wake(self: Arc<Self>) {
        let wakers = std::mem::take(&mut *self.wakers());
        wakers.into_values().for_each(Waker::wake);
    }
}

impl Waiters {
    /// Adds the wait `number`, and returns whom the core is to wake.
    pub fn with(&mut self, number: u64, waker: &Waker) -> Waker {
        match self {
            Self::One(known, its) if *known != number => {
                let wakers = HashMap::from([(*known, its.clone()), (number, waker.clone())]);
                let all = Arc::new(All(Mutex::new(wakers)));
                *self = Self::Many(all.clone());
                all.into()
            }
            Self::None | Self::One(..) => {
                *self = Self::One(number, waker.clone());
                waker.clone()
            }
            Self::Many(all) => {
                all.wakers().insert(number, waker.clone());
                all.clone().into()
            }
        }
    }

    /// The wait `number` is over.
    pub fn without(&mut self, number: u64) {
        match self {
            Self::One(known, _) if *known == number => *self = Self::None,
            Self::Many(all) => {
                all.wakers().remove(&number);
            }
            Self::None | Self::One(..) => {}
        }
    }

    /// Wakes all of them.
    pub fn wake(self) {
        match self {
            Self::None => {}
            Self::One(_, waker) => waker.wake(),
            Self::Many(all) => all.wake(),
        }
    }
}
