//! What handles and the engine share of publishes, from its own files; the window behind its lock only counts.

#[path = "../../src/engine/publish/admission.rs"]
#[allow(dead_code, reason = "the engine uses more of it")]
mod admission;
#[path = "../../src/engine/publish/publishing.rs"]
#[allow(dead_code, reason = "the engine uses more of it")]
mod publishing;

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;

use admission::Admission;
pub(crate) use publishing::{Publishing, SendBy};

use crate::Result;

#[derive(Clone, Debug)]
pub struct Outgoing;

#[derive(Clone, Copy, Debug, Default)]
pub struct PublishCounters;

pub struct Confirmation;

impl Confirmation {
    pub fn new(_: Arc<Publishing>, _: u32) -> Self {
        Self
    }
}

/// Deadlines are not part of the models.
#[derive(Default)]
pub struct Alarm;

impl Alarm {
    pub fn is_unheard(&self) -> bool {
        false
    }
}

/// Admits as the window does, and has one byte to send for each publish.
pub struct Window {
    admission: Admission,
    queued: usize,
    pub alarm: Alarm,
    wake: Vec<Waker>,
    pub counters: PublishCounters,
}

impl Window {
    pub fn new(max_messages: usize, max_bytes: usize, _replaceable: bool) -> Self {
        Self {
            admission: Admission::new(max_messages, max_bytes),
            queued: 0,
            alarm: Alarm,
            wake: Vec::new(),
            counters: PublishCounters,
        }
    }

    pub fn serve(&mut self) {}

    pub fn is_served(&self) -> bool {
        true
    }

    pub fn poll_admit(
        &mut self,
        cx: &mut Context<'_>,
        _: &mut Option<Outgoing>,
        deadline: Option<Instant>,
        ticket: &mut Option<u64>,
    ) -> Poll<Result<u32>> {
        if self.admission.is_turn(*ticket) && self.admission.has_room(1) {
            self.admission.enter(1);
            self.queued += 1;
            self.leave_queue(ticket);
            return Poll::Ready(Ok(0));
        }
        self.admission.wait(ticket, cx.waker(), deadline);
        Poll::Pending
    }

    pub fn leave_queue(&mut self, ticket: &mut Option<u64>) {
        if ticket.is_some() {
            self.wake.extend(self.admission.give_up(ticket));
        }
    }

    /// A publish is confirmed.
    pub fn leave(&mut self) {
        self.wake.extend(self.admission.leave(1));
    }

    pub fn take_wakers(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wake)
    }

    pub fn has_work(&self) -> bool {
        self.queued > 0
    }

    pub fn pump(&mut self, buffer: &mut Vec<u8>, _: usize, _: u32) {
        buffer.extend(std::iter::repeat_n(0, std::mem::take(&mut self.queued)));
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }

    pub fn in_flight(&self) -> (usize, usize) {
        self.admission.in_flight()
    }
}
