//! Turns for the others: whoever always finds a result without waiting would keep the other tasks of its event loop, or the
//! other green threads of its hub, from running for as long as that lasts.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// The others have a turn after so long.
const LONGEST: Duration = Duration::from_millis(5);

thread_local! {
    /// When the loop or hub of this thread last had one.
    static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Whether the others have been kept waiting for too long.
pub fn is_due() -> bool {
    LAST.get().is_none_or(|last| last.elapsed() >= LONGEST)
}

/// The others have their turn now.
pub fn given() {
    LAST.set(Some(Instant::now()));
}
