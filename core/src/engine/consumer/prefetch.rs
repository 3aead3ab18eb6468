//! How the prefetch of a running consumer is changed.
//!
//! A consumer starts with a limit of its own (`basic.qos` without `global`), which the broker keeps for as long as the
//! consumer lives; another limit takes another consumer. The channel's limit (`global`) is no way out: quorum queues and
//! streams end the connection over it (540), and RabbitMQ 4.3 answers it with `basic.qos-ok` and does nothing.

use super::machine::Terms;
use crate::{
    Error,
    engine::{delivery_queue::ConsumerRequest, record::RecordedQueue},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The new consumer starts before the old one is cancelled.
    Overlap,
    /// The old consumer is cancelled first, because the broker refuses a second one.
    Gap,
    /// The old consumer of a stream is cancelled first, and the new one starts at the next offset.
    FromOffset,
    /// No way leaves queue and consumer as they are, for this reason.
    Never(&'static str),
}

impl Change {
    pub fn of(request: &ConsumerRequest, stream: bool, recorded: Option<&RecordedQueue>) -> Self {
        let queue = recorded.map(|recorded| &recorded.queue);
        if stream {
            return Change::FromOffset;
        }
        if request.exclusive {
            return match queue {
                None => Change::Never(
                    "an exclusive consumer is cancelled before it starts again, which would delete an auto-delete queue; \
                     declare the queue through this client, so that it is known not to be one",
                ),
                Some(queue) if queue.is_auto_delete() => Change::Never(
                    "an exclusive consumer is cancelled before it starts again, which would delete its auto-delete queue",
                ),
                Some(_) => Change::Gap,
            };
        }
        if queue.is_some_and(crate::Queue::is_single_active_consumer) {
            return Change::Never(
                "the single active consumer of a queue would lose its place to the next in line; cancel it and consume \
                 again if that may be",
            );
        }
        Change::Overlap
    }
}

/// Why a limit cannot be had.
pub(super) fn refusal(terms: &Terms, prefetch: u16, not_running: bool) -> Option<Error> {
    if terms.stream && prefetch == 0 {
        return Some(no_stream_prefetch());
    }
    match terms.change {
        Change::Never(reason) if !not_running => {
            Some(Error::invalid(format!("the prefetch stays as it is: {reason}")))
        }
        _ => None,
    }
}

pub(super) fn no_stream_prefetch() -> Error {
    Error::invalid("a stream is consumed with a prefetch limit: give one above 0 (RabbitMQ, streams)")
}
