//! What handles and the engine share: the window behind its lock, and the outbox of the connection that carries it.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::{Confirmation, Outgoing, PublishCounters, Window};
use crate::{
    Result,
    engine::{
        outbox::Outbox,
        sync::{Mutex, MutexGuard},
        writer::HIGH_WATER,
    },
};

/// The publishes of one channel, shared by the handles that make them and the engine that sends them.
pub(crate) struct Publishing {
    window: Mutex<Window>,
    outbox: Arc<Outbox>,
    /// The number of bytes that are encoded ahead of the socket.
    ahead: usize,
}

/// Who sends a publish once it is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendBy {
    /// The caller's thread, if nothing else is being written; it saves a publish-and-wait the wake-up of the engine.
    Caller,
    /// The engine, with what else is queued.
    Engine,
    /// Whoever flushes next.
    Nobody,
}

impl Publishing {
    /// For publishes through a channel of their own, on the connection of `outbox`.
    pub fn new(max_messages: usize, max_bytes: usize, outbox: Arc<Outbox>) -> Arc<Self> {
        Self::of(Window::new(max_messages, max_bytes, true), outbox, HIGH_WATER)
    }

    /// For publishes through a channel that has other methods too, which must not come in the middle of a content: it is
    /// encoded whole. The channel stays whatever becomes of the publishes, for the answers that come back on it.
    pub fn on_shared_channel(max_messages: usize, max_bytes: usize, outbox: Arc<Outbox>) -> Arc<Self> {
        let mut window = Window::new(max_messages, max_bytes, false);
        window.serve();
        Self::of(window, outbox, usize::MAX)
    }

    fn of(window: Window, outbox: Arc<Outbox>, ahead: usize) -> Arc<Self> {
        Arc::new(Self { window: Mutex::new(window), outbox, ahead })
    }

    /// The outbox, for the connection that is made to carry the publishes.
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Changes the window and then calls the wakers of everybody whom that concerns, without the lock.
    pub fn with<T>(&self, change: impl FnOnce(&mut Window) -> T) -> T {
        let mut window = self.lock();
        let value = change(&mut window);
        release(window);
        value
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the engine must look at the deadlines of publishes.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.lock().next_deadline()
    }

    pub fn counters(&self) -> PublishCounters {
        self.lock().counters
    }

    pub fn in_flight(&self) -> (usize, usize) {
        self.lock().in_flight()
    }

    /// Encodes what may be sent now behind `buffer`, for the engine.
    pub fn pump(&self, buffer: &mut Vec<u8>, frame_max: u32) {
        self.with(|window| window.pump(buffer, self.ahead, frame_max));
    }

    /// Admits a publish, waiting while the window is full. `serve` starts an engine if the window has none.
    pub fn admit<F>(
        self: &Arc<Self>,
        out: Outgoing,
        timeout: Option<Duration>,
        send: SendBy,
        serve: F,
    ) -> Admit<F>
    where
        F: FnOnce() -> Result<()> + Unpin,
    {
        // A deadline that is too far off for the clock is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Admit { publishing: self.clone(), out: Some(out), deadline, ticket: None, send, serve: Some(serve) }
    }

    /// Has the engine send what is queued.
    pub fn flush_later(&self) {
        self.outbox.wake();
    }

    /// Writes what is queued from this thread if nothing else is being written; otherwise the engine does.
    pub fn flush(&self) {
        self.send(self.lock(), SendBy::Caller);
    }

    fn send(&self, mut window: MutexGuard<'_, Window>, send: SendBy) {
        if send == SendBy::Nobody {
            return release(window);
        }
        // The engine locks the writer first and then the window. The other order cannot deadlock here, because
        // `try_lock` does not wait.
        let writer = if send == SendBy::Caller { self.outbox.try_lock_writer() } else { None };
        let mut writer = writer.filter(|writer| writer.is_attached() && writer.is_idle());
        let mut wake = true;
        if let Some(writer) = &mut writer {
            let frame_max = writer.frame_max;
            window.pump(&mut writer.buffer, self.ahead, frame_max);
            wake = window.has_work() || window.alarm.is_unheard();
        }
        // Also of publishes that could not be encoded.
        release(window);
        if let Some(mut writer) = writer {
            wake |= writer.flush_now();
        }
        if wake {
            self.outbox.wake();
        }
    }
}

/// Gives the lock back, and then calls the wakers of those whose wait is over.
fn release(mut window: MutexGuard<'_, Window>) {
    let wakers = window.take_wakers();
    drop(window);
    wakers.into_iter().for_each(Waker::wake);
}

/// The wait for a place in the window. Ready at once while there is room.
#[must_use = "futures do nothing unless awaited"]
pub(crate) struct Admit<F> {
    publishing: Arc<Publishing>,
    out: Option<Outgoing>,
    deadline: Option<Instant>,
    ticket: Option<u64>,
    send: SendBy,
    serve: Option<F>,
}

impl<F: FnOnce() -> Result<()> + Unpin> Future for Admit<F> {
    type Output = Result<Confirmation>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let publishing = &this.publishing;
        let mut window = publishing.lock();
        // Only before the first wait: a publish in the queue for admission ends with the engine that it waits for.
        if this.ticket.is_none()
            && !window.is_served()
            && let Some(serve) = this.serve.take()
        {
            drop(window);
            serve()?;
            window = publishing.lock();
        }
        match window.poll_admit(cx, &mut this.out, this.deadline, &mut this.ticket) {
            Poll::Ready(Ok(index)) => {
                publishing.send(window, this.send);
                Poll::Ready(Ok(Confirmation::new(publishing.clone(), index)))
            }
            Poll::Ready(Err(error)) => {
                release(window);
                Poll::Ready(Err(error))
            }
            Poll::Pending => {
                let wake = this.send != SendBy::Nobody && window.alarm.is_unheard();
                release(window);
                if wake {
                    publishing.outbox.wake();
                }
                Poll::Pending
            }
        }
    }
}

impl<F> Drop for Admit<F> {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            let ticket = &mut self.ticket;
            self.publishing.with(|window| window.leave_queue(ticket));
        }
    }
}

/// Admits a publish if there is room; `None` while the window is full.
pub(crate) fn now(admit: impl Future<Output = Result<Confirmation>>) -> Result<Option<Confirmation>> {
    let mut admit = std::pin::pin!(admit);
    match admit.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(confirmation) => confirmation.map(Some),
        Poll::Pending => Ok(None),
    }
}
