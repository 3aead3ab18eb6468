//! The targets, for the binaries of libFuzzer.

#[path = "../targets/mod.rs"]
pub mod targets;
