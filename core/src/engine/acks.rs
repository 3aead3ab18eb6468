//! The unsettled deliveries of one channel, and how their acks are coalesced.
//!
//! `multiple` covers only a run of tags that the application has settled, from the oldest unsettled one on (AMQP 0-9-1
//! section 1.8.3.13), so a delivery that the application still works on is never acked by accident.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{command::Command, link::Link};
use crate::{Error, ErrorKind, Result, wire::encode};

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
    /// `basic.recover` is on its way: what is settled now, the broker has requeued before it hears of it.
    held: bool,
    /// Tags below were requeued by `basic.recover`; they mean nothing any more.
    void_below: u64,
}

pub(crate) struct ChannelAcks {
    link: Arc<Link>,
    pub channel: u16,
    /// Which connection of the link the channel belongs to.
    pub epoch: u64,
    /// The deliveries are those of a stream, which keeps them: RabbitMQ ends the connection over a nack (540), and an ack
    /// only lets more come.
    pub stream: bool,
    state: Mutex<State>,
}

impl ChannelAcks {
    pub fn new(link: Arc<Link>, channel: u16, epoch: u64, stream: bool) -> Arc<Self> {
        let state = Mutex::new(State { first: 1, ..State::default() });
        Arc::new(Self { link, channel, epoch, stream, state })
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

    /// Settles a delivery. On a lost channel this does nothing: the broker has requeued the message already.
    pub fn settle(self: &Arc<Self>, tag: u64, how: Settle) -> Result<()> {
        let how = if self.stream { Settle::Ack } else { how };
        let mut state = self.lock();
        if state.stale || tag < state.void_below {
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
        self.link.count_settled();
        if !std::mem::replace(&mut state.queued, true) {
            drop(state);
            self.link.send_acks(self.clone());
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

/// What the application holds of a channel: its consumer and its deliveries. When the last is dropped, the channel is
/// closed and the broker requeues what was not settled.
pub(crate) struct Lease {
    pub acks: Arc<ChannelAcks>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The engine being gone, so is the channel.
        let _ = self.acks.link.send(Command::Release { acks: self.acks.clone() });
    }
}
