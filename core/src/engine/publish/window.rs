//! The state of the publishes of one channel: plain values behind the lock of [`super::Publishing`]. It is the only record
//! of a publish: what is unsent, what is on the wire under which delivery tag, what its result is.

use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

use super::{
    Outgoing, PublishCounters,
    admission::Admission,
    deadlines::Alarm,
    nacks::NackWatch,
    slots::{Line, Place, Slots},
    wire::Partial,
};
use crate::{Error, Result};

/// Where publishes go just now.
#[derive(Clone, Debug)]
pub(super) enum Route {
    /// No engine has been started for it.
    Unserved,
    /// Not connected, or the topology is not back yet, or the channel is being replaced.
    Down,
    Open {
        channel: u16,
    },
    Closed(Error),
}

/// The number of the first publish in the queue; publishes that go back to its front count down from there.
const QUEUE_START: u64 = 1 << 62;

pub(crate) struct Window {
    pub(super) slots: Slots,
    /// Admitted and not on the wire, in publish order.
    pub(super) queue: Line,
    /// On the wire and not confirmed, by delivery tag.
    pub(super) sent: Line,
    /// Returns come in publish order, so the search for the next one starts at this delivery tag.
    pub(super) return_cursor: u64,
    pub(super) partial: Option<Partial>,
    pub(super) route: Route,
    /// `connection.blocked`: the broker takes no publishes on the connection.
    pub(super) blocked: bool,
    /// `channel.flow` with `active` unset: the broker takes no content on the channel.
    pub(super) stopped: bool,
    /// The client is being closed: what was admitted is seen through, nothing new is taken.
    refuses: bool,
    /// This many publishes at the front go out one at a time: the broker refused one of them without saying which.
    pub(super) singly: usize,
    pub(super) nacks: NackWatch,
    pub(super) admission: Admission,
    pub(super) alarm: Alarm,
    /// Why there is no connection, as far as it is known.
    pub(super) failure: Option<Error>,
    pub counters: PublishCounters,
    /// Wakers to call once the lock is released.
    pub(super) wake: Vec<Waker>,
}

impl Window {
    /// A window that no engine serves yet. `replaceable`: its channel is there for these publishes alone.
    pub fn new(max_messages: usize, max_bytes: usize, replaceable: bool) -> Self {
        Self {
            slots: Slots::default(),
            queue: Line::new(QUEUE_START),
            sent: Line::new(1),
            return_cursor: 1,
            partial: None,
            route: Route::Unserved,
            blocked: false,
            stopped: false,
            refuses: false,
            singly: 0,
            nacks: NackWatch::new(replaceable),
            admission: Admission::new(max_messages, max_bytes),
            alarm: Alarm::default(),
            failure: None,
            counters: PublishCounters::default(),
            wake: Vec::new(),
        }
    }

    /// The wakers of everybody whose wait ended; to be called without the lock.
    pub fn take_wakers(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wake)
    }

    /// Whether every publish has its result. One that was given up has, though it keeps its place until its confirm.
    pub fn is_decided(&self) -> bool {
        self.slots.iter().all(|(_, slot)| slot.publish.is_none())
    }

    /// Whether no publish waits to be admitted, sent or confirmed.
    pub fn is_empty(&self) -> bool {
        self.admission.is_idle()
    }

    /// Publishes in the window, and their body bytes.
    pub fn in_flight(&self) -> (usize, usize) {
        self.admission.in_flight()
    }

    // ---- the engine and its connection -----------------------------------------------------------------------

    /// Whether an engine sends the publishes, or will when it has a connection.
    pub fn is_served(&self) -> bool {
        matches!(self.route, Route::Down | Route::Open { .. })
    }

    /// An engine is started for the publishes.
    pub fn serve(&mut self) {
        self.route = Route::Down;
    }

    /// A channel in confirm mode is open: delivery tags start at 1 (RabbitMQ, publisher confirms).
    pub fn open(&mut self, channel: u16) {
        if self.channel() == Some(channel) {
            return;
        }
        self.route = Route::Open { channel };
        self.sent.restart(1);
        self.return_cursor = 1;
        self.nacks.reset();
        self.stopped = false;
        self.failure = None;
    }

    pub fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    /// `channel.flow` (AMQP 0-9-1 section 1.5.2.3): a content that has begun is finished, and no other is.
    pub fn set_flow(&mut self, active: bool) {
        self.stopped = !active;
    }

    /// An attempt to connect failed; publishes go on waiting for the next one.
    pub fn connect_failed(&mut self, error: &Error) {
        self.failure = Some(error.clone());
    }

    pub fn channel(&self) -> Option<u16> {
        match self.route {
            Route::Open { channel } => Some(channel),
            _ => None,
        }
    }

    /// Whether the channel is to be replaced now: it gets nothing but nacks, and nothing is out on it.
    pub fn is_worn_out(&self) -> bool {
        self.nacks.is_worn_out() && self.partial.is_none() && self.sent.is_empty()
    }

    /// The channel is being replaced; what waits goes out on the next.
    pub fn leave_channel(&mut self) {
        self.route = Route::Down;
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.route, Route::Closed(_))
    }

    /// The client is being closed: what was admitted is seen through, nothing new is taken.
    pub fn refuse_new(&mut self) {
        self.refuses = true;
        // Publishes in the queue for admission fail when they are polled next; a close does not wait for that.
        self.wake.extend(self.admission.dissolve());
    }

    // ---- admission -------------------------------------------------------------------------------------------

    /// Admits `out`, or waits for its turn under `ticket`.
    pub fn poll_admit(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Option<Outgoing>,
        deadline: Option<Instant>,
        ticket: &mut Option<u64>,
    ) -> Poll<Result<u32>> {
        let admitted = match self.admission.take_expired(*ticket) {
            Some(error) => Err(error),
            None => self.admit(out, deadline, *ticket),
        };
        match admitted.transpose() {
            Some(result) => {
                self.leave_queue(ticket);
                Poll::Ready(result)
            }
            None => {
                self.admission.wait(ticket, cx.waker(), deadline);
                self.alarm.note(deadline);
                Poll::Pending
            }
        }
    }

    /// Gives up a place in the queue for admission.
    pub fn leave_queue(&mut self, ticket: &mut Option<u64>) {
        if ticket.is_some() {
            self.wake.extend(self.admission.give_up(ticket));
        }
    }

    fn admit(
        &mut self,
        out: &mut Option<Outgoing>,
        deadline: Option<Instant>,
        ticket: Option<u64>,
    ) -> Result<Option<u32>> {
        if let Route::Closed(error) = &self.route {
            return Err(error.clone());
        }
        if self.refuses {
            return Err(crate::engine::closed());
        }
        let size = out.as_ref().map_or(0, |out| out.message.body.len());
        if !self.admission.is_turn(ticket) || !self.admission.has_room(size) {
            return Ok(None);
        }
        self.admission.enter(size);
        self.counters.published += 1;
        self.counters.bytes += size as u64;
        let index = self.slots.take_free();
        let slot = &mut self.slots[index];
        slot.place = Place::Queued(self.queue.end());
        slot.publish = out.take();
        slot.deadline = deadline;
        slot.size = size;
        slot.owned = true;
        self.queue.push_back(index);
        self.alarm.note(deadline);
        Ok(Some(index))
    }

    // ---- the result of one publish ---------------------------------------------------------------------------

    pub fn poll_result(&mut self, cx: &mut Context<'_>, index: u32) -> Poll<Result<()>> {
        let slot = &mut self.slots[index];
        match slot.result.take() {
            Some(result) => {
                self.slots.disown(index);
                Poll::Ready(result)
            }
            None => {
                match &mut slot.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    waker => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
        }
    }

    pub fn has_result(&self, index: u32) -> bool {
        self.slots[index].result.is_some()
    }

    /// Nobody will ask for the result any more; the publish itself goes on.
    pub fn detach(&mut self, index: u32) {
        self.slots.disown(index);
    }

    /// The publish is not sent (again) and ends with `error`, unless its result is known. If it is on the wire, it
    /// keeps its place in the window until its confirm, or until the channel is lost.
    pub fn give_up(&mut self, index: u32, error: Error) {
        if !self.resolve(index, Err(error), Copies::AsSent) {
            return;
        }
        if let Place::Queued(number) = self.slots[index].place {
            self.queue.take(number);
            self.leave_window(index);
        }
    }

    /// The publish is over: out of the window, with `error` unless it was given up before.
    pub(super) fn fail(&mut self, index: u32, error: Error, copies: Copies) {
        self.resolve(index, Err(error), copies);
        self.leave_window(index);
    }

    /// The broker has taken responsibility for the publish.
    pub(super) fn confirmed(&mut self, index: u32) {
        self.resolve(index, Ok(()), Copies::AsSent);
        self.leave_window(index);
    }

    /// Makes `result` that of the publish, unless it has one. The one place that says whether an outcome is unknown: it is
    /// known only when no copy of the message can have been taken by the broker.
    fn resolve(&mut self, index: u32, result: Result<()>, copies: Copies) -> bool {
        let slot = &mut self.slots[index];
        if slot.publish.is_none() {
            return false;
        }
        slot.publish = None;
        let last_copy = copies == Copies::AsSent && matches!(slot.place, Place::OnWire(_));
        let result = match result {
            Err(error) if slot.doubt || last_copy => Err(error.with_outcome_unknown()),
            result => result,
        };
        if slot.owned {
            slot.result = Some(result);
        }
        self.wake.extend(slot.waker.take());
        true
    }

    pub(super) fn leave_window(&mut self, index: u32) {
        let size = self.slots[index].size;
        self.slots.leave(index);
        self.wake.extend(self.admission.leave(size));
    }
}

/// What is known of the copy of a publish that was sent last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copies {
    /// The broker may have it, if it was sent.
    AsSent,
    /// The broker said that it does not take it.
    Refused,
}
