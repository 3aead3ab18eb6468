//! Where each publish is. A publish lives in a slot from its admission until it is both out of the window and not waited
//! for any more. Slots are used again, so that a publish costs no allocation of its own: this is the hot path.

use std::{
    collections::VecDeque,
    ops::{Index, IndexMut},
    task::Waker,
};

use tokio::time::Instant;

use super::Outgoing;
use crate::{Error, Result};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// Waits to be sent, under this number of the queue.
    Queued(u64),
    /// On the wire under this delivery tag, and not confirmed.
    OnWire(u64),
    /// Out of the window.
    #[default]
    Out,
}

#[derive(Default)]
pub(super) struct Slot {
    pub place: Place,
    /// The publish; `None` once its result is known or it was given up.
    pub publish: Option<Outgoing>,
    /// A copy was sent before and its fate is unknown: the broker may have it.
    pub doubt: bool,
    /// The broker returned it; the confirm that follows makes that its result.
    pub returned: Option<Error>,
    pub result: Option<Result<()>>,
    pub waker: Option<Waker>,
    pub deadline: Option<Instant>,
    /// Body bytes that it takes in the window.
    pub size: usize,
    /// A confirmation may still ask for the result.
    pub owned: bool,
}

#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Slots {
    /// A free slot, to be filled in place: a publish has hundreds of bytes, and a copy costs as much as everything else
    /// here. `deadline` and `size` may be those of an earlier publish: the caller sets both.
    pub fn take_free(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        })
    }

    /// Makes the slot free for [`Self::take_free`].
    fn release(&mut self, index: u32) {
        let slot = &mut self[index];
        debug_assert!(slot.publish.is_none() && slot.waker.is_none() && slot.result.is_none());
        slot.doubt = false;
        slot.returned = None;
        self.free.push(index);
    }

    /// The publish is out of the window. A slot is free again after this and [`Self::disown`], each of which is once.
    pub fn leave(&mut self, index: u32) {
        let slot = &mut self[index];
        debug_assert_ne!(slot.place, Place::Out);
        slot.place = Place::Out;
        slot.publish = None;
        if !slot.owned {
            self.release(index);
        }
    }

    /// Nobody asks for the result any more.
    pub fn disown(&mut self, index: u32) {
        let slot = &mut self[index];
        debug_assert!(slot.owned);
        slot.owned = false;
        slot.waker = None;
        slot.result = None;
        if slot.place == Place::Out {
            self.release(index);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Slot)> {
        self.slots.iter().enumerate().map(|(index, slot)| (index as u32, slot))
    }

    #[cfg(test)]
    pub fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl Index<u32> for Slots {
    type Output = Slot;

    fn index(&self, index: u32) -> &Slot {
        &self.slots[index as usize]
    }
}

impl IndexMut<u32> for Slots {
    fn index_mut(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[index as usize]
    }
}

/// Slots in order, each under a number that stays its own while others come and go.
///
/// The front is always a slot: gaps are only kept behind it, so that none is left when the last slot goes.
pub(super) struct Line {
    /// The number of the front.
    first: u64,
    slots: VecDeque<u32>,
    count: usize,
}

/// The place of a slot that was taken out of the middle.
const GAP: u32 = u32::MAX;

impl Line {
    /// An empty line, whose first slot gets the number `first`.
    pub fn new(first: u64) -> Self {
        Self { first, slots: VecDeque::new(), count: 0 }
    }

    /// Numbers the next slot `first`; the line is empty.
    pub fn restart(&mut self, first: u64) {
        debug_assert!(self.is_empty());
        self.first = first;
    }

    pub fn push_back(&mut self, slot: u32) -> u64 {
        self.count += 1;
        self.slots.push_back(slot);
        self.end() - 1
    }

    pub fn push_front(&mut self, slot: u32) -> u64 {
        self.count += 1;
        self.slots.push_front(slot);
        self.first -= 1;
        self.first
    }

    pub fn pop_front(&mut self) -> Option<u32> {
        let slot = self.slots.pop_front()?;
        self.first += 1;
        self.count -= 1;
        self.close_front();
        Some(slot)
    }

    /// The front, if its number is at most `last`.
    pub fn pop_through(&mut self, last: u64) -> Option<u32> {
        if self.first <= last { self.pop_front() } else { None }
    }

    /// Takes out the slot at a number; `None` where there is none.
    pub fn take(&mut self, number: u64) -> Option<u32> {
        let place = number.checked_sub(self.first)? as usize;
        let slot = std::mem::replace(self.slots.get_mut(place)?, GAP);
        if slot == GAP {
            return None;
        }
        self.count -= 1;
        self.close_front();
        Some(slot)
    }

    fn close_front(&mut self) {
        while self.slots.front() == Some(&GAP) {
            self.slots.pop_front();
            self.first += 1;
        }
    }

    pub fn get(&self, number: u64) -> Option<u32> {
        let place = number.checked_sub(self.first)? as usize;
        self.slots.get(place).copied().filter(|slot| *slot != GAP)
    }

    /// All slots, front to back, leaving none.
    pub fn drain(&mut self) -> impl Iterator<Item = u32> + use<> {
        self.first = self.end();
        self.count = 0;
        std::mem::take(&mut self.slots).into_iter().filter(|slot| *slot != GAP)
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.slots.iter().copied().filter(|slot| *slot != GAP)
    }

    pub fn first(&self) -> u64 {
        self.first
    }

    /// The number that the next slot at the back gets.
    pub fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}
