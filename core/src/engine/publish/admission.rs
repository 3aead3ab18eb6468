//! The bound on publishes that are unconfirmed, and the queue in front of it: first come, first admitted.

use std::{collections::VecDeque, task::Waker};

use tokio::time::Instant;

use crate::Error;

pub(super) struct Admission {
    max_messages: usize,
    max_bytes: usize,
    messages: usize,
    bytes: usize,
    waiters: VecDeque<Waiter>,
    next_ticket: u64,
}

struct Waiter {
    ticket: u64,
    waker: Waker,
    deadline: Option<Instant>,
    expired: Option<Error>,
}

impl Admission {
    pub fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self { max_messages, max_bytes, messages: 0, bytes: 0, waiters: VecDeque::new(), next_ticket: 0 }
    }

    /// Whether a message with a body of `size` bytes may enter. One larger than the whole window enters when it is empty.
    pub fn has_room(&self, size: usize) -> bool {
        self.messages < self.max_messages && (self.bytes + size <= self.max_bytes || self.messages == 0)
    }

    pub fn enter(&mut self, size: usize) {
        self.messages += 1;
        self.bytes += size;
    }

    /// A message leaves the window. Returns the waker of the first that waits.
    pub fn leave(&mut self, size: usize) -> Option<Waker> {
        self.messages -= 1;
        self.bytes -= size;
        self.first_waker()
    }

    /// Messages in the window, and their body bytes.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.messages, self.bytes)
    }

    /// Whether the window is empty and nobody waits.
    pub fn is_idle(&self) -> bool {
        self.messages == 0 && self.waiters.is_empty()
    }

    // ---- the queue -------------------------------------------------------------------------------------------

    fn place(&self, ticket: Option<u64>) -> Option<usize> {
        self.waiters.iter().position(|waiter| Some(waiter.ticket) == ticket)
    }

    /// Whether nobody is before the holder of `ticket`.
    pub fn is_turn(&self, ticket: Option<u64>) -> bool {
        match ticket.and_then(|_| self.place(ticket)) {
            Some(place) => place == 0,
            None => self.waiters.is_empty(),
        }
    }

    /// The error of a wait that was too long, once.
    pub fn take_expired(&mut self, ticket: Option<u64>) -> Option<Error> {
        let place = ticket.and_then(|_| self.place(ticket))?;
        self.waiters[place].expired.take()
    }

    /// Waits under `ticket`; the first wait gets one, and its place at the end.
    pub fn wait(&mut self, ticket: &mut Option<u64>, waker: &Waker, deadline: Option<Instant>) {
        if let Some(place) = ticket.and_then(|_| self.place(*ticket)) {
            self.waiters[place].waker.clone_from(waker);
            return;
        }
        let number = self.next_ticket;
        self.next_ticket += 1;
        *ticket = Some(number);
        self.waiters.push_back(Waiter { ticket: number, waker: waker.clone(), deadline, expired: None });
    }

    /// Gives up the place in the queue. Returns the waker of the one that is first now.
    pub fn give_up(&mut self, ticket: &mut Option<u64>) -> Option<Waker> {
        let place = self.place(Some(ticket.take()?))?;
        self.waiters.remove(place);
        self.first_waker()
    }

    fn first_waker(&self) -> Option<Waker> {
        if self.messages >= self.max_messages {
            return None;
        }
        self.waiters.front().map(|first| first.waker.clone())
    }

    /// The wakers of all that wait: they hear that nothing is admitted any more.
    pub fn wakers(&self) -> impl Iterator<Item = Waker> {
        self.waiters.iter().map(|waiter| waiter.waker.clone())
    }

    /// Ends all waits: the queue is over, and its wakers are returned.
    pub fn dissolve(&mut self) -> impl Iterator<Item = Waker> {
        self.waiters.drain(..).map(|waiter| waiter.waker)
    }

    /// Ends the waits that are past their deadline with an error, and returns their wakers.
    pub fn expire(&mut self, now: Instant, error: impl Fn() -> Error) -> impl Iterator<Item = Waker> {
        self.waiters
            .iter_mut()
            .filter(move |waiter| {
                waiter.expired.is_none() && waiter.deadline.is_some_and(|deadline| deadline <= now)
            })
            .map(move |waiter| {
                waiter.expired = Some(error());
                waiter.waker.clone()
            })
    }

    /// The deadlines of those that wait.
    pub fn deadlines(&self) -> impl Iterator<Item = Instant> {
        self.waiters.iter().filter(|waiter| waiter.expired.is_none()).filter_map(|waiter| waiter.deadline)
    }
}
