//! The atomics and locks of the parts that a model checker runs (`core/tests/memory_model` gives them loom's).

pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicUsize, Ordering, fence},
};

pub(crate) use tokio::sync::Notify;
