//! A connection, as the broker knows it, and what the broker tells its client.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use amq_protocol::{
    protocol::{
        AMQPClass, basic,
        connection::{AMQPMethod, Blocked},
    },
    types::ShortString,
};
use tokio::sync::Notify;

use super::{QueueId, channel::Channel, frames::IntoClass};
use crate::wire::encode;

/// The maximum number of bytes that wait for a connection before its consumers get no more.
pub(super) const OUT_HIGH_WATER: usize = 1024 * 1024;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Open,
    /// `connection.close` was sent; only its answer counts.
    Closing,
    /// Nothing more will come from it; it ends when its last bytes are written.
    Closed,
    /// To be ended without a word.
    Dropped,
}

/// A connection, as the broker knows it.
#[derive(Debug)]
pub(super) struct Session {
    pub vhost: Arc<str>,
    pub user: Arc<str>,
    pub frame_max: u32,
    pub channel_max: u16,
    pub notify_cancel: bool,
    pub notify_blocked: bool,
    pub stage: Stage,
    /// Bytes on their way to the client.
    pub out: Vec<u8>,
    /// Bytes that its task has taken and not written yet.
    pub writing: usize,
    /// Wakes the task of the connection.
    pub wake: Arc<Notify>,
    pub channels: BTreeMap<u16, Channel>,
    /// Whether it has published: only then does an alarm concern it.
    pub publishes: bool,
    pub told_blocked: bool,
    /// Publishes are not confirmed for now.
    pub holds_confirms: bool,
    /// Queues that had something for it when too much was waiting already.
    pub starved: BTreeSet<QueueId>,
}

impl Session {
    pub fn has_room(&self) -> bool {
        self.stage == Stage::Open && self.out.len() + self.writing < OUT_HIGH_WATER
    }

    /// Tells the client that its consumer is gone (RabbitMQ, consumer cancel notification).
    pub fn consumer_cancelled(&mut self, number: u16, tag: &Arc<str>) {
        if let Some(channel) = self.channels.get_mut(&number) {
            channel.consumers.remove(tag);
        }
        if self.notify_cancel {
            let cancel = basic::Cancel {
                consumer_tag: ShortString::try_new(&**tag).unwrap_or_default(),
                nowait: true,
            };
            self.send(number, &AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)));
        }
    }

    pub fn send(&mut self, number: u16, method: &AMQPClass) {
        encode::method(&mut self.out, number, method);
        self.wake.notify_one();
    }

    pub fn flush_confirms(&mut self) {
        if self.holds_confirms || self.stage != Stage::Open {
            return;
        }
        for (number, channel) in &mut self.channels {
            channel.flush_confirms(&mut self.out, *number);
        }
    }

    /// Tells the client of an alarm, once, if it wants to know (RabbitMQ, connection.blocked).
    pub fn tell_blocked(&mut self, reason: &str) {
        if self.notify_blocked
            && self.stage == Stage::Open
            && !std::mem::replace(&mut self.told_blocked, true)
        {
            let reason = ShortString::try_new(reason).unwrap_or_default();
            self.send(0, &AMQPMethod::Blocked(Blocked { reason }).into_class());
        }
    }
}
