//! The publishes of one channel: what waits, what is unconfirmed, and the bound on both.
//!
//! Everything here is plain state behind the lock of [`super::publishing::Publishing`]. A publish lives in a slot from
//! the moment it is admitted until it is both out of the window (confirmed, refused, or lost) and not waited for any
//! more. Slots, not an allocation per publish: this is the hot path.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    Error, ErrorKind, Result,
    message::{Message, Returned},
    wire::encode::{self, FRAME_OVERHEAD},
};

/// A publish with its route.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub exchange: Arc<str>,
    pub routing_key: Arc<str>,
    pub message: Message,
    pub mandatory: bool,
}

/// What the application counts on a publishing channel.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub published: u64,
    pub confirmed: u64,
    pub returned: u64,
    pub nacked: u64,
    pub republished: u64,
    pub bytes: u64,
}

#[derive(Default)]
struct Slot {
    /// The publish, until its fate is known.
    out: Option<Outgoing>,
    result: Option<Result<()>>,
    waker: Option<Waker>,
    deadline: Option<Instant>,
    /// It came back; the confirm that follows makes that its result.
    returned: Option<Error>,
    /// Body bytes it holds in the window.
    size: usize,
    /// Its place in the window is taken.
    in_window: bool,
    /// Somebody may still ask for the result.
    owned: bool,
    /// It stands in `unsent`, so its number must not be given to another publish.
    listed: bool,
    free: bool,
    sent: bool,
    was_sent_before: bool,
}

impl Slot {
    /// Waits for its confirm, and somebody may wait for that.
    fn is_pending(&self) -> bool {
        self.in_window && self.result.is_none()
    }

    /// Whether it is the one that came back. The body of an `oversize` one was not kept, only its length.
    fn matches(&self, returned: &Returned, oversize: Option<u64>) -> bool {
        self.returned.is_none()
            && self.out.as_ref().is_some_and(|out| {
                out.mandatory
                    && out.message.properties.message_id() == returned.message.properties.message_id()
                    && *out.routing_key == *returned.routing_key
                    && *out.exchange == *returned.exchange
                    && match oversize {
                        Some(size) => out.message.body.len() as u64 == size,
                        None => out.message.body == returned.message.body,
                    }
            })
    }
}

struct Waiter {
    ticket: u64,
    waker: Waker,
    deadline: Option<Instant>,
    expired: Option<Error>,
}

/// Where the publishes go just now.
#[derive(Clone, Debug)]
enum Route {
    /// Not connected, or the connection's topology is not back yet.
    Down,
    Open {
        channel: u16,
    },
    Closed(Error),
}

/// The rest of a body whose first frames are out.
struct Partial {
    body: Bytes,
    at: usize,
}

/// So many nacks, over so long, without an ack.
const PATIENCE: (u32, Duration) = (3, Duration::from_secs(1));

const NO_SLOT: u32 = u32::MAX;

pub(crate) struct Window {
    max_messages: usize,
    max_bytes: usize,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Admitted and not on the wire, in publish order.
    unsent: VecDeque<u32>,
    /// On the wire, by delivery tag from `first_tag` on; [`NO_SLOT`] where the confirm came out of order.
    sent: VecDeque<u32>,
    first_tag: u64,
    /// Returns come in publish order, so the search for the next one starts here.
    return_cursor: u64,
    partial: Option<Partial>,
    route: Route,
    blocked: bool,
    /// Publishes that were admitted are seen through; new ones are refused.
    refuses: bool,
    /// So many publishes at the front go out one at a time: the broker refused one of them without saying which.
    one_by_one: usize,
    /// Since when the broker has been answering with nacks only, and how many.
    only_nacks: Option<(Instant, u32)>,
    /// Nothing more goes out on this channel; it is replaced once its last confirm is in, if that is a nack too.
    replacing: bool,
    /// The channel is there for these publishes alone.
    replaceable: bool,
    in_window: usize,
    bytes_in_window: usize,
    waiters: VecDeque<Waiter>,
    next_ticket: u64,
    /// When the engine will look at the deadlines next.
    armed: Option<Instant>,
    pub counters: Counters,
    /// Wakers to call once the lock is released.
    wake: Vec<Waker>,
}

impl Window {
    pub fn new(max_messages: usize, max_bytes: usize, replaceable: bool) -> Self {
        Self {
            max_messages,
            max_bytes,
            replaceable,
            slots: Vec::new(),
            free: Vec::new(),
            unsent: VecDeque::new(),
            sent: VecDeque::new(),
            first_tag: 1,
            return_cursor: 1,
            partial: None,
            route: Route::Down,
            blocked: false,
            refuses: false,
            one_by_one: 0,
            only_nacks: None,
            replacing: false,
            in_window: 0,
            bytes_in_window: 0,
            waiters: VecDeque::new(),
            next_ticket: 0,
            armed: None,
            counters: Counters::default(),
            wake: Vec::new(),
        }
    }

    /// The wakers of everybody whose wait ended; to be called without the lock.
    pub fn take_wakers(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wake)
    }

    // ---- admission -------------------------------------------------------------------------------------------

    fn fits(&self, size: usize) -> bool {
        self.in_window < self.max_messages
            && (self.bytes_in_window + size <= self.max_bytes || self.in_window == 0)
    }

    fn admit(&mut self, out: &mut Option<Outgoing>, deadline: Option<Instant>) -> Result<Option<u32>> {
        if let Route::Closed(error) = &self.route {
            return Err(error.clone());
        }
        if self.refuses {
            return Err(super::closed());
        }
        let size = out.as_ref().map_or(0, |out| out.message.body.len());
        if !self.fits(size) {
            return Ok(None);
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        self.slots[index as usize] = Slot {
            out: out.take(),
            deadline,
            size,
            in_window: true,
            owned: true,
            listed: true,
            ..Slot::default()
        };
        self.in_window += 1;
        self.bytes_in_window += size;
        self.counters.published += 1;
        self.counters.bytes += size as u64;
        self.unsent.push_back(index);
        self.disarm_for(deadline);
        Ok(Some(index))
    }

    /// As [`Self::try_admit`], waiting for its turn under `ticket`.
    pub fn poll_admit(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Option<Outgoing>,
        deadline: Option<Instant>,
        ticket: &mut Option<u64>,
    ) -> Poll<Result<u32>> {
        let place = ticket.and_then(|ticket| self.waiters.iter().position(|w| w.ticket == ticket));
        if let Some(error) = place.and_then(|place| self.waiters[place].expired.take()) {
            self.leave(ticket);
            return Poll::Ready(Err(error));
        }
        if place.map_or(self.waiters.is_empty(), |place| place == 0)
            || self.refuses
            || matches!(self.route, Route::Closed(_))
        {
            match self.admit(out, deadline) {
                Ok(None) => {}
                Ok(Some(index)) => {
                    self.leave(ticket);
                    return Poll::Ready(Ok(index));
                }
                Err(error) => {
                    self.leave(ticket);
                    return Poll::Ready(Err(error));
                }
            }
        }
        match place {
            Some(place) => self.waiters[place].waker.clone_from(cx.waker()),
            None => {
                self.disarm_for(deadline);
                let number = self.next_ticket;
                self.next_ticket += 1;
                *ticket = Some(number);
                let waker = cx.waker().clone();
                self.waiters.push_back(Waiter { ticket: number, waker, deadline, expired: None });
            }
        }
        Poll::Pending
    }

    /// Gives up a place in the queue for admission.
    pub fn leave(&mut self, ticket: &mut Option<u64>) {
        if let Some(number) = ticket.take() {
            self.waiters.retain(|waiter| waiter.ticket != number);
            self.wake_first_waiter();
        }
    }

    fn wake_first_waiter(&mut self) {
        if let Some(first) = self.waiters.front()
            && self.in_window < self.max_messages
        {
            self.wake.push(first.waker.clone());
        }
    }

    // ---- the result of one publish ---------------------------------------------------------------------------

    pub fn poll_result(&mut self, cx: &mut Context<'_>, index: u32) -> Poll<Result<()>> {
        let slot = &mut self.slots[index as usize];
        match slot.result.take() {
            Some(result) => {
                slot.owned = false;
                // An abandoned publish keeps its place until its confirm, and must not be taken for a pending one.
                if slot.in_window {
                    slot.result = Some(result.clone());
                }
                self.release_slot(index);
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
        self.slots[index as usize].result.is_some()
    }

    /// Nobody will ask for the result any more; the publish itself goes on.
    pub fn detach(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.owned = false;
        slot.waker = None;
        self.release_slot(index);
    }

    /// The publish was cancelled: it is not sent (again); its place is freed at its confirm if it is on the wire.
    pub fn abandon(&mut self, index: u32, error: Error) {
        let slot = &mut self.slots[index as usize];
        if slot.result.is_some() || !slot.in_window {
            return;
        }
        slot.result = Some(Err(error));
        self.wake.extend(slot.waker.take());
        slot.out = None;
        if !slot.sent {
            self.leave_window(index);
        }
    }

    fn leave_window(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if slot.in_window {
            slot.in_window = false;
            slot.out = None;
            self.in_window -= 1;
            self.bytes_in_window -= slot.size;
            self.wake_first_waiter();
        }
        self.release_slot(index);
    }

    fn release_slot(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if !slot.in_window && !slot.owned && !slot.listed && !slot.free {
            slot.free = true;
            slot.result = None;
            self.free.push(index);
        }
    }

    fn settle(&mut self, index: u32, result: Result<()>) {
        let slot = &mut self.slots[index as usize];
        if slot.result.is_none() {
            slot.result = Some(result);
            self.wake.extend(slot.waker.take());
        }
        self.leave_window(index);
    }

    // ---- the wire --------------------------------------------------------------------------------------------

    /// A channel in confirm mode is open: delivery tags start at 1 (RabbitMQ, publisher confirms).
    pub fn open(&mut self, channel: u16) {
        self.route = Route::Open { channel };
        self.first_tag = 1;
        self.return_cursor = 1;
        self.only_nacks = None;
        self.replacing = false;
    }

    pub fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    pub fn channel(&self) -> Option<u16> {
        match self.route {
            Route::Open { channel } => Some(channel),
            _ => None,
        }
    }

    /// Whether [`Self::pump`] would write something.
    pub fn has_work(&self) -> bool {
        matches!(self.route, Route::Open { .. })
            && (self.partial.is_some() || (!self.unsent.is_empty() && !self.blocked && self.may_send_next()))
    }

    fn may_send_next(&self) -> bool {
        !self.replacing && (self.one_by_one == 0 || self.sent.iter().all(|slot| *slot == NO_SLOT))
    }

    /// How many of the publishes that wait have been on the wire before.
    pub fn to_republish(&self) -> usize {
        self.unsent
            .iter()
            .filter(|index| {
                let slot = &self.slots[**index as usize];
                slot.was_sent_before && slot.out.is_some()
            })
            .count()
    }

    /// Nothing is waiting to be sent or confirmed.
    pub fn is_empty(&self) -> bool {
        self.in_window == 0 && self.waiters.is_empty()
    }

    pub fn in_flight(&self) -> (usize, usize) {
        (self.in_window, self.bytes_in_window)
    }

    /// Encodes publishes behind `buffer` until it holds `limit` bytes or nothing may be sent.
    pub fn pump(&mut self, buffer: &mut Vec<u8>, limit: usize, frame_max: u32) {
        let Route::Open { channel } = self.route else {
            return;
        };
        let chunk_max = frame_max as usize - FRAME_OVERHEAD;
        while buffer.len() < limit {
            if let Some(partial) = &mut self.partial {
                let end = partial.body.len().min(partial.at + chunk_max);
                encode::body_frame(buffer, channel, &partial.body[partial.at..end]);
                partial.at = end;
                if end == partial.body.len() {
                    self.partial = None;
                }
                continue;
            }
            if self.blocked || !self.may_send_next() {
                return;
            }
            let Some(index) = self.unsent.pop_front() else {
                return;
            };
            let slot = &mut self.slots[index as usize];
            slot.listed = false;
            let Some(out) = &slot.out else {
                self.release_slot(index);
                continue;
            };
            let message = &out.message;
            let start = buffer.len();
            encode::publish(buffer, channel, &out.exchange, &out.routing_key, out.mandatory);
            let header = buffer.len();
            encode::header(buffer, channel, 60, message.body.len() as u64, &message.properties);
            let header = buffer.len() - header;
            if header > frame_max as usize {
                // A content header cannot be split (AMQP 0-9-1 section 4.2.6.1).
                buffer.truncate(start);
                let error = Error::invalid(format!(
                    "publish{}: properties and headers take {header} bytes; the frame size agreed on is {frame_max}",
                    describe(out)
                ));
                self.settle(index, Err(error));
                continue;
            }
            if message.body.len() <= chunk_max {
                if !message.body.is_empty() {
                    encode::body_frame(buffer, channel, &message.body);
                }
            } else {
                self.partial = Some(Partial { body: message.body.clone(), at: 0 });
            }
            slot.sent = true;
            if slot.was_sent_before {
                self.counters.republished += 1;
            }
            self.sent.push_back(index);
        }
    }

    /// `basic.ack` or `basic.nack` for our publishes. An unknown tag is the peer's fault.
    pub fn confirm(&mut self, tag: u64, multiple: bool, nacked: bool) -> Result<(), String> {
        let last = self.first_tag + self.sent.len() as u64;
        // Tag 0 with `multiple` means everything so far (AMQP 0-9-1 section 1.8.3.13).
        let tag = if tag == 0 && multiple { last - 1 } else { tag };
        if tag >= last || tag == 0 {
            return Err(format!("a confirm for delivery tag {tag}; {} publishes are out", last - 1));
        }
        if multiple {
            while self.first_tag <= tag {
                let Some(index) = self.sent.pop_front() else { break };
                self.first_tag += 1;
                self.confirm_slot(index, nacked);
            }
        } else if tag >= self.first_tag {
            let place = (tag - self.first_tag) as usize;
            let index = std::mem::replace(&mut self.sent[place], NO_SLOT);
            self.confirm_slot(index, nacked);
        }
        while self.sent.front() == Some(&NO_SLOT) {
            self.sent.pop_front();
            self.first_tag += 1;
        }
        if self.one_by_one > 0 && self.sent.is_empty() {
            self.one_by_one -= 1;
        }
        self.judge(nacked);
        Ok(())
    }

    /// A channel that gets nothing but nacks is replaced: RabbitMQ keeps what it knows of a quorum queue per channel,
    /// and one that was opened between the death of a leader and the election of the next never learns of it.
    fn judge(&mut self, nacked: bool) {
        if !nacked {
            self.only_nacks = None;
            self.replacing = false;
            return;
        }
        if !self.replaceable {
            return;
        }
        let now = Instant::now();
        let (since, count) = self.only_nacks.get_or_insert((now, 0));
        *count += 1;
        self.replacing |= *count >= PATIENCE.0 && now - *since >= PATIENCE.1;
    }

    /// Whether the channel is to be replaced now: nothing is out on it.
    pub fn is_worn_out(&self) -> bool {
        self.replacing && self.partial.is_none() && self.sent.is_empty()
    }

    /// The channel is being replaced; what waits goes out on the next.
    pub fn leave_channel(&mut self) {
        self.route = Route::Down;
    }

    fn confirm_slot(&mut self, index: u32, nacked: bool) {
        if index == NO_SLOT {
            return;
        }
        let slot = &mut self.slots[index as usize];
        let result = if let Some(returned) = slot.returned.take() {
            Err(returned)
        } else if nacked {
            self.counters.nacked += 1;
            let to = slot.out.as_ref().map(describe).unwrap_or_default();
            Err(Error::new(
                ErrorKind::Nacked,
                format!(
                    "publish{to}: the broker refused the message (basic.nack): its queue is full and rejects \
                     publishes, or its node failed"
                ),
            ))
        } else {
            self.counters.confirmed += 1;
            Ok(())
        };
        self.settle(index, result);
    }

    /// `basic.return`: attaches the message to its own publish. Returns come in publish order and before the confirm.
    pub fn returned(&mut self, mut returned: Returned, oversize: Option<u64>) {
        self.counters.returned += 1;
        let start = self.return_cursor.max(self.first_tag);
        let end = self.first_tag + self.sent.len() as u64;
        let found = (start..end).chain(self.first_tag..start.min(end)).find(|tag| {
            let index = self.sent[(tag - self.first_tag) as usize];
            index != NO_SLOT && self.slots[index as usize].matches(&returned, oversize)
        });
        let Some(tag) = found else {
            tracing::debug!(exchange = %returned.exchange, "a returned message whose publish is not waited for");
            return;
        };
        self.return_cursor = tag + 1;
        let index = self.sent[(tag - self.first_tag) as usize];
        let slot = &mut self.slots[index as usize];
        if let Some(out) = slot.out.as_ref().filter(|_| oversize.is_some()) {
            returned.message.body = out.message.body.clone();
        }
        let hint = if returned.exchange.is_empty() {
            "is the queue declared, or has it expired?"
        } else {
            "is a queue bound with a matching key?"
        };
        slot.returned = Some(
            Error::new(
                ErrorKind::Unroutable,
                format!(
                    "publish to exchange '{}' with routing key '{}': the broker answered {} {}; {hint}",
                    returned.exchange, returned.routing_key, returned.reply_code, returned.reply_text
                ),
            )
            .with_returned(returned),
        );
    }

    // ---- losing the channel or the connection ----------------------------------------------------------------

    /// Takes what is on the wire and unconfirmed off it, in order. Abandoned publishes give up their place.
    fn recall(&mut self) -> Vec<u32> {
        self.partial = None;
        let sent = std::mem::take(&mut self.sent);
        let mut recalled = Vec::with_capacity(sent.len());
        for index in sent {
            if index == NO_SLOT {
                continue;
            }
            let slot = &mut self.slots[index as usize];
            if slot.out.is_none() {
                self.leave_window(index);
            } else {
                slot.sent = false;
                slot.was_sent_before = true;
                slot.returned = None;
                recalled.push(index);
            }
        }
        recalled
    }

    fn requeue(&mut self, recalled: Vec<u32>) {
        for index in recalled.into_iter().rev() {
            self.slots[index as usize].listed = true;
            self.unsent.push_front(index);
        }
    }

    /// The connection is gone. The unconfirmed wait to be sent again, or fail with `error` if they must not be.
    pub fn disconnect(&mut self, republish: bool, error: &Error, suspect: bool) {
        let recalled = self.recall();
        let only = recalled.len() == 1 && self.one_by_one > 0;
        if matches!(self.route, Route::Open { .. }) {
            self.route = Route::Down;
        }
        self.blocked = false;
        if !republish {
            let error = error.clone().with_outcome_unknown();
            for index in recalled {
                self.settle(index, Err(error.clone()));
            }
        } else if suspect && only {
            // It was alone on the wire, so it is the publish that the broker closed the connection for.
            self.one_by_one = self.one_by_one.saturating_sub(1);
            self.settle(recalled[0], Err(error.clone()));
        } else {
            if suspect {
                self.one_by_one = recalled.len();
            }
            self.requeue(recalled);
        }
    }

    /// The broker closed the channel for one of the publishes on it. `missing` is the exchange it named, if it did.
    pub fn channel_refused(&mut self, error: &Error, missing: Option<&str>) {
        // With those that were given up, which may be what it is about.
        let alone = self.sent.iter().filter(|index| **index != NO_SLOT).count() == 1;
        let recalled = self.recall();
        self.route = Route::Down;
        let guilty = |out: &Outgoing| missing.is_some_and(|name| *out.exchange == *name);
        let named = recalled.iter().any(|index| self.slots[*index as usize].out.as_ref().is_some_and(guilty));
        if named {
            let (refused, innocent): (Vec<u32>, Vec<u32>) = recalled
                .into_iter()
                .partition(|index| self.slots[*index as usize].out.as_ref().is_some_and(guilty));
            for index in refused {
                self.settle(index, Err(error.clone()));
            }
            self.requeue(innocent);
        } else if alone && recalled.len() == 1 {
            self.one_by_one = self.one_by_one.saturating_sub(1);
            self.settle(recalled[0], Err(error.clone()));
        } else {
            self.one_by_one = recalled.len();
            self.requeue(recalled);
        }
    }

    /// No publish will be sent any more; all that is unresolved fails with `error`.
    pub fn close(&mut self, error: &Error) {
        let unknown = error.clone().with_outcome_unknown();
        for index in self.recall() {
            self.settle(index, Err(unknown.clone()));
        }
        for index in std::mem::take(&mut self.unsent) {
            self.slots[index as usize].listed = false;
            if self.slots[index as usize].out.is_some() {
                self.settle(index, Err(error.clone()));
            } else {
                self.release_slot(index);
            }
        }
        self.route = Route::Closed(error.clone());
        self.wake.extend(self.waiters.iter().map(|waiter| waiter.waker.clone()));
    }

    /// The client is being closed: what was admitted is seen through, nothing new is taken.
    pub fn refuse_new(&mut self) {
        self.refuses = true;
        // They hear of it when they look, and nobody waits until they do.
        self.wake.extend(self.waiters.drain(..).map(|waiter| waiter.waker));
    }

    /// A closed window takes publishes again: a new connection is being made for it.
    pub fn reopen(&mut self) {
        self.route = Route::Down;
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.route, Route::Closed(_))
    }

    pub fn is_armed(&self) -> bool {
        self.armed.is_some()
    }

    /// When [`Self::expire`] is due. While publishes come and go, this stays where it was set first, so that it costs
    /// nothing per publish.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        if self.armed.is_none() && !self.is_empty() {
            self.arm();
        }
        self.armed
    }

    // ---- deadlines -------------------------------------------------------------------------------------------

    /// Fails what is past its deadline, when that is due.
    pub fn expire(&mut self, now: Instant) {
        if self.armed.is_none_or(|armed| armed > now) {
            return;
        }
        for index in 0..self.slots.len() as u32 {
            let slot = &self.slots[index as usize];
            if slot.is_pending() && slot.deadline.is_some_and(|deadline| deadline <= now) {
                let error = self.deadline_error(slot.out.as_ref(), slot.sent);
                self.abandon(index, error);
            }
        }
        for place in 0..self.waiters.len() {
            let waiter = &self.waiters[place];
            if waiter.expired.is_none() && waiter.deadline.is_some_and(|deadline| deadline <= now) {
                let error = self.deadline_error(None, false);
                let waiter = &mut self.waiters[place];
                waiter.expired = Some(error);
                self.wake.push(waiter.waker.clone());
            }
        }
        // Publishes that were abandoned before they were sent are still listed.
        for index in std::mem::take(&mut self.unsent) {
            if self.slots[index as usize].out.is_some() {
                self.unsent.push_back(index);
            } else {
                self.slots[index as usize].listed = false;
                self.release_slot(index);
            }
        }
        self.arm();
    }

    fn arm(&mut self) {
        let slots = self.slots.iter().filter(|slot| slot.is_pending()).filter_map(|slot| slot.deadline);
        let waiters = self
            .waiters
            .iter()
            .filter(|waiter| waiter.expired.is_none())
            .filter_map(|waiter| waiter.deadline);
        self.armed = slots.chain(waiters).min();
    }

    /// A deadline before the one that the engine waits for has the engine look again.
    fn disarm_for(&mut self, deadline: Option<Instant>) {
        if let (Some(deadline), Some(armed)) = (deadline, self.armed)
            && deadline < armed
        {
            self.armed = None;
        }
    }

    fn deadline_error(&self, out: Option<&Outgoing>, sent: bool) -> Error {
        let to = out.map(describe).unwrap_or_default();
        let fate =
            if sent { "it is on the wire, so the broker may still take it" } else { "it was not sent" };
        let error = if self.blocked {
            Error::new(
                ErrorKind::Blocked,
                format!(
                    "publish{to}: the broker blocks publishers (a memory or disk alarm) and the deadline passed; {fate}"
                ),
            )
        } else if matches!(self.route, Route::Down) {
            Error::new(
                ErrorKind::Timeout,
                format!("publish{to}: the connection is down and the deadline passed; {fate}"),
            )
        } else {
            Error::new(ErrorKind::Timeout, format!("publish{to}: no confirm before the deadline; {fate}"))
        };
        if sent { error.with_outcome_unknown() } else { error }
    }
}

fn describe(out: &Outgoing) -> String {
    format!(" to exchange '{}' with routing key '{}'", out.exchange, out.routing_key)
}
