//! Choices read off the fuzzer's bytes, with the methods of `fastrand::Rng` that the generators use: so that the same
//! generators serve random tests and the fuzzer, which learns what a byte of its input decides.

use std::{
    ops::{Bound, RangeBounds},
    sync::{Arc, Mutex, PoisonError},
};

/// Forks share the bytes: a conversation on one thread takes them in one order. Once they are used up, every choice is the
/// first.
#[derive(Clone, Default)]
pub struct Rng(Arc<Mutex<Bytes>>);

#[derive(Default)]
struct Bytes {
    /// Last one first.
    left: Vec<u8>,
}

impl Rng {
    pub fn of(bytes: &[u8]) -> Self {
        Self(Arc::new(Mutex::new(Bytes { left: bytes.iter().rev().copied().collect() })))
    }

    pub fn is_used_up(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).left.is_empty()
    }

    pub fn fork(&mut self) -> Self {
        self.clone()
    }

    pub fn bool(&mut self) -> bool {
        self.below(2) == 1
    }

    /// A number below `bound`, 0 meaning 2⁶⁴, off as few bytes as will do.
    fn below(&mut self, bound: u64) -> u64 {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = match bound {
            1 => return 0,
            2..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            0x1_0001..=0x1_0000_0000 => 4,
            _ => 8,
        };
        let number = (0..count).fold(0, |number, _| number << 8 | u64::from(bytes.left.pop().unwrap_or(0)));
        if bound == 0 { number } else { number % bound }
    }

    fn within(&mut self, range: &impl RangeBounds<u64>, max: u64) -> u64 {
        let first = match range.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let last = match range.end_bound() {
            Bound::Included(last) => *last,
            Bound::Excluded(end) => end - 1,
            Bound::Unbounded => max,
        };
        first + self.below((last - first).wrapping_add(1))
    }
}

macro_rules! choose {
    ($($number:ident),*) => {
        #[allow(dead_code, clippy::cast_lossless, reason = "those of fastrand, for numbers of every size")]
        impl Rng {
            $(pub fn $number(&mut self, range: impl RangeBounds<$number>) -> $number {
                let range = (range.start_bound().map(|at| *at as u64), range.end_bound().map(|at| *at as u64));
                self.within(&range, $number::MAX as u64) as $number
            })*
        }
    };
}

choose!(u8, u16, u32, u64, usize);
