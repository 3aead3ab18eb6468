//! The handle's side of publishing: into the window, onto the wire when nothing is queued, and the wait for the confirm.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    link::Link,
    window::{Counters, Outgoing, Window},
    writer::HIGH_WATER,
};
use crate::{Error, ErrorKind, Result};

/// The publishes of one channel, shared by the handles that make them and the engine that sends them.
pub(crate) struct Publishing {
    window: Mutex<Window>,
    /// The link of the connection that carries them; `None` until one is made for it.
    link: Mutex<Option<Arc<Link>>>,
    /// So many bytes are encoded ahead of the socket.
    ahead: usize,
}

impl Publishing {
    pub fn new(max_messages: usize, max_bytes: usize) -> Arc<Self> {
        Self::of(Window::new(max_messages, max_bytes, true), HIGH_WATER)
    }

    /// For publishes through a channel that has other methods too, which must not come in the middle of a content: it is
    /// encoded whole. The channel stays whatever becomes of the publishes, for the answers that come back on it.
    pub fn on_shared_channel(max_messages: usize, max_bytes: usize) -> Arc<Self> {
        Self::of(Window::new(max_messages, max_bytes, false), usize::MAX)
    }

    fn of(window: Window, ahead: usize) -> Arc<Self> {
        Arc::new(Self { window: Mutex::new(window), link: Mutex::new(None), ahead })
    }

    /// Encodes what may be sent now behind `buffer`.
    pub fn pump(&self, buffer: &mut Vec<u8>, frame_max: u32) {
        self.with(|window| window.pump(buffer, self.ahead, frame_max));
    }

    /// Changes the window and then wakes whoever that concerns, without the lock.
    pub fn with<T>(&self, change: impl FnOnce(&mut Window) -> T) -> T {
        let mut window = self.lock();
        let value = change(&mut window);
        let wakers = window.take_wakers();
        drop(window);
        wakers.into_iter().for_each(std::task::Waker::wake);
        value
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the engine must look at the deadlines of publishes; arms it if nothing did.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.lock().next_deadline()
    }

    pub fn counters(&self) -> Counters {
        self.lock().counters
    }

    pub fn in_flight(&self) -> (usize, usize) {
        self.lock().in_flight()
    }

    /// Puts the publishes on `link`, from its next connection on.
    pub fn attach(&self, link: &Arc<Link>) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(link.clone());
    }

    /// Puts the publishes on the link that `make` gives, if it gives one, and opens their window again. `make` is given
    /// the current link, which no other thread replaces meanwhile.
    pub fn attach_anew(
        &self,
        make: impl FnOnce(Option<&Arc<Link>>) -> Result<Option<Arc<Link>>>,
    ) -> Result<Option<Arc<Link>>> {
        let mut slot = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        let made = make(slot.as_ref())?;
        if let Some(link) = &made {
            *slot = Some(link.clone());
            self.with(Window::reopen);
        }
        Ok(made)
    }

    /// The link that carries the publishes, also one that gave up; `None` before there is one.
    pub fn link(&self) -> Option<Arc<Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells the engine that there is something to send or to time.
    pub fn wake_engine(&self) {
        if let Some(link) = self.link() {
            link.wake();
        }
    }

    /// Admits a publish, waiting while the window is full.
    pub fn admit(self: &Arc<Self>, out: Outgoing, timeout: Option<Duration>) -> Admit {
        // One that is too far off to be told is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Admit { publishing: self.clone(), out: Some(out), deadline, ticket: None }
    }

    /// Admits a publish if there is room; `None` while the window is full.
    pub fn admit_now(
        self: &Arc<Self>,
        out: Outgoing,
        timeout: Option<Duration>,
    ) -> Result<Option<Confirmation>> {
        let mut admit = std::pin::pin!(self.admit(out, timeout));
        match admit.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(confirmation) => confirmation.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// Writes what was just admitted from this thread if nothing is queued; otherwise the engine does.
    pub fn flush_from_caller(&self) {
        let Some(link) = self.link() else { return };
        let left = match link.try_lock_writer() {
            Some(mut writer) if writer.is_attached() && writer.is_idle() => {
                let frame_max = writer.frame_max;
                let armed = {
                    let mut window = self.lock();
                    window.pump(&mut writer.buffer, self.ahead, frame_max);
                    window.is_armed() && !window.has_work()
                };
                writer.flush_now() || !armed
            }
            _ => true,
        };
        if left {
            link.wake();
        }
    }
}

/// The wait for a place in the window. Ready at once while there is room.
#[must_use = "futures do nothing unless awaited"]
pub(crate) struct Admit {
    publishing: Arc<Publishing>,
    out: Option<Outgoing>,
    deadline: Option<Instant>,
    ticket: Option<u64>,
}

impl Future for Admit {
    type Output = Result<Confirmation>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let (deadline, waited) = (this.deadline, this.ticket.is_some());
        let (out, ticket) = (&mut this.out, &mut this.ticket);
        let (polled, rearm) = this.publishing.with(|window| {
            let polled = window.poll_admit(cx, out, deadline, ticket);
            (polled, deadline.is_some() && !window.is_armed())
        });
        match polled {
            Poll::Ready(Ok(index)) => {
                Poll::Ready(Ok(Confirmation { publishing: this.publishing.clone(), index }))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                if rearm && !waited {
                    this.publishing.wake_engine();
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Admit {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            let ticket = &mut self.ticket;
            self.publishing.with(|window| window.leave(ticket));
        }
    }
}

/// The broker's answer to one publish, to be awaited now or later (RabbitMQ, publisher confirms).
///
/// `Ok` when the broker has taken responsibility for the message. Errors: [`ErrorKind::Unroutable`],
/// [`ErrorKind::Nacked`], [`ErrorKind::NotFound`] (no such exchange), [`ErrorKind::Timeout`] (outcome unknown),
/// [`ErrorKind::Blocked`], [`ErrorKind::Closed`] ... Dropping it does not cancel the publish.
#[must_use = "a publish is known to be safe only when its confirmation was awaited"]
pub struct Confirmation {
    publishing: Arc<Publishing>,
    index: u32,
}

/// The number of a slot that is not ours any more.
const TAKEN: u32 = u32::MAX;

impl Confirmation {
    /// Whether the outcome is known, so that awaiting it will not wait.
    pub fn is_ready(&self) -> bool {
        self.index == TAKEN || self.publishing.with(|window| window.has_result(self.index))
    }

    /// Gives the publish up: it is not sent if it has not been, and never republished. Its outcome is unknown if it is
    /// on the wire already.
    pub fn cancel(mut self) {
        self.abandon();
    }

    pub(crate) fn abandon(&mut self) {
        if self.index != TAKEN {
            let index = std::mem::replace(&mut self.index, TAKEN);
            self.publishing.with(|window| {
                window.abandon(index, Error::new(ErrorKind::Closed, "the publish was cancelled"));
                window.detach(index);
            });
        }
    }
}

impl Future for Confirmation {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let index = self.index;
        assert!(index != TAKEN, "a Confirmation was polled after it was ready");
        let polled = self.publishing.lock().poll_result(cx, index);
        if polled.is_ready() {
            self.index = TAKEN;
        }
        polled
    }
}

impl Drop for Confirmation {
    fn drop(&mut self) {
        if self.index != TAKEN {
            let index = self.index;
            self.publishing.with(|window| window.detach(index));
        }
    }
}

impl std::fmt::Debug for Confirmation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Confirmation").field("ready", &self.is_ready()).finish()
    }
}

/// A publish that is awaited whole: dropping it cancels the publish.
pub(crate) struct CancelOnDrop(pub Confirmation);

impl Future for CancelOnDrop {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
