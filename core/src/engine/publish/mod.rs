//! The publishes of one channel, from the application's call to the broker's confirm.
//!
//! | module | what it is |
//! |---|---|
//! | [`publishing`] | what handles and the engine share: admission, and writing from the caller's thread |
//! | [`confirmation`] | the future of a result, for the application |
//! | [`window`] | the state behind the lock: where publishes go just now, and their results |
//! | [`slots`] | where each publish is |
//! | [`admission`] | the bound on messages and bytes, and the queue in front of it |
//! | [`wire`] | encoding |
//! | [`confirms`] | confirms and returns, each matched to its publish |
//! | [`requeue`] | what becomes of the unconfirmed when connection or channel is lost |
//! | [`nacks`] | the channel that gets nothing but nacks |
//! | [`deadlines`] | when a publish has waited too long |

mod admission;
mod confirmation;
mod confirms;
mod deadlines;
mod nacks;
mod publishing;
mod requeue;
mod slots;
#[cfg(test)]
mod tests;
mod window;
mod wire;

use std::sync::Arc;

pub(crate) use self::{
    confirmation::CancelOnDrop,
    publishing::{Publishing, SendBy, now},
    requeue::{Blame, is_refusal},
    window::Window,
};
pub use confirmation::Confirmation;

use crate::message::Message;

/// A publish with its route.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub exchange: Arc<str>,
    pub routing_key: Arc<str>,
    pub message: Message,
    pub mandatory: bool,
}

impl Outgoing {
    /// The route, for errors.
    fn describe(&self) -> String {
        format!(" to exchange '{}' with routing key '{}'", self.exchange, self.routing_key)
    }
}

/// What is counted of the publishes of a channel.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PublishCounters {
    pub published: u64,
    pub confirmed: u64,
    pub returned: u64,
    pub nacked: u64,
    pub republished: u64,
    pub bytes: u64,
}
