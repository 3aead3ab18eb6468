//! RPC and notifications in the wire format of oslo.messaging, for Rust services that join an `OpenStack` deployment
//! (feature `oslo`).
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use murano_messaging::oslo::{Context, Failure, Target, Transport, rpc};
//! use serde_json::json;
//!
//! let transport = Transport::connect("memory://oslo").await?;
//!
//! #[derive(serde::Deserialize)]
//! struct Add {
//!     a: i64,
//!     b: i64,
//! }
//! let endpoint = rpc::Endpoint::new().version("1.2").method("add", |_: Context, args: Add| async move {
//!     Ok::<_, Failure>(args.a + args.b)
//! });
//! let server = rpc::Server::new(&transport, Target::topic("sums").server("host-1")).endpoint(endpoint).start().await?;
//!
//! let client = rpc::Client::new(&transport, Target::topic("sums").version("1.1"));
//! let sum: i64 = client.call(&Context::new(), "add", json!({"a": 1, "b": 2})).await?;
//! assert_eq!(sum, 3);
//!
//! server.stop().await;
//! # Ok::<(), murano_messaging::oslo::Error>(()) }).unwrap();
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`rpc`] | calls, casts and fanout casts; servers with endpoints |
//! | [`notify`] | notifications: sending them, and listening to them |
//! | `transport` | [`Transport`]: the connections |
//! | `link` | what was declared through them, and publishing to what may not be there |
//! | `source` | a queue that is consumed, and made again when it goes away |
//! | `config` | [`Config`]: the transport URL and the options of `[oslo_messaging_rabbit]` |
//! | `topology` | the exchanges and queues that peers expect |
//! | `target`, `context`, `failure` | [`Target`], [`Context`], [`Failure`]: what a request carries |
//! | `body`, `message`, `lenient` | the envelope, the fields in it, and what is not quite JSON |

mod body;
mod config;
mod context;
mod duplicates;
mod error;
mod failure;
#[cfg(feature = "fuzzing")]
mod fuzzing;
mod lenient;
mod link;
mod message;
pub mod notify;
pub mod rpc;
mod source;
mod target;
mod topology;
mod transport;
mod version;

pub use body::Compression;
pub use config::Config;
pub use context::Context;
pub use error::{Error, Result};
pub use failure::Failure;
#[cfg(feature = "fuzzing")]
pub(crate) use fuzzing::read_and_write_again;
pub use target::Target;
pub use transport::Transport;

/// An id as peers make them: a UUID of version 4 in hex, without dashes.
fn unique_id() -> String {
    let random = fastrand::u128(..);
    let versioned = random & !(0xf << 76) | 0x4 << 76;
    format!("{:032x}", versioned & !(0x3 << 62) | 0x2 << 62)
}

/// Its example is compiled.
#[cfg(doctest)]
#[doc = include_str!("guide.md")]
struct Guide;
