//! How the prefetch of a running consumer is changed.
//!
//! A consumer starts with a limit of its own (`basic.qos` without `global`), which the broker keeps for as long as the
//! consumer lives; another limit takes another consumer. The channel's limit (`global`) is no way out: quorum queues and
//! streams end the connection over it (540), and RabbitMQ 4.3 answers it with `basic.qos-ok` and does nothing.

use super::machine::{Action, Actions, Awaited, Machine, OnWire, Outcome, Reason, State, Terms};
use crate::{
    Error,
    engine::{delivery_queue::ConsumerRequest, record::RecordedQueue},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The new consumer starts before the old one is cancelled.
    Overlap,
    /// The old consumer is cancelled first, because the broker refuses a second one.
    Gap,
    /// The old consumer of a stream is cancelled first, and the new one starts at the next offset.
    FromOffset,
    /// No way leaves queue and consumer as they are, for this reason.
    Never(&'static str),
}

impl Change {
    pub fn of(request: &ConsumerRequest, stream: bool, recorded: Option<&RecordedQueue>) -> Self {
        let queue = recorded.map(|recorded| &recorded.queue);
        if stream {
            return Change::FromOffset;
        }
        if request.exclusive {
            return match queue {
                None => Change::Never(
                    "an exclusive consumer is cancelled before it starts again, which would delete an auto-delete queue; \
                     declare the queue through this client, so that it is known not to be one",
                ),
                Some(queue) if queue.is_auto_delete() => Change::Never(
                    "an exclusive consumer is cancelled before it starts again, which would delete its auto-delete queue",
                ),
                Some(_) => Change::Gap,
            };
        }
        if queue.is_some_and(crate::Queue::is_single_active_consumer) {
            return Change::Never(
                "the single active consumer of a queue would lose its place to the next in line; cancel it and consume \
                 again if that may be",
            );
        }
        Change::Overlap
    }
}

/// Why a limit cannot be had.
pub(super) fn refusal(terms: &Terms, prefetch: u16, not_running: bool) -> Option<Error> {
    if terms.stream && prefetch == 0 {
        return Some(no_stream_prefetch());
    }
    match terms.change {
        Change::Never(reason) if !not_running => {
            Some(Error::invalid(format!("the prefetch stays as it is: {reason}")))
        }
        _ => None,
    }
}

pub(super) fn no_stream_prefetch() -> Error {
    Error::invalid("a stream is consumed with a prefetch limit: give one above 0 (RabbitMQ, streams)")
}

impl<R> Machine<R> {
    pub(super) fn on_set_prefetch(&mut self, prefetch: u16, reply: R) -> Actions<R> {
        // It has no meaning without acks; and where nothing changes, nothing is refused.
        let same = prefetch == self.prefetch && matches!(self.terms.change, Change::Never(_));
        if self.terms.no_ack || same {
            return vec![Action::Answer(reply, Outcome::Done)];
        }
        let refused = super::prefetch::refusal(&self.terms, prefetch, self.wants_channel());
        if let Some(error) = refused {
            return vec![Action::Answer(reply, Outcome::Refused(Reason(error)))];
        }
        match &self.state {
            State::Ended | State::Cancelling { .. } | State::Replacing { ending: Some(_), .. } => {
                vec![Action::Answer(reply, Outcome::Ended(None))]
            }
            State::Idle | State::Backoff => {
                self.prefetch = prefetch;
                // It starts with the new value.
                vec![Action::Answer(reply, Outcome::Done)]
            }
            State::Starting(_) | State::Running(_) | State::Replacing { .. } => {
                self.prefetch = prefetch;
                self.changes.push(reply);
                self.proceed()
            }
        }
    }

    /// Makes a running consumer one with the prefetch that was asked for.
    pub(super) fn proceed(&mut self) -> Actions<R> {
        let State::Running(old) = self.state else {
            return Vec::new();
        };
        if old.prefetch == self.prefetch {
            return self.changes.drain(..).map(|reply| Action::Answer(reply, Outcome::Done)).collect();
        }
        if self.changes.is_empty() {
            return Vec::new();
        }
        let new = OnWire { generation: old.generation + 1, prefetch: self.prefetch, ..old };
        let consume = Action::Consume { on: new, qos: true };
        let (actions, consume) = match self.terms.change {
            // The new consumer before the old one goes: a queue that is deleted with its last consumer stays. On one
            // channel, so that order is kept.
            Change::Overlap => (vec![consume, Action::Cancel(old)], Awaited::Sent),
            Change::Gap => (vec![Action::Cancel(old), consume], Awaited::Sent),
            Change::FromOffset => (vec![Action::Cancel(old)], Awaited::NotSent),
            // Refused by `on_set_prefetch`, unless the queue was declared after a change was accepted.
            Change::Never(_) => return Vec::new(),
        };
        self.state = State::Replacing { old, new, consume, cancel: true, ending: None };
        actions
    }

    /// Ends a replacement once `basic.consume-ok` and `basic.cancel-ok` are both in. Until then it is not certain which
    /// of the two consumers a tag belongs to.
    pub(super) fn settle_replacement(&mut self) -> Actions<R> {
        let State::Replacing { new, consume: Awaited::Answered, cancel: false, ending, .. } = &mut self.state
        else {
            return Vec::new();
        };
        let (new, ending) = (*new, ending.take());
        self.state = State::Running(new);
        match ending {
            Some(ending) => self.on_end(ending),
            None => self.proceed(),
        }
    }
}
