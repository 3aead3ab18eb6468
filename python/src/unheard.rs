//! Publishes whose confirmation was dropped without a look at it: that one of them failed is logged, as asyncio does with
//! exceptions that nobody retrieved, and kept for a `close` or `drain` that asks for it.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use murano_messaging::{Confirmation, Error};
use tokio::{runtime::Handle, sync::watch};

/// The unheard publishes of a client. One task waits for all of them, so that dropping a confirmation is cheap.
pub struct Unheard {
    runtime: Handle,
    state: Mutex<State>,
    /// Whether the task runs.
    running: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Confirmation>,
    failed: Option<Error>,
}

impl Unheard {
    pub fn new(runtime: Handle) -> Arc<Self> {
        Arc::new(Self { runtime, state: Mutex::default(), running: watch::Sender::new(false) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a confirmation that nobody will look at.
    pub fn take(self: &Arc<Self>, mut confirmation: Confirmation) {
        if confirmation.is_ready() {
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(Err(error)) = Pin::new(&mut confirmation).poll(&mut context) {
                self.note(error);
            }
            return;
        }
        let mut state = self.state();
        state.waiting.push_back(confirmation);
        // With the lock: the task says that it ends before it gives the lock back.
        if !self.running.send_replace(true) {
            drop(state);
            self.runtime.spawn(self.clone().watch());
        }
    }

    async fn watch(self: Arc<Self>) {
        loop {
            let next = {
                let mut state = self.state();
                let next = state.waiting.pop_front();
                if next.is_none() {
                    self.running.send_replace(false);
                    return;
                }
                next
            };
            if let Some(confirmation) = next
                && let Err(error) = confirmation.await
            {
                self.note(error);
            }
        }
    }

    fn note(&self, error: Error) {
        tracing::warn!(
            target: "murano_messaging::publishing",
            "a publish failed, and its confirmation was dropped without a look at it: {error}"
        );
        self.state().failed.get_or_insert(error);
    }

    /// The first failure since this was last asked for, once all results are there.
    pub async fn failure(&self) -> Result<(), Error> {
        // The sender is here: it cannot be gone.
        let _ = self.running.subscribe().wait_for(|running| !running).await;
        self.state().failed.take().map_or(Ok(()), Err)
    }
}
