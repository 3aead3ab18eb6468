//! Who is woken when a promise may go on: threads and green threads that wait, and a descriptor for other event loops.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Wake, Waker},
};

use crate::wait::descriptor::Descriptor;

#[derive(Default)]
struct State {
    woken: Vec<u64>,
    waiters: Vec<Waker>,
    /// Results wait to be handed out.
    ready: bool,
    /// Made when somebody asks for it; most programs never do, and pay no system calls for it.
    descriptor: Option<Descriptor>,
    signalled: bool,
}

impl State {
    /// Keeps the descriptor readable exactly while there is something to do.
    fn show(&mut self) {
        let Some(descriptor) = &self.descriptor else { return };
        let wanted = self.ready || !self.woken.is_empty();
        if wanted && !self.signalled {
            descriptor.set();
        } else if !wanted && self.signalled {
            descriptor.clear();
        }
        self.signalled = wanted;
    }
}

/// The numbers of the promises that may go on, and who waits for that.
#[derive(Default)]
pub struct Signals(Mutex<State>);

impl Signals {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A waker that has the promise of this number looked at.
    pub fn waker(self: &Arc<Self>, number: u64) -> Waker {
        Waker::from(Arc::new(Signal { signals: self.clone(), number }))
    }

    fn wake(&self, number: u64) {
        let mut state = self.lock();
        state.woken.push(number);
        state.show();
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        waiters.into_iter().for_each(Waker::wake);
    }

    /// Wakes everybody who waits, to look again.
    pub fn wake_all(&self) {
        let waiters = std::mem::take(&mut self.lock().waiters);
        waiters.into_iter().for_each(Waker::wake);
    }

    /// The promises to look at, each since the last time.
    pub fn take(&self) -> Vec<u64> {
        std::mem::take(&mut self.lock().woken)
    }

    /// Whether results wait to be handed out.
    pub fn set_ready(&self, ready: bool) {
        let mut state = self.lock();
        state.ready = ready;
        state.show();
    }

    /// Registers a waiter, until it is woken once.
    pub fn wait(&self, waker: &Waker) {
        let mut state = self.lock();
        if !state.waiters.iter().any(|known| known.will_wake(waker)) {
            state.waiters.push(waker.clone());
        }
    }

    /// Takes the registration back.
    pub fn leave(&self, waker: &Waker) {
        self.lock().waiters.retain(|known| !known.will_wake(waker));
    }

    /// The descriptor that is readable while there is something to do.
    pub fn descriptor(&self) -> io::Result<i64> {
        let mut state = self.lock();
        if state.descriptor.is_none() {
            state.descriptor = Some(Descriptor::new()?);
            state.show();
        }
        Ok(state.descriptor.as_ref().map_or(-1, Descriptor::number))
    }
}

struct Signal {
    signals: Arc<Signals>,
    number: u64,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.signals.wake(self.number);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.signals.wake(self.number);
    }
}
