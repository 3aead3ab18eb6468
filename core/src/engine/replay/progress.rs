//! How far a recovery is: its step, and what that still waits for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tokio::time::Instant;

use crate::events::{NotRestored, Restored};

/// The steps of a recovery, in order. Each begins when everything of the one before has its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Exchanges and queues.
    Entities,
    Bindings,
    Consumers,
    Done,
}

pub(crate) struct Replay {
    phase: Phase,
    /// Declares and binds on their way; each is answered once.
    unanswered: usize,
    /// Consumers that are still to be started.
    to_start: VecDeque<u64>,
    /// Consumers on their way. One that is refused may be tried again in the same recovery, and is answered again.
    starting: BTreeSet<u64>,
    pub restored: Restored,
    /// Queues that the broker still keeps for the dead connection, with the time of the first refusal.
    pub(super) locked: BTreeMap<String, Instant>,
    /// The first connection has nothing to bring back, and nothing to tell.
    pub(super) first: bool,
}

impl Replay {
    /// `failed`: what has been given up already.
    pub fn new(first: bool, failed: Vec<NotRestored>) -> Self {
        Self {
            phase: Phase::Entities,
            unanswered: 0,
            to_start: VecDeque::new(),
            starting: BTreeSet::new(),
            restored: Restored { failed, ..Restored::default() },
            locked: BTreeMap::new(),
            first,
        }
    }

    /// The declarations of `count` exchanges, queues or bindings are on their way.
    pub fn sent(&mut self, count: usize) {
        self.unanswered += count;
    }

    /// These consumers are to be started.
    pub fn will_start(&mut self, consumers: impl IntoIterator<Item = u64>) {
        self.to_start.extend(consumers);
    }

    /// The next consumer to start now; one at a time where it is done carefully.
    pub fn next_consumer(&mut self, careful: bool) -> Option<u64> {
        if careful && !self.starting.is_empty() {
            return None;
        }
        let next = self.to_start.pop_front()?;
        self.starting.insert(next);
        Some(next)
    }

    /// There is an answer for an exchange, a queue or a binding, good or bad.
    pub fn answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    /// There is an answer for a consumer, good or bad; whether it is the first.
    pub fn consumer_answered(&mut self, id: u64) -> bool {
        self.starting.remove(&id)
    }

    /// The step that begins now, once nothing of the one before is without an answer.
    pub fn next_phase(&mut self) -> Option<Phase> {
        if self.unanswered > 0 || !self.starting.is_empty() || !self.to_start.is_empty() {
            return None;
        }
        self.phase = match self.phase {
            Phase::Entities => Phase::Bindings,
            Phase::Bindings => Phase::Consumers,
            Phase::Consumers | Phase::Done => Phase::Done,
        };
        Some(self.phase)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_waits_for_all_answers_of_the_one_before() {
        let mut replay = Replay::new(false, Vec::new());
        replay.sent(2);
        assert_eq!(replay.next_phase(), None);
        replay.answered();
        assert_eq!(replay.next_phase(), None);
        replay.answered();
        assert_eq!(replay.next_phase(), Some(Phase::Bindings));
        assert_eq!(replay.next_phase(), Some(Phase::Consumers));
        replay.will_start([1, 2]);
        assert_eq!((replay.next_consumer(false), replay.next_consumer(false)), (Some(1), Some(2)));
        assert_eq!(replay.next_phase(), None);
        replay.consumer_answered(1);
        replay.consumer_answered(2);
        assert_eq!(replay.next_phase(), Some(Phase::Done));
    }

    #[test]
    fn a_consumer_that_is_refused_and_then_started_counts_once() {
        let mut replay = Replay::new(false, Vec::new());
        assert_eq!(replay.next_phase(), Some(Phase::Bindings));
        assert_eq!(replay.next_phase(), Some(Phase::Consumers));
        replay.will_start([1, 2]);
        assert_eq!((replay.next_consumer(false), replay.next_consumer(false)), (Some(1), Some(2)));
        replay.consumer_answered(1);
        replay.consumer_answered(1);
        assert_eq!(replay.next_phase(), None, "the second is on its way");
        replay.consumer_answered(2);
        assert_eq!(replay.next_phase(), Some(Phase::Done));
    }

    #[test]
    fn carefully_a_consumer_is_started_when_the_one_before_has_its_answer() {
        let mut replay = Replay::new(false, Vec::new());
        assert_eq!(replay.next_phase(), Some(Phase::Bindings));
        assert_eq!(replay.next_phase(), Some(Phase::Consumers));
        replay.will_start([1, 2]);
        assert_eq!((replay.next_consumer(true), replay.next_consumer(true)), (Some(1), None));
        replay.consumer_answered(1);
        assert_eq!(replay.next_phase(), None, "the second is still to be started");
        assert_eq!(replay.next_consumer(true), Some(2));
        replay.consumer_answered(2);
        assert_eq!(replay.next_phase(), Some(Phase::Done));
    }
}
