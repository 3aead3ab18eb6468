//! Methods that nobody waits for.
