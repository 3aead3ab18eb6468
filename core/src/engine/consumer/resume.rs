//! What becomes of a consumer that is interrupted: its connection was lost, its channel was closed, the broker cancelled or
//! refused it. It resumes, after a delay where the broker refused it, or it ends.

use std::time::Duration;

use tokio::time::Instant;

use super::machine::{Action, Actions, Awaited, Machine, Outcome, Reason, State};
use crate::{Error, ErrorKind};

/// The first delay before a refused consumer is tried again; it doubles up to the recovery's longest delay.
pub(super) const FIRST_RETRY: Duration = Duration::from_millis(50);

/// A consumer whose start has ended this many connections, without a run in between, is not started again. After any
/// code but 541 one is enough.
const MOST_BREAKS: u32 = 2;

impl<R> Machine<R> {
    pub(super) fn on_refused(&mut self, error: &Error, now: Instant) -> Actions<R> {
        match self.state {
            State::Idle | State::Starting(_) | State::Backoff => self.give_up_or_retry(error, now),
            _ => Vec::new(),
        }
    }

    /// The broker ended the connection over `basic.consume`. Most such refusals are final (540, 530, 503); after an
    /// internal error (541) a consumer that has run before is started once more.
    pub(super) fn on_broke(&mut self, error: &Error, now: Instant) -> Actions<R> {
        if !self.is_starting() && !self.wants_channel() {
            return Vec::new();
        }
        if matches!(self.state, State::Replacing { ending: Some(_), .. }) {
            return self.lost_while_ending();
        }
        self.interruption.breaks += 1;
        let again = matches!(error.reply_code(), Some(541)) && self.interruption.breaks < MOST_BREAKS;
        if again && self.starting.is_none() {
            return Vec::new();
        }
        if self.starting.is_some() {
            return self.give_up_or_retry(error, now);
        }
        let mut actions = Vec::new();
        if !std::mem::replace(&mut self.interruption.reported, true) {
            actions.push(Action::NotRestored(Reason(error.clone())));
        }
        actions.push(Action::TellCancelled { resumes: false });
        actions.extend(self.end(Some(Reason(not_restored(error)))));
        actions
    }

    fn give_up_or_retry(&mut self, error: &Error, now: Instant) -> Actions<R> {
        self.state = State::Idle;
        if let Some(reply) = self.starting.take() {
            let refused = Action::Answer(reply, Outcome::Refused(Reason(error.clone())));
            return self.end(None).into_iter().chain([refused]).collect();
        }
        if is_locked(error) && *self.interruption.locked_since.get_or_insert(now) + self.terms.patience > now
        {
            return self.retry();
        }
        let mut actions = Vec::new();
        if !std::mem::replace(&mut self.interruption.reported, true) {
            actions.push(Action::NotRestored(Reason(error.clone())));
        }
        if self.terms.resume {
            actions.extend(self.tell_and_retry());
        } else {
            actions.push(Action::TellCancelled { resumes: false });
            actions.extend(self.end(Some(Reason(not_restored(error)))));
        }
        actions
    }

    /// Tries it again later, and says so once.
    fn tell_and_retry(&mut self) -> Actions<R> {
        let mut actions = Vec::new();
        if !std::mem::replace(&mut self.interruption.told, true) {
            actions.push(Action::TellCancelled { resumes: true });
        }
        actions.extend(self.retry());
        actions
    }

    fn retry(&mut self) -> Actions<R> {
        self.state = State::Backoff;
        let delay = self.interruption.delay.max(FIRST_RETRY);
        self.interruption.delay = (delay * 2).min(self.terms.longest_delay.max(FIRST_RETRY * 2));
        // It starts with the new value.
        let changes = self.changes.drain(..).map(|reply| Action::Answer(reply, Outcome::Done));
        changes.chain([Action::RetryIn(delay), Action::Settled { restored: false }]).collect()
    }

    pub(super) fn on_channel_closed(&mut self, channel: u16, error: Error, now: Instant) -> Actions<R> {
        if self.channel() != Some(channel) {
            return Vec::new();
        }
        match &self.state {
            State::Starting(_) => self.on_refused(&error, now),
            State::Cancelling { .. } | State::Replacing { ending: Some(_), .. } => self.lost_while_ending(),
            // One of its requests was refused, not the consumer.
            State::Running(_) if self.terms.requests => {
                self.state = State::Idle;
                vec![Action::Restart]
            }
            // Somebody else took the queue while an exclusive consumer was replaced.
            State::Replacing { consume: Awaited::Sent, .. } if is_locked(&error) => {
                let mut actions = vec![Action::DropUndelivered];
                actions.extend(self.give_up_or_retry(&error, now));
                actions
            }
            _ => {
                let mut actions = vec![Action::DropUndelivered];
                actions.extend(self.interrupted(Reason(error)));
                actions
            }
        }
    }

    pub(super) fn on_cancelled_by_broker(
        &mut self,
        channel: u16,
        generation: u32,
        error: Error,
    ) -> Actions<R> {
        if self.channel() != Some(channel) {
            return Vec::new();
        }
        let mut actions = vec![Action::Drain(channel)];
        match &mut self.state {
            // The consumer of this tag is known to have another in its place, which continues.
            State::Running(on) if on.generation != generation => return Vec::new(),
            State::Replacing { new, consume: Awaited::Answered, .. } if new.generation != generation => {
                return Vec::new();
            }
            // A `basic.consume` without its reply may still start a consumer: it ends with its channel, so that there
            // are never two.
            State::Replacing { consume: Awaited::Sent | Awaited::NotSent, .. } | State::Starting(_) => {
                actions.push(Action::CloseChannel(channel));
            }
            _ => {}
        }
        let ending = match std::mem::replace(&mut self.state, State::Idle) {
            State::Cancelling { ending, .. } | State::Replacing { ending: Some(ending), .. } => Some(ending),
            _ => None,
        };
        if let Some(ending) = ending {
            actions.push(Action::TellCancelled { resumes: false });
            actions.extend(self.ended(ending));
        } else {
            actions.extend(self.interrupted(Reason(error)));
        }
        actions
    }

    /// The broker took the consumer away.
    fn interrupted(&mut self, reason: Reason) -> Actions<R> {
        if self.terms.resume {
            return self.tell_and_retry();
        }
        let mut actions = vec![Action::TellCancelled { resumes: false }];
        actions.extend(self.end(Some(reason)));
        actions
    }

    pub(super) fn on_lost(&mut self) -> Actions<R> {
        match &self.state {
            State::Ended => Vec::new(),
            State::Cancelling { .. } | State::Replacing { ending: Some(_), .. } => self.lost_while_ending(),
            _ => {
                self.state = State::Idle;
                vec![Action::DropUndelivered]
            }
        }
    }
}

/// Somebody else has the queue, or the broker still holds the connection that was lost.
fn is_locked(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ResourceLocked | ErrorKind::AccessRefused)
}

/// The error of a consumer that the broker did not let start again, for whatever reason.
fn not_restored(error: &Error) -> Error {
    let mut cancelled = Error::new(
        ErrorKind::ConsumerCancelled,
        format!("the consumer could not be restored after a reconnect: {error}"),
    );
    if let Some(reply) = error.reply() {
        cancelled = cancelled.with_reply(reply.clone());
    }
    cancelled
}
