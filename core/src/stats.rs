//! Counters of a client.

use std::sync::atomic::AtomicU64;

/// What a client did since it was made. All of it counts over reconnects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Publishes that were taken into the window.
    pub published: u64,
    /// Publishes that the broker confirmed.
    pub confirmed: u64,
    /// Mandatory messages that came back.
    pub returned: u64,
    /// Publishes that the broker refused with `basic.nack`.
    pub nacked: u64,
    /// Publishes that were sent again after a lost connection or channel.
    pub republished: u64,
    /// Publishes in the window now.
    pub in_flight: u64,
    /// Their body bytes.
    pub in_flight_bytes: u64,
    /// Body bytes published.
    pub bytes_published: u64,
    /// Deliveries received.
    pub delivered: u64,
    /// Body bytes received.
    pub bytes_delivered: u64,
    /// Deliveries that were acked, nacked or rejected.
    pub acked: u64,
    /// Memory in bytes that messages take which were received and not handed out yet.
    pub undelivered_bytes: u64,
    /// Connections that were lost and made again, both roles together.
    pub reconnects: u64,
    /// Queues, exchanges and bindings on record for recovery.
    pub recorded: u64,
    /// Whether the main connection is open now.
    pub main_connected: bool,
    /// Whether the publishing connection is open now; `None` before the first publish, and where one connection serves for all.
    pub publish_connected: Option<bool>,
}

/// The counters that the engines of a client share.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub delivered: AtomicU64,
    pub bytes_delivered: AtomicU64,
    pub reconnects: AtomicU64,
    pub recorded: AtomicU64,
}
