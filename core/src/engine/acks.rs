//! The unsettled deliveries of one channel, and how their acks are coalesced.
//!
//! `multiple` covers only a run of tags that the application has settled, from the oldest unsettled one on (AMQP 0-9-1
//! section 1.8.3.13), so a delivery that the application still works on is never acked by accident.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{mailbox::Mailbox, waker::EngineWaker};
use crate::{Error, ErrorKind, Result, wire::encode};

/// What the application does with the deliveries of a channel.
pub(crate) enum AckEvent {
    /// Some were settled: there is something to send.
    Settled(Arc<ChannelAcks>),
    /// The application holds nothing of the channel any more.
    Released(Arc<ChannelAcks>),
}

/// Where the deliveries of a connection tell what becomes of them.
pub(crate) struct AckInbox {
    events: Mailbox<AckEvent>,
    settled: AtomicU64,
}

impl AckInbox {
    pub fn new(waker: Arc<EngineWaker>) -> Self {
        Self { events: Mailbox::new(waker), settled: AtomicU64::new(0) }
    }

    pub fn take(&self) -> Vec<AckEvent> {
        self.events.take()
    }

    pub fn close(&self, error: &Error) {
        drop(self.events.close(error));
    }

    /// Deliveries that were settled so far.
    pub fn settled(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }

    fn send(&self, event: AckEvent) {
        // The engine being gone, so is the channel.
        let _ = self.events.send(event);
    }
}

/// What becomes of a delivery that is dropped unsettled while its consumer runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDrop {
    /// It keeps its place in the prefetch until its consumer ends; a warning in the log names it.
    #[default]
    Keep,
    /// It goes back to its queue. (One of a stream, which keeps its messages, makes room for the next.)
    Requeue,
}

/// How a delivery is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settle {
    Ack,
    /// A requeue is no failed attempt: since `RabbitMQ` 4.3 it does not count toward the delivery limit of a quorum queue.
    Nack {
        requeue: bool,
    },
    /// `basic.reject` with `requeue`: the attempt failed, and counts toward the delivery limit in every version.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Unsettled,
    /// Acked by the application; the ack has not left.
    Acked,
    /// The broker has been told.
    Sent,
}

#[derive(Default)]
struct State {
    /// The delivery tag of `marks[0]`.
    first: u64,
    marks: VecDeque<Mark>,
    acked: Vec<u64>,
    nacked: Vec<(u64, Settle)>,
    queued: bool,
    /// The channel is gone: what was not settled, the broker delivers again.
    stale: bool,
    /// Why nothing can be settled any more, where the engine ended without its owner's doing.
    gone: Option<Error>,
    /// It was said that something was settled too late.
    late_told: bool,
    /// The consumer is over: what is dropped goes back to the queue with the channel.
    over: bool,
    /// `basic.recover` is on its way: what is settled now, the broker has requeued before it hears of it.
    held: bool,
    /// Tags below were requeued by `basic.recover`; they mean nothing any more.
    void_below: u64,
}

pub(crate) struct ChannelAcks {
    inbox: Arc<AckInbox>,
    pub channel: u16,
    /// Which connection of the link the channel belongs to.
    pub epoch: u64,
    /// The deliveries are those of a stream, which keeps them: RabbitMQ ends the connection over a nack (540), and an ack
    /// only lets more come.
    pub stream: bool,
    /// `None` for a get: its message goes back with the channel.
    on_drop: Option<OnDrop>,
    state: Mutex<State>,
}

impl ChannelAcks {
    pub fn new(
        inbox: Arc<AckInbox>,
        channel: u16,
        epoch: u64,
        stream: bool,
        on_drop: Option<OnDrop>,
    ) -> Arc<Self> {
        let state = Mutex::new(State { first: 1, ..State::default() });
        Arc::new(Self { inbox, channel, epoch, stream, on_drop, state })
    }

    /// Whether the channel is one of the connection with this inbox.
    pub fn is_of(&self, inbox: &Arc<AckInbox>) -> bool {
        Arc::ptr_eq(&self.inbox, inbox)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A delivery arrived; tags count up by one on a channel, deliveries and gets alike.
    pub fn arrived(&self, tag: u64) -> Result<(), String> {
        let mut state = self.lock();
        let expected = state.first + state.marks.len() as u64;
        if tag != expected {
            return Err(format!("delivery tag {tag} where {expected} is next"));
        }
        state.marks.push_back(Mark::Unsettled);
        Ok(())
    }

    /// Settles a delivery. Where the broker has requeued the message, because the channel is lost or after
    /// `basic.recover-ok`, this is only logged, once; after [`Self::mark_gone`] it is an error.
    pub fn settle(self: &Arc<Self>, tag: u64, how: Settle) -> Result<()> {
        let how = if self.stream { Settle::Ack } else { how };
        let mut state = self.lock();
        if state.stale || tag < state.void_below {
            if let Some(gone) = &state.gone {
                return Err(gone.within(&format!("settling delivery {tag}")));
            }
            if !std::mem::replace(&mut state.late_told, true) {
                tracing::warn!(
                    channel = self.channel,
                    delivery_tag = tag,
                    "a delivery was settled after its channel had ended: the broker delivers it again"
                );
            }
            return Ok(());
        }
        let place = tag.checked_sub(state.first).map(|place| place as usize);
        let mark = place.and_then(|place| state.marks.get_mut(place));
        let Some(mark @ Mark::Unsettled) = mark else {
            return Err(Error::new(
                ErrorKind::AlreadySettled,
                format!("delivery {tag} was acked, nacked or rejected before"),
            ));
        };
        match how {
            Settle::Ack => {
                *mark = Mark::Acked;
                state.acked.push(tag);
            }
            Settle::Nack { .. } | Settle::Failed => {
                *mark = Mark::Sent;
                state.nacked.push((tag, how));
            }
        }
        self.inbox.settled.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut state.queued, true) {
            drop(state);
            self.inbox.send(AckEvent::Settled(self.clone()));
        }
        Ok(())
    }

    /// Encodes what was settled since the last turn.
    pub fn flush(&self, out: &mut Vec<u8>) {
        let mut state = self.lock();
        let state = &mut *state;
        state.queued = false;
        if state.stale || state.held {
            return;
        }
        // Before any `multiple` ack, because that may cover their tags.
        for (tag, how) in state.nacked.drain(..) {
            match how {
                Settle::Nack { requeue } => encode::nack(out, self.channel, tag, false, requeue),
                Settle::Failed => encode::reject(out, self.channel, tag, true),
                Settle::Ack => unreachable!("acks are in a list of their own"),
            }
        }
        let (mut run, mut last) = (0, 0);
        while let Some(mark @ (Mark::Acked | Mark::Sent)) = state.marks.front() {
            if *mark == Mark::Acked {
                run += 1;
                last = state.first;
            }
            state.marks.pop_front();
            state.first += 1;
        }
        if run > 0 {
            encode::ack(out, self.channel, last, run > 1);
        }
        for tag in state.acked.drain(..) {
            if tag >= state.first {
                encode::ack(out, self.channel, tag, false);
                state.marks[(tag - state.first) as usize] = Mark::Sent;
            }
        }
    }

    /// The channel or its connection is gone.
    pub fn mark_stale(&self) {
        let mut state = self.lock();
        state.stale = true;
        state.marks = VecDeque::new();
        state.acked = Vec::new();
        state.nacked = Vec::new();
    }

    /// As [`Self::mark_stale`], where the engine ended without its owner's doing: settling is an error from now on.
    pub fn mark_gone(&self, error: &Error) {
        self.mark_stale();
        self.lock().gone = Some(error.clone());
    }

    /// The consumer is over; its deliveries can still be settled.
    pub fn consumer_is_over(&self) {
        self.lock().over = true;
    }

    /// The application dropped a delivery that it had not settled.
    pub fn dropped(self: &Arc<Self>, tag: u64, consumer_tag: &str) {
        let Some(on_drop) = self.on_drop else { return };
        {
            let state = self.lock();
            let place = tag.checked_sub(state.first).map(|place| place as usize);
            let unsettled = matches!(place.and_then(|place| state.marks.get(place)), Some(Mark::Unsettled));
            if state.stale || state.over || !unsettled {
                return;
            }
        }
        match on_drop {
            OnDrop::Keep => tracing::warn!(
                %consumer_tag,
                delivery_tag = tag,
                "a delivery was dropped unsettled: it keeps its place in the prefetch until its consumer ends; ack, reject \
                 or requeue it, or consume with on_drop"
            ),
            OnDrop::Requeue => {
                // Nobody else can settle it any more.
                let _ = self.settle(tag, Settle::Failed);
            }
        }
    }

    /// Sends what is settled and nothing more until [`Self::forget_unsettled`].
    pub fn flush_and_hold(&self, out: &mut Vec<u8>) {
        self.flush(out);
        self.lock().held = true;
    }

    /// The broker has requeued all that was unsettled (`basic.recover-ok`): their tags are void.
    pub fn forget_unsettled(&self) {
        let mut state = self.lock();
        state.held = false;
        state.first += state.marks.len() as u64;
        state.void_below = state.first;
        state.marks.clear();
        state.acked.clear();
        state.nacked.clear();
    }

    pub fn is_stale(&self, tag: u64) -> bool {
        let state = self.lock();
        state.stale || tag < state.void_below
    }

    /// Nothing on this channel waits to be settled.
    pub fn all_settled(&self) -> bool {
        self.lock().marks.is_empty()
    }
}

/// A share of a channel: each of its deliveries has one, and the engine has one while the consumer runs. When the last
/// is dropped, the channel is closed and the broker requeues what was not settled. The channel of a get whose delivery
/// was settled is kept for the next get.
pub(crate) struct Lease {
    pub acks: Arc<ChannelAcks>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.acks.inbox.send(AckEvent::Released(self.acks.clone()));
    }
}
