//! Remote procedure calls: a client calls a method of a server and waits for its result, or casts and does not.
//!
//! | module | what it is |
//! |---|---|
//! | `client` | [`Client`]: call, cast, fanout cast |
//! | `replies` | the queue of a transport's replies, and who waits for them |
//! | `endpoint` | [`Endpoint`]: methods under a namespace and a version |
//! | `server` | [`Server`], [`RunningServer`]: takes requests, calls methods, sends replies |

mod client;
mod endpoint;
mod replies;
mod server;

pub use client::Client;
pub use endpoint::Endpoint;
pub(super) use replies::Replies;
pub use server::{AckOn, RunningServer, Server};
