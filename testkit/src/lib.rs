//! Private `RabbitMQ` nodes, certificates and a TCP proxy for the tests, benchmarks and the demo.
//!
//! | module | what it is |
//! |---|---|
//! | [`node`] | one private broker: start, stop, kill, freeze, `rabbitmqctl` |
//! | [`cluster`] | several nodes joined |
//! | `installed` | where the programs of `RabbitMQ` are |
//! | [`certs`] | certificates made on the spot |
//! | [`proxy`] | a TCP proxy that cuts, stalls and throttles |
//! | [`version`] | the version of a broker |
//! | [`wait`] | waiting for conditions, free ports, unique names |

// What fails in here fails the test that called it: a panic is the way to say so.
#![allow(clippy::missing_panics_doc)]

pub mod certs;
pub mod cluster;
mod installed;
pub mod node;
pub mod proxy;
pub mod version;
pub mod wait;

pub use certs::Certs;
pub use cluster::Cluster;
pub use node::{Node, NodeBuilder, shared_node};
pub use proxy::{Direction, Proxy};
pub use version::broker_version;
pub use wait::{eventually, free_port, unique, within};
