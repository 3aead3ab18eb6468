//! The exchanges and queues that stock peers declare, and therefore expect: a declaration that differs in one property is
//! refused by the broker (406).

use std::time::Duration;

use super::{Config, Target};
use crate::{Exchange, Queue, QueueType};

impl Config {
    /// The exchange of a target's topics.
    pub(super) fn exchange_name<'a>(&'a self, target: &'a Target) -> &'a str {
        target.exchange.as_deref().unwrap_or(&self.control_exchange)
    }

    /// The exchange that topic queues are bound to.
    pub(super) fn topic_exchange(&self, name: &str) -> Exchange {
        Exchange::topic(name).durable(self.durable()).auto_delete(self.auto_delete)
    }

    /// The queue of a topic, of one of its servers, or of a priority's notifications.
    pub(super) fn topic_queue(&self, name: &str) -> Queue {
        let queue = Queue::new(name).durable(self.durable()).auto_delete(self.auto_delete);
        if self.quorum_queue { self.quorum(queue) } else { queue }
    }

    /// The exchange that copies a fanout cast to every server of a topic.
    pub(super) fn fanout_exchange(&self, topic: &str) -> Exchange {
        Exchange::fanout(format!("{topic}_fanout")).durable(self.transient_quorum_queue).auto_delete(true)
    }

    /// The queue of one server for fanout casts; a stream is shared by all servers of the topic.
    pub(super) fn fanout_queue(&self, topic: &str) -> Queue {
        if self.stream_fanout {
            let queue = Queue::new(format!("{topic}_fanout")).queue_type(QueueType::Stream);
            let age = self.transient_queues_ttl;
            return if age.is_zero() {
                queue
            } else {
                queue.argument("x-max-age", format!("{}s", age.as_secs()))
            };
        }
        self.transient(format!("{topic}_fanout_{}", super::unique_id()))
    }

    /// The queue of a transport's replies.
    pub(super) fn reply_queue(&self) -> Queue {
        self.transient(format!("reply_{}", super::unique_id()))
    }

    /// A queue that outlives its last use by a while only.
    fn transient(&self, name: String) -> Queue {
        let queue = Queue::new(name).durable(self.transient_quorum_queue);
        let queue = if self.transient_quorum_queue { self.quorum(queue) } else { queue };
        if self.transient_queues_ttl > Duration::ZERO {
            queue.expires(self.transient_queues_ttl)
        } else {
            queue
        }
    }

    fn quorum(&self, queue: Queue) -> Queue {
        let mut queue = queue.queue_type(QueueType::Quorum);
        if self.quorum_delivery_limit > 0 {
            queue = queue.delivery_limit(self.quorum_delivery_limit);
        }
        for (name, value) in [
            ("x-max-in-memory-length", self.quorum_max_memory_length),
            ("x-max-in-memory-bytes", self.quorum_max_memory_bytes),
        ] {
            if value > 0 {
                // RabbitMQ takes signed integers only.
                queue = queue.argument(name, i64::try_from(value).unwrap_or(i64::MAX));
            }
        }
        queue
    }
}

/// The routing key of a target, which is also the name of its queue.
pub(super) fn routing_key(target: &Target) -> String {
    match &target.server {
        Some(server) => format!("{}.{server}", target.topic),
        None => target.topic.clone(),
    }
}
