//! The life of a consumer as a state machine: events in, actions out, no I/O.
//!
//! | state | the consumer |
//! |---|---|
//! | [`State::Idle`] | waits for the connection, or for its queue to be back |
//! | [`State::Starting`] | has sent `basic.consume` |
//! | [`State::Running`] | has its `basic.consume-ok` |
//! | [`State::Replacing`] | is being replaced by one with another prefetch, under the same handle |
//! | [`State::Cancelling`] | has sent `basic.cancel` |
//! | [`State::Backoff`] | was refused or cancelled by the broker and is tried again later |
//! | [`State::Ended`] | is over |
//!
//! `R` is a reply somebody waits for. Answers name the channel they came on: a late answer on a channel that the consumer
//! has left changes nothing.
//!
//! What a consumer does after a refusal, a cancel of the broker or a loss is in [`super::resume`]; how its prefetch is changed,
//! in [`super::prefetch`]. A test compares all transitions, as a whole, with `machine_table.txt`.
//!
//! The file is long because it has all states, events and actions, and every transition that is not in those two
//! modules.

use std::time::Duration;

use tokio::time::Instant;

use super::prefetch::Change;
use crate::Error;

/// What the consumer was started with. Only `change` is set again, when the prefetch is changed: its queue may have
/// been declared since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub no_ack: bool,
    /// A consumer that the broker cancelled is tried again.
    pub resume: bool,
    /// Acks do not move a stream's position: offsets do.
    pub stream: bool,
    /// Publishes that expect direct replies share its channel; an error of theirs is not the consumer's.
    pub requests: bool,
    /// How its prefetch is changed while it runs.
    pub change: Change,
    /// How long 403 and 405 are retried: the broker may still hold the lost connection.
    pub patience: Duration,
    pub longest_delay: Duration,
}

/// One `basic.consume` on the wire. A channel may carry several in turn, each with a tag of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OnWire {
    pub channel: u16,
    /// Counts the consumers of the channel; the tag of every one but the first ends with it.
    pub generation: u32,
    pub prefetch: u16,
}

/// The end that was asked for.
#[derive(Debug, PartialEq)]
pub(super) struct Ending<R> {
    replies: Vec<R>,
    /// Until then the reply to the cancel is read although the delivery buffer is full.
    until: Instant,
    /// What the application is told, if it did not ask for the end itself.
    reason: Option<Reason>,
}

/// An error as a value that tests can compare.
#[derive(Clone, Debug)]
pub(super) struct Reason(pub Error);

impl PartialEq for Reason {
    fn eq(&self, other: &Self) -> bool {
        self.0.kind() == other.0.kind()
    }
}

#[derive(Debug, PartialEq)]
pub(super) enum State<R> {
    Idle,
    Starting(OnWire),
    Running(OnWire),
    Replacing {
        old: OnWire,
        new: OnWire,
        consume: Awaited,
        /// `basic.cancel-ok` of the old one is to come.
        cancel: bool,
        /// The end that was asked for meanwhile. RabbitMQ 3.10 ends the connection (541) over a `basic.cancel` right
        /// behind its `basic.consume`, so it waits for the answers.
        ending: Option<Ending<R>>,
    },
    Cancelling {
        on: OnWire,
        ending: Ending<R>,
    },
    Backoff,
    Ended,
}

/// The `basic.consume` of a replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// It follows the answer to the cancel: the offset of a stream is known then.
    NotSent,
    Sent,
    Answered,
}

/// What has been going wrong since the consumer last ran.
#[derive(Debug, Default)]
pub(super) struct Interruption {
    /// The next delay; zero before the first.
    pub(super) delay: Duration,
    /// Since when the broker has been answering that somebody else has the queue.
    pub(super) locked_since: Option<Instant>,
    /// The recovery's event has it among what could not be restored.
    pub(super) reported: bool,
    /// The application heard that the consumer was cancelled.
    pub(super) told: bool,
    /// Connections that the broker ended over its start.
    pub(super) breaks: u32,
}

#[derive(Debug)]
pub(super) enum Event<R> {
    /// A channel was opened for it.
    Opened(u16),
    ConsumeOk(u16),
    CancelOk(u16),
    /// The broker refused `basic.consume`, or no channel was free for it.
    Refused(Error),
    /// The broker ended the connection over `basic.consume`.
    Broke(Error),
    /// The broker closed the channel.
    ChannelClosed(u16, Error),
    /// `basic.cancel` of the broker, for the consumer of this generation.
    CancelledByBroker(u16, u32, Error),
    /// The connection is gone.
    Lost,
    SetPrefetch(u16, R),
    Cancel(R, Instant),
    /// One of its messages must not be taken: it ends with this error, and gives back what it cannot take.
    Fail(Error, Instant),
    /// The engine ended: who waits is told the first error, the application the reason, if there is one.
    Closed(Error, Option<Error>),
}

/// What somebody who waits is told.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    Done,
    Refused(Reason),
    /// The consumer is over, with the reason it ended for.
    Ended(Option<Reason>),
}

#[derive(Debug, PartialEq)]
pub(super) enum Action<R> {
    /// `basic.qos`, if the limit has to be said, and `basic.consume`.
    Consume {
        on: OnWire,
        qos: bool,
    },
    /// `basic.cancel`.
    Cancel(OnWire),
    /// What still comes on the channel goes back to the queue.
    ReturnArrivals(u16),
    CloseChannel(u16),
    /// Leaves the channel to the deliveries that are with the application.
    Drain(u16),
    /// Gives what was never handed out back to the queue.
    PutBack,
    /// The broker has requeued what was never handed out.
    DropUndelivered,
    /// Direct requests may be published on the channel.
    OpenRequests(u16),
    /// Opens a channel and starts again.
    Restart,
    RetryIn(Duration),
    TellCancelled {
        resumes: bool,
    },
    TellResumed,
    /// Goes into the recovery's event.
    NotRestored(Reason),
    /// A recovery waits for it no longer; nor does it after [`Action::End`].
    Settled {
        restored: bool,
    },
    Answer(R, Outcome),
    End(Option<Reason>),
}

#[derive(Debug)]
pub(super) struct Machine<R> {
    pub terms: Terms,
    pub(super) state: State<R>,
    /// The prefetch that was asked for last.
    pub(super) prefetch: u16,
    /// The offset of the last stream message that arrived.
    offset: Option<i64>,
    /// Who waits for the first `basic.consume-ok`.
    pub(super) starting: Option<R>,
    /// Who waits for a change of the prefetch.
    pub(super) changes: Vec<R>,
    pub(super) interruption: Interruption,
}

pub(super) type Actions<R> = Vec<Action<R>>;

impl<R> Machine<R> {
    pub fn new(terms: Terms, prefetch: u16, starting: R) -> Self {
        Self {
            terms,
            state: State::Idle,
            prefetch,
            offset: None,
            starting: Some(starting),
            changes: Vec::new(),
            interruption: Interruption::default(),
        }
    }

    /// Whether a channel is to be opened for it once its queue is there.
    pub fn wants_channel(&self) -> bool {
        matches!(self.state, State::Idle | State::Backoff)
    }

    /// Whether `basic.consume` waits for its answer.
    pub fn is_starting(&self) -> bool {
        matches!(self.state, State::Starting(_) | State::Replacing { consume: Awaited::Sent, .. })
    }

    /// The channel that it consumes on.
    pub fn channel(&self) -> Option<u16> {
        match &self.state {
            State::Starting(on) | State::Running(on) | State::Cancelling { on, .. } => Some(on.channel),
            State::Replacing { new, .. } => Some(new.channel),
            State::Idle | State::Backoff | State::Ended => None,
        }
    }

    /// Whether an end waits for its reply. Reading must continue for that although the delivery buffer is full: the
    /// application may be waiting for the end instead of taking deliveries, and none follows the reply.
    pub fn is_ending(&self, now: Instant) -> bool {
        let ending = match &self.state {
            State::Cancelling { ending, .. } => Some(ending),
            State::Replacing { ending, .. } => ending.as_ref(),
            _ => None,
        };
        ending.is_some_and(|ending| ending.until > now)
    }

    /// The next offset of a stream.
    pub fn next_offset(&self) -> Option<i64> {
        self.offset.map(|last| last.saturating_add(1))
    }

    pub fn arrived_at(&mut self, offset: i64) {
        self.offset = Some(offset);
    }

    /// Everybody who waits.
    pub fn waiting(&mut self) -> impl Iterator<Item = &mut R> {
        let ending = match &mut self.state {
            State::Cancelling { ending, .. } => Some(ending),
            State::Replacing { ending, .. } => ending.as_mut(),
            _ => None,
        };
        let ending = ending.into_iter().flat_map(|ending| &mut ending.replies);
        self.starting.iter_mut().chain(&mut self.changes).chain(ending)
    }

    pub fn on(&mut self, event: Event<R>, now: Instant) -> Actions<R> {
        match event {
            Event::Opened(channel) => self.on_opened(channel),
            Event::ConsumeOk(channel) => self.on_consume_ok(channel),
            Event::CancelOk(channel) => self.on_cancel_ok(channel),
            Event::Refused(error) => self.on_refused(&error, now),
            Event::Broke(error) => self.on_broke(&error, now),
            Event::ChannelClosed(channel, error) => self.on_channel_closed(channel, error, now),
            Event::CancelledByBroker(channel, generation, error) => {
                self.on_cancelled_by_broker(channel, generation, error)
            }
            Event::Lost => self.on_lost(),
            Event::SetPrefetch(prefetch, reply) => self.on_set_prefetch(prefetch, reply),
            Event::Cancel(reply, until) => self.on_end(Ending { replies: vec![reply], until, reason: None }),
            Event::Fail(error, until) => {
                self.on_end(Ending { replies: Vec::new(), until, reason: Some(Reason(error)) })
            }
            Event::Closed(told, reason) => self.on_closed(&Reason(told), reason.map(Reason)),
        }
    }

    // ---- answers ---------------------------------------------------------------------------------------------

    fn on_opened(&mut self, channel: u16) -> Actions<R> {
        if !self.wants_channel() {
            return vec![Action::CloseChannel(channel)];
        }
        let on = OnWire { channel, generation: 0, prefetch: self.prefetch };
        self.state = State::Starting(on);
        vec![Action::Consume { on, qos: on.prefetch > 0 }]
    }

    fn on_consume_ok(&mut self, channel: u16) -> Actions<R> {
        match &mut self.state {
            State::Starting(on) if on.channel == channel => {
                let on = *on;
                self.state = State::Running(on);
                let mut actions = vec![Action::OpenRequests(channel)];
                actions.extend(self.starting.take().map(|reply| Action::Answer(reply, Outcome::Done)));
                if std::mem::take(&mut self.interruption).told {
                    actions.push(Action::TellResumed);
                }
                actions.extend(self.proceed());
                actions.push(Action::Settled { restored: true });
                actions
            }
            State::Replacing { new, consume: consume @ Awaited::Sent, .. } if new.channel == channel => {
                *consume = Awaited::Answered;
                self.settle_replacement()
            }
            _ => Vec::new(),
        }
    }

    fn on_cancel_ok(&mut self, channel: u16) -> Actions<R> {
        match &mut self.state {
            State::Cancelling { on, .. } if on.channel == channel => self.cancelled(channel),
            State::Replacing { new, consume, cancel: cancel @ true, ending, .. }
                if new.channel == channel =>
            {
                *cancel = false;
                match (*consume, ending.is_some()) {
                    // Nothing runs any more, and nothing is to.
                    (Awaited::NotSent, true) => self.cancelled(channel),
                    (Awaited::NotSent, false) => {
                        *consume = Awaited::Sent;
                        vec![Action::Consume { on: *new, qos: true }]
                    }
                    _ => self.settle_replacement(),
                }
            }
            _ => Vec::new(),
        }
    }

    /// The cancel was answered: nothing more comes.
    fn cancelled(&mut self, channel: u16) -> Actions<R> {
        let ending = match std::mem::replace(&mut self.state, State::Ended) {
            State::Cancelling { ending, .. } => Some(ending),
            State::Replacing { ending, .. } => ending,
            _ => None,
        };
        let reason = ending.as_ref().and_then(|ending| ending.reason.clone());
        let mut actions = vec![Action::Drain(channel)];
        if reason.is_none() {
            actions.push(Action::PutBack);
        }
        actions.extend(self.end_with(ending, reason));
        actions
    }

    // ---- the owner's wishes ----------------------------------------------------------------------------------

    pub(super) fn on_end(&mut self, ending: Ending<R>) -> Actions<R> {
        match &mut self.state {
            State::Idle | State::Backoff => self.ended(ending),
            State::Starting(on) => {
                // RabbitMQ 3.10 ends the connection (541) over a `basic.cancel` that comes right behind its
                // `basic.consume`. Nothing of this channel was handed out before its consume-ok, so that closing it gives
                // everything back.
                let channel = on.channel;
                let mut actions = vec![Action::CloseChannel(channel)];
                actions.extend(self.ended(ending));
                actions
            }
            State::Running(on) => {
                let on = *on;
                let mut actions = vec![Action::Cancel(on), Action::ReturnArrivals(on.channel)];
                if ending.reason.is_none() {
                    actions.push(Action::PutBack);
                }
                self.state = State::Cancelling { on, ending };
                actions
            }
            State::Replacing { ending: slot @ None, new, .. } => {
                let returns = ending.reason.is_some().then_some(Action::ReturnArrivals(new.channel));
                *slot = Some(ending);
                returns.into_iter().collect()
            }
            State::Replacing { ending: Some(earlier), .. } | State::Cancelling { ending: earlier, .. } => {
                earlier.until = earlier.until.max(ending.until);
                earlier.replies.extend(ending.replies);
                Vec::new()
            }
            State::Ended => {
                ending.replies.into_iter().map(|reply| Action::Answer(reply, Outcome::Done)).collect()
            }
        }
    }

    // ---- the end ---------------------------------------------------------------------------------------------

    /// The channel is gone with its consumer, which is what was asked for.
    pub(super) fn lost_while_ending(&mut self) -> Actions<R> {
        let ending = match std::mem::replace(&mut self.state, State::Ended) {
            State::Cancelling { ending, .. } => Some(ending),
            State::Replacing { ending, .. } => ending,
            _ => None,
        };
        let reason = ending.as_ref().and_then(|ending| ending.reason.clone());
        let mut actions = vec![Action::DropUndelivered];
        actions.extend(self.end_with(ending, reason));
        actions
    }

    fn on_closed(&mut self, told: &Reason, reason: Option<Reason>) -> Actions<R> {
        let disappointed = self.starting.take().into_iter().chain(self.changes.drain(..));
        let told = disappointed.map(|reply| Action::Answer(reply, Outcome::Ended(Some(told.clone()))));
        let told: Actions<R> = told.collect();
        self.end(reason).into_iter().chain(told).collect()
    }

    pub(super) fn ended(&mut self, ending: Ending<R>) -> Actions<R> {
        let reason = ending.reason.clone();
        self.end_with(Some(ending), reason)
    }

    pub(super) fn end(&mut self, reason: Option<Reason>) -> Actions<R> {
        let ending = match std::mem::replace(&mut self.state, State::Ended) {
            State::Cancelling { ending, .. } => Some(ending),
            State::Replacing { ending, .. } => ending,
            State::Ended => return Vec::new(),
            _ => None,
        };
        self.end_with(ending, reason)
    }

    /// Answers everybody who waits. Every way to [`State::Ended`] goes through here.
    fn end_with(&mut self, ending: Option<Ending<R>>, reason: Option<Reason>) -> Actions<R> {
        self.state = State::Ended;
        let disappointed = self.starting.take().into_iter().chain(self.changes.drain(..));
        let replies = ending.into_iter().flat_map(|ending| ending.replies);
        let disappointed = disappointed.map(|reply| Action::Answer(reply, Outcome::Ended(reason.clone())));
        let mut answers: Actions<R> = disappointed.collect();
        answers.extend(replies.map(|reply| Action::Answer(reply, Outcome::Done)));
        // First, so that everybody who is answered finds the consumer gone.
        let mut actions = vec![Action::End(reason)];
        actions.append(&mut answers);
        actions
    }
}
