//! A `RabbitMQ` client whose engine owns confirms, acks and recovery.
//!
//! ```no_run
//! use murano_messaging::{Client, Message, Queue, Result};
//!
//! #[tokio::main]
//! async fn main() -> Result<()> {
//!     let client = Client::connect("amqp://guest:guest@localhost").await?;
//!     client.declare_queue(&Queue::new("tasks")).await?;
//!
//!     // Returns when the broker has taken responsibility for the message.
//!     client.publish("", "tasks", Message::text("hello")).await?;
//!
//!     let deliveries = client.consume("tasks").prefetch(50).start().await?;
//!     if let Some(delivery) = deliveries.next().await {
//!         let delivery = delivery?;
//!         println!("{}", String::from_utf8_lossy(delivery.body()));
//!         delivery.ack()?;
//!     }
//!     client.close().await
//! }
//! ```
//!
//! `examples/service.rs` is a whole service: it handles requests at the same time, answers them, and drains at SIGTERM.
//!
//! | module | what it is |
//! |---|---|
//! | [`client`] | [`Client`]: topology, publishing, getting, closing |
//! | [`options`], [`tls`], [`credentials`] | how to connect |
//! | [`message`], [`publisher`] | messages and the way out |
//! | `request`, [`retry`] | [`Client::request`]: request and reply; [`Client::retry`]: delayed redelivery |
//! | [`consumer`], [`delivery`] | the way in |
//! | [`topology`] | queues, exchanges, bindings |
//! | [`events`], [`stats`] | what happened |
//! | [`error`] | what can go wrong |
//! | `doctor` | every step between a program and its broker, checked by itself (feature `doctor`) |
//! | `lapin` | conversions between lapin's values and ours (feature `lapin`) |
//! | `murano` | Murano's execution plans, their results and signatures (feature `murano`) |
//! | `oslo` | RPC and notifications in the wire format of oslo.messaging (feature `oslo`) |
//! | `broker` | an embedded broker for tests, demos and development (feature `broker`) |
//!
//! Below these handles, `engine` is the task that owns a connection, and `wire` turns bytes to frames and back.

#[cfg(feature = "broker")]
pub mod broker;
mod callback;
pub mod client;
pub mod consumer;
pub mod credentials;
pub mod delivery;
#[cfg(feature = "doctor")]
pub mod doctor;
mod engine;
pub mod error;
pub mod events;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod ids;
#[cfg(feature = "lapin")]
pub mod lapin;
pub mod message;
#[cfg(feature = "murano")]
pub mod murano;
pub mod options;
#[cfg(feature = "oslo")]
pub mod oslo;
pub mod publisher;
mod request;
pub mod retry;
pub mod stats;
pub mod tls;
pub mod topology;
mod uri;
#[cfg(any(feature = "murano", feature = "oslo"))]
mod utc;
mod wire;

#[cfg(feature = "broker")]
pub use broker::Broker;
pub use client::Client;
pub use consumer::{ConsumeBuilder, Consumer};
pub use credentials::{Credentials, Mechanism};
pub use delivery::Delivery;
pub use engine::acks::OnDrop;
pub use engine::publish::Confirmation;
pub use error::{Error, ErrorKind, Reply, Result, TlsFailure};
pub use events::{Event, Events};
pub use message::{FieldTable, IntoValue, Message, Properties, Returned, Value};
pub use options::{Host, Options, Recovery};
pub use publisher::Publisher;
pub use retry::Retry;
pub use stats::Stats;
#[cfg(feature = "broker")]
pub use tls::ServerTls;
pub use tls::TlsOptions;
pub use topology::{Binding, Exchange, Overflow, Queue, QueueInfo, QueueType};
pub use wire::{
    handshake::ServerInfo,
    properties::HeadersDefect,
    stream::{Connecting, Connector, Routes, Routing, Stream, TcpConnector},
};

#[cfg(doctest)]
mod guides;
