//! When a publish has waited too long: the alarm that the engine sleeps by, and the error.

use tokio::time::Instant;

use super::{
    slots::{Place, Slot},
    window::{Route, Window},
};
use crate::{Error, ErrorKind};

/// When the engine must look at the deadlines next. It is never later than the earliest deadline, and may be earlier: while
/// publishes come and go it stays where the first has set it, so that a publish costs one comparison.
#[derive(Default)]
pub(super) struct Alarm {
    at: Option<Instant>,
    /// The engine may sleep past it, because it was set since the engine has asked.
    unheard: bool,
}

impl Alarm {
    pub fn note(&mut self, deadline: Option<Instant>) {
        if let Some(deadline) = deadline
            && self.at.is_none_or(|at| deadline < at)
        {
            self.at = Some(deadline);
            self.unheard = true;
        }
    }

    /// The engine asks when it must look.
    pub fn hear(&mut self) -> Option<Instant> {
        self.unheard = false;
        self.at
    }

    /// Whether the engine must be woken to hear of it.
    pub fn is_unheard(&self) -> bool {
        self.unheard
    }

    fn is_due(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| at <= now)
    }
}

impl Window {
    /// When [`Self::expire`] is due.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        self.alarm.hear()
    }

    /// Fails what is past its deadline, when that is due.
    pub fn expire(&mut self, now: Instant) {
        if !self.alarm.is_due(now) {
            return;
        }
        let late: Vec<u32> = self
            .slots
            .iter()
            .filter(|(_, slot)| {
                slot.publish.is_some() && slot.deadline.is_some_and(|deadline| deadline <= now)
            })
            .map(|(index, _)| index)
            .collect();
        for index in late {
            let error = self.late(Some(&self.slots[index]));
            self.give_up(index, error);
        }
        let error = self.late(None);
        self.wake.extend(self.admission.expire(now, || error.clone()));
        let pending = self.slots.iter().filter(|(_, slot)| slot.publish.is_some());
        let deadlines = pending.filter_map(|(_, slot)| slot.deadline);
        self.alarm.at = deadlines.chain(self.admission.deadlines()).min();
    }

    /// The error of a publish that is past its deadline, in a slot or still before its admission.
    fn late(&self, slot: Option<&Slot>) -> Error {
        let to =
            slot.and_then(|slot| slot.publish.as_ref()).map(super::Outgoing::describe).unwrap_or_default();
        let fate = match slot {
            Some(Slot { place: Place::OnWire(_), .. }) => {
                "it is on the wire, so the broker may still take it"
            }
            Some(Slot { doubt: true, .. }) => {
                "it was sent before the connection or channel was lost, so the broker may have it"
            }
            _ => "it was not sent",
        };
        let (kind, why) = if self.blocked {
            (
                ErrorKind::Blocked,
                "the broker blocks publishers (a memory or disk alarm) and the deadline passed".into(),
            )
        } else if self.stopped {
            (
                ErrorKind::Blocked,
                "the broker has stopped the channel (channel.flow) and the deadline passed".into(),
            )
        } else if matches!(self.route, Route::Down) {
            let why = self.failure.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
            (ErrorKind::Timeout, format!("the connection is down{why} and the deadline passed"))
        } else {
            (ErrorKind::Timeout, "no confirm before the deadline".into())
        };
        let error = Error::new(kind, format!("publish{to}: {why}; {fate}"));
        match self.failure.as_ref().filter(|_| matches!(self.route, Route::Down)) {
            Some(failure) => error.with_source(failure.clone()),
            None => error,
        }
    }
}
