//! The queue of what became ready: any thread fills it, one loop empties it, and the descriptor is set once for all that comes
//! between two looks. A model checker runs it (`core/tests/memory_model`).

use std::sync::PoisonError;

use super::{
    descriptor::Descriptor,
    sync::{Mutex, MutexGuard},
};

/// Numbers that became ready, and the descriptor that tells.
pub struct Queue {
    state: Mutex<State>,
    descriptor: Descriptor,
}

#[derive(Default)]
struct State {
    ready: Vec<u64>,
    /// The loop has been told and has not looked yet.
    told: bool,
}

impl Queue {
    pub fn new(descriptor: Descriptor) -> Self {
        Self { state: Mutex::default(), descriptor }
    }

    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number became ready, on any thread.
    pub fn push(&self, number: u64) {
        let mut state = self.lock();
        state.ready.push(number);
        if !std::mem::replace(&mut state.told, true) {
            drop(state);
            self.descriptor.set();
        }
    }

    /// All that is ready, for the loop that the descriptor has woken.
    pub fn take(&self) -> Vec<u64> {
        self.descriptor.clear();
        let mut state = self.lock();
        state.told = false;
        std::mem::take(&mut state.ready)
    }
}
