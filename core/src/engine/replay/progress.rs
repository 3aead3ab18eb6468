//! How far a recovery is: its step, and what that still waits for.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Consumers on their way. One that is refused may be tried again in the same recovery, and is answered again.
    starting: BTreeSet<u64>,
    pub(super) restored: Restored,
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
            starting: BTreeSet::new(),
            restored: Restored { failed, ..Restored::default() },
            locked: BTreeMap::new(),
            first,
        }
    }

    /// An exchange, a queue or a binding is on its way.
    pub fn sent(&mut self) {
        self.unanswered += 1;
    }

    /// Consumers are on their way.
    pub fn starts(&mut self, consumers: impl IntoIterator<Item = u64>) {
        self.starting.extend(consumers);
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
        if self.unanswered > 0 || !self.starting.is_empty() {
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
        replay.sent();
        replay.sent();
        assert_eq!(replay.next_phase(), None);
        replay.answered();
        assert_eq!(replay.next_phase(), None);
        replay.answered();
        assert_eq!(replay.next_phase(), Some(Phase::Bindings));
        assert_eq!(replay.next_phase(), Some(Phase::Consumers));
        replay.starts([1, 2]);
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
        replay.starts([1, 2]);
        replay.consumer_answered(1);
        replay.consumer_answered(1);
        assert_eq!(replay.next_phase(), None, "the second is on its way");
        replay.consumer_answered(2);
        assert_eq!(replay.next_phase(), Some(Phase::Done));
    }
}
