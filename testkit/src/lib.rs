//! Private `RabbitMQ` nodes, certificates and a TCP proxy for the tests, benchmarks and the demo.
//!
//! | module | what it is |
//! |---|---|
//! | [`node`] | one private broker: start, stop, kill, freeze, `rabbitmqctl` |
//! | [`cluster`] | several nodes joined |
//! | [`certs`] | certificates made on the spot |
//! | [`proxy`] | a TCP proxy that cuts, stalls and throttles |
//! | [`wait`] | waiting for conditions, free ports, unique names |

// What fails in here fails the test that called it: a panic is the way to say so.
#![allow(clippy::missing_panics_doc)]

pub mod certs;
pub mod cluster;
pub mod node;
pub mod proxy;
pub mod wait;

pub use certs::Certs;
pub use cluster::Cluster;
pub use node::{Node, NodeBuilder, shared_node};
pub use proxy::{Direction, Proxy};
pub use wait::{eventually, free_port, unique, within};
