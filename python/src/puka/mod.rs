//! The native half of `murano_messaging.compat.puka`.
//!
//! | module | what it is |
//! |---|---|
//! | `client` | the state of a client, and how it connects |
//! | `topology`, `messages` | the methods that make promises |
//! | `wait` | `wait`, `loop`, callbacks, and somebody else's event loop |
//! | `promises` | the table of promises |
//! | `progress` | how they come to their results |
//! | `signals` | who is woken when a promise may go on: threads, green threads, a descriptor |
//! | `frames` | results as Puka's dicts |
//! | `fields` | Puka's flat headers, and its tables |
//! | `arguments` | strings and flags as Puka took them |

mod arguments;
pub mod client;
mod fields;
mod frames;
pub mod messages;
mod progress;
mod promises;
mod signals;
pub mod topology;
mod wait;
