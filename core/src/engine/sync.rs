//! The atomics of the parts that a model checker runs (`core/tests/memory_model.rs` gives them loom's).

pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

pub(crate) use tokio::sync::Notify;
