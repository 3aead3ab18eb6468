//! A server that breaks the protocol, against the real client: every bound on framing has a test here. Each ends in an
//! error that names the bound, within its deadline, in bounded memory and without a panic.

mod bytes;
mod closes;
mod consumers;
mod content;
mod framing;
mod handshake;
mod late_deletions;
mod methods;
mod outcomes;
mod poison;
mod pressure;
mod publishes;
mod script;
