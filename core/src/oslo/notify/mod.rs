//! Notifications: what happened, said to whoever listens, now or later.
//!
//! | module | what it is |
//! |---|---|
//! | `notifier` | [`Notifier`]: sends them |
//! | `listener` | [`Listener`], [`Notification`]: takes them off their queues |

mod listener;
mod notifier;

pub use listener::{Listener, ListenerBuilder, Notification};
pub use notifier::{Notifier, Priority};
