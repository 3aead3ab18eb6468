//! The start of a consumer: at its first use, once, whoever waits for it and for how long.

use std::{
    future::Future,
    pin::Pin,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
};

use murano_messaging::{ConsumeBuilder, Consumer as Core, Error, ErrorKind};

use crate::wait::waiters::{self, Waiters};

type Starting = Pin<Box<dyn Future<Output = Result<Core, Error>> + Send>>;

pub struct Start {
    builder: ConsumeBuilder,
    core: OnceLock<Core>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The start under way: whoever gives up waiting for it leaves it to the next.
    starting: Option<Starting>,
    waiters: Waiters,
    /// It was cancelled, and does not start any more.
    over: bool,
}

impl Start {
    pub fn new(builder: ConsumeBuilder) -> Self {
        Self { builder, core: OnceLock::new(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The consumer, once it has started.
    pub fn get(&self) -> Option<&Core> {
        self.core.get()
    }

    /// Whether it was cancelled before it had started.
    pub fn is_over(&self) -> bool {
        self.core.get().is_none() && self.state().over
    }

    /// Whether it was cancelled.
    pub fn is_stopped(&self) -> bool {
        self.state().over
    }

    /// Starts it unless it has, and waits for that.
    pub async fn core(&self) -> Result<&Core, Error> {
        if let Some(core) = self.core.get() {
            return Ok(core);
        }
        Waiting { start: self, number: waiters::number() }.await?;
        self.core.get().ok_or_else(cancelled)
    }

    fn poll(&self, number: u64, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.state();
        if self.core.get().is_some() {
            return Poll::Ready(Ok(()));
        }
        if state.over {
            return Poll::Ready(Err(cancelled()));
        }
        let waker = state.waiters.with(number, cx.waker());
        let starting = state.starting.get_or_insert_with(|| Box::pin(self.builder.clone().start()));
        let Poll::Ready(started) = starting.as_mut().poll(&mut Context::from_waker(&waker)) else {
            return Poll::Pending;
        };
        state.starting = None;
        let waiters = std::mem::take(&mut state.waiters);
        let result = started.map(|core| {
            // Nobody else can have set it: the state is locked.
            let _ = self.core.set(core);
        });
        drop(state);
        waiters.wake();
        Poll::Ready(result)
    }

    /// The consumer that is to be cancelled, if it has started. One that is starting is given up; it never starts again.
    pub fn stop(&self) -> Option<&Core> {
        let (starting, waiters) = {
            let mut state = self.state();
            state.over = true;
            (state.starting.take(), std::mem::take(&mut state.waiters))
        };
        drop(starting);
        waiters.wake();
        self.core.get()
    }
}

pub fn cancelled() -> Error {
    Error::new(ErrorKind::ConsumerCancelled, "the consumer was cancelled: call consume() for another")
}

struct Waiting<'a> {
    start: &'a Start,
    number: u64,
}

impl Future for Waiting<'_> {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.start.poll(self.number, cx)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.start.state().waiters.without(self.number);
    }
}
