//! What handles ask of a connection, and what the broker answers.
//!
//! | module | what it is |
//! |---|---|
//! | [`inbox`] | commands: taken from the handles, kept while the connection or its topology is not there |
//! | [`calls`] | channels opened and closed, methods sent on them |
//! | [`control`] | the channel for declarations, and how much is sent on it at a time |
//! | [`gets`] | `basic.get`, and channels that are kept for their deliveries |
//! | [`answers`] | replies of the broker, and what they change in the record |
//! | [`refusals`] | channels and connections that the broker closed over a method |
//! | [`deadlines`] | commands that get no answer in time |
//! | [`closing`] | the orderly end of a connection |

mod answers;
mod calls;
pub(super) mod closing;
pub(super) mod control;
mod deadlines;
mod gets;
mod inbox;
mod refusals;
