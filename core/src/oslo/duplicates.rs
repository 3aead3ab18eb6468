//! Messages that came before, told by their `_unique_id`.

use std::collections::{HashSet, VecDeque};

/// The ids that are remembered. A stock peer remembers 16, which a redelivered prefetch window exceeds.
const REMEMBERED: usize = 1024;

/// The last ids that came.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    known: HashSet<String>,
    order: VecDeque<String>,
}

impl Duplicates {
    /// Whether the id is new; it is remembered from now on. A message without an id is never taken for another.
    pub fn is_new(&mut self, id: Option<&str>) -> bool {
        let Some(id) = id.filter(|id| !id.is_empty()) else {
            return true;
        };
        if !self.known.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ids_are_known_and_memory_is_bounded() {
        let mut duplicates = Duplicates::default();
        for number in 0..3 * REMEMBERED {
            assert!(duplicates.is_new(Some(&number.to_string())));
            assert!(!duplicates.is_new(Some(&number.to_string())));
        }
        assert!(!duplicates.is_new(Some(&(2 * REMEMBERED + 1).to_string())));
        assert_eq!((duplicates.known.len(), duplicates.order.len()), (REMEMBERED, REMEMBERED));
        assert!(duplicates.is_new(None) && duplicates.is_new(None) && duplicates.is_new(Some("")));
    }
}
