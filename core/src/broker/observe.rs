//! What a test can watch the broker do.

/// Something that happened to one copy of a message. Copies are numbered over the life of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Observed<'a> {
    /// A copy entered a queue.
    Enqueued {
        /// The queue's name.
        queue: &'a str,
        /// The message's `message_id`; empty if it has none.
        message_id: &'a str,
        /// The number of the copy.
        copy: u64,
    },
    /// A copy was sent to a consumer.
    Delivered {
        /// The number of the copy.
        copy: u64,
        /// The flag it was sent with.
        redelivered: bool,
        /// Whether it counts as acked by being sent (`no_ack`).
        no_ack: bool,
    },
    /// An ack for a copy was processed.
    Acked {
        /// The number of the copy.
        copy: u64,
    },
    /// A copy came back to its queue.
    Requeued {
        /// The number of the copy.
        copy: u64,
    },
}

/// Called under the broker's lock: it must not call the broker.
pub(super) type Observer = Box<dyn FnMut(Observed<'_>) + Send>;
