//! The native half of `murano_messaging.compat.puka`.
//!
//! | module | what it is |
//! |---|---|
//! | `client` | Puka's methods: what is asked of the core, and by which promise |
//! | `calls` | the methods that make promises |
//! | `wait` | `wait`, `loop`, callbacks, and somebody else's event loop |
//! | `promises` | the table of promises and how they come to their results |
//! | `signals` | who is woken when a promise may go on: threads, green threads, a descriptor |
//! | `frames` | results as Puka's dicts |
//! | `fields` | Puka's flat headers, and its tables |
//! | `arguments` | strings and flags as Puka took them |

mod arguments;
pub mod calls;
mod client;
mod fields;
mod frames;
mod promises;
mod signals;
mod wait;
