//! What publishing needs of a connection: the write half, and the wake-up of the engine.

use std::sync::{Arc, PoisonError};

use super::{
    sync::{Mutex, MutexGuard},
    waker::EngineWaker,
    writer::Writer,
};

#[derive(Default)]
pub(crate) struct Outbox {
    writer: Mutex<Writer>,
    waker: Arc<EngineWaker>,
}

impl Outbox {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The write half, for the engine.
    pub fn lock_writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The write half, for a caller; `None` while it is in use.
    pub fn try_lock_writer(&self) -> Option<MutexGuard<'_, Writer>> {
        self.writer.try_lock().ok()
    }

    /// The wake-up of the engine that writes.
    pub fn waker(&self) -> &Arc<EngineWaker> {
        &self.waker
    }

    /// Has the engine take a turn.
    pub fn wake(&self) {
        self.waker.wake();
    }
}
