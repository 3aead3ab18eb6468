//! What is tried again on the same connection: consumers that were refused, queues that could not be declared yet, and
//! bindings whose exchange went meanwhile.

use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, exchange, queue};
use tokio::time::Instant;

use crate::{
    Error, ErrorKind, Result,
    engine::{Engine, record::Item, rpc::ExpectedReply},
    events::{Event, NotRestored, Restored},
    topology::Binding,
};

/// Something to try again.
pub(crate) struct Retry {
    pub at: Instant,
    pub what: RetryWhat,
}

pub(crate) enum RetryWhat {
    Consumer(u64),
    /// A queue that was exclusive to the dead connection: declared, bound and consumed once the broker lets go of it.
    Queue {
        name: String,
        since: Instant,
    },
}

/// How often a queue that is locked is tried.
const LOCKED_RETRY: Duration = Duration::from_millis(250);

impl Engine {
    pub(in crate::engine) fn run_retries(&mut self, now: Instant) {
        let (due, later) = std::mem::take(&mut self.retries).into_iter().partition(|retry| retry.at <= now);
        self.retries = later;
        let due: Vec<Retry> = due;
        for retry in due {
            match retry.what {
                RetryWhat::Consumer(id) => self.start_consumer(id),
                RetryWhat::Queue { name, since } => self.retry_queue(name, since),
            }
        }
    }

    pub(super) fn retry_queue_later(&mut self, name: String, since: Instant) {
        let at = Instant::now() + LOCKED_RETRY;
        self.retries.push(Retry { at, what: RetryWhat::Queue { name, since } });
    }

    fn retry_queue(&mut self, name: String, since: Instant) {
        let Some(recorded) = self.record.queue(&name) else {
            // It was forgotten meanwhile, but not by its consumers.
            self.start_consumers_of(&name);
            return;
        };
        let method = AMQPClass::Queue(queue::AMQPMethod::Declare(recorded.queue.declare()));
        self.request_on_control(method, ExpectedReply::Locked { name, since });
    }

    /// The answer to another attempt at a queue that was locked.
    pub(in crate::engine) fn locked_answered(
        &mut self,
        name: String,
        since: Instant,
        result: Result<AMQPClass>,
    ) {
        let patience = self.options.heartbeat.max(Duration::from_secs(1)) * 3;
        match result {
            Ok(_) => {
                let bindings =
                    self.record.queue(&name).map(|recorded| recorded.bindings.clone()).unwrap_or_default();
                for binding in bindings {
                    let method = binding.bind_method();
                    self.request_on_control(method, ExpectedReply::Bind(binding));
                }
                self.start_consumers_of(&name);
                let restored = Restored { queues: 1, ..Restored::default() };
                self.events.send(Event::Recovered { role: self.role, restored });
            }
            Err(error) if is_passing(&error) && since.elapsed() < patience => {
                self.retry_queue_later(name, since);
            }
            Err(error) => {
                self.not_restored(NotRestored { what: Item::Queue(name.clone()).to_string(), error });
                self.start_consumers_of(&name);
            }
        }
    }

    /// What to send for a binding that was refused, if another attempt may do better.
    ///
    /// RabbitMQ may notice the end of the lost connection only after this one has declared everything. It then removes
    /// the exclusive queues of the lost connection, and with their last binding an auto-delete exchange. It does so
    /// once, so the exchange is declared again before the binding is tried again, once for each binding.
    pub(super) fn bind_again(&mut self, binding: &Binding, error: &Error) -> Option<[(Item, AMQPClass); 2]> {
        let exchange = self.record.exchange(binding.source()).filter(|exchange| exchange.is_auto_delete())?;
        if error.kind() != ErrorKind::NotFound || self.live.bound_again.contains(binding) {
            return None;
        }
        let declare = AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange.declare()));
        self.live.bound_again.push(binding.clone());
        Some([
            (Item::Exchange(binding.source().to_owned()), declare),
            (Item::Binding(binding.clone()), binding.bind_method()),
        ])
    }

    /// The broker has refused a binding of a queue that was locked.
    pub(in crate::engine) fn late_binding_refused(&mut self, binding: Binding, error: Error) {
        if let Some([(_, declare), (_, bind)]) = self.bind_again(&binding, &error) {
            // An exchange that is refused is told of by its binding.
            let item = Item::Exchange(binding.source().to_owned());
            self.request_on_control(declare, ExpectedReply::Replay(item));
            self.request_on_control(bind, ExpectedReply::Bind(binding));
        } else {
            self.not_restored(NotRestored { what: Item::Binding(binding).to_string(), error });
        }
    }

    fn start_consumers_of(&mut self, name: &str) {
        let ids: Vec<u64> = self
            .consumers
            .iter()
            .filter(|(_, consumer)| consumer.incoming.is_of(name))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.start_consumer(id);
        }
    }
}

/// Whether another attempt may do better: the broker may not have noticed the end of the lost connection, and channels
/// become free.
pub(super) fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ResourceLocked | ErrorKind::LimitReached)
}
