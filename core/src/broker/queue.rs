//! A queue: its ready messages in order, its consumers, and when something is due.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use amq_protocol::types::FieldTable;
use tokio::time::Instant;

use super::{
    SessionId,
    arguments::{Overflow, Settings},
    message::Stored,
};

/// A consumer, as its queue knows it.
#[derive(Clone, Debug)]
pub(super) struct Consumer {
    pub session: SessionId,
    pub channel: u16,
    pub tag: Arc<str>,
    pub no_ack: bool,
    pub exclusive: bool,
    pub priority: i64,
    /// 0 is without a limit.
    pub prefetch: u16,
    pub unacked: u32,
}

impl Consumer {
    pub fn is(&self, session: SessionId, channel: u16, tag: &str) -> bool {
        self.session == session && self.channel == channel && *self.tag == *tag
    }

    pub fn has_credit(&self) -> bool {
        self.no_ack || self.prefetch == 0 || self.unacked < u32::from(self.prefetch)
    }
}

/// What a queue was declared with.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    pub vhost: Arc<str>,
    pub name: Arc<str>,
    pub durable: bool,
    pub auto_delete: bool,
    /// The connection it is exclusive to.
    pub owner: Option<SessionId>,
    pub arguments: FieldTable,
    pub settings: Settings,
}

#[derive(Debug)]
pub(super) struct Queue {
    pub declared: Declared,
    /// By priority, then by age: requeued messages find their old place.
    ready: BTreeMap<(Reverse<u8>, u64), Stored>,
    ready_bytes: u64,
    /// Highest priority first; among equals the next in turn first.
    pub consumers: Vec<Consumer>,
    pub had_consumer: bool,
    /// When it was last used, for `x-expires`.
    pub unused_since: Instant,
    /// Where it stands in the broker's list of what is due.
    pub scheduled: Option<Instant>,
}

impl Queue {
    pub fn new(declared: Declared, now: Instant) -> Self {
        Self {
            declared,
            ready: BTreeMap::new(),
            ready_bytes: 0,
            consumers: Vec::new(),
            had_consumer: false,
            unused_since: now,
            scheduled: None,
        }
    }

    /// How the broker's texts name it.
    pub fn what(&self) -> String {
        format!("queue '{}' in vhost '{}'", self.declared.name, self.declared.vhost)
    }

    pub fn settings(&self) -> &Settings {
        &self.declared.settings
    }

    pub fn len(&self) -> usize {
        self.ready.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    pub fn insert(&mut self, stored: Stored) {
        let priority = stored.message.priority.min(self.settings().max_priority);
        self.ready_bytes += stored.message.body.len() as u64;
        self.ready.insert((Reverse(priority), stored.number), stored);
    }

    pub fn pop(&mut self) -> Option<Stored> {
        let (_, stored) = self.ready.pop_first()?;
        self.ready_bytes -= stored.message.body.len() as u64;
        Some(stored)
    }

    /// Takes the next message if its time is over. Only the head is looked at, as RabbitMQ does.
    pub fn pop_expired(&mut self, now: Instant) -> Option<Stored> {
        let (_, head) = self.ready.first_key_value()?;
        if head.expires_at.is_some_and(|at| at <= now) { self.pop() } else { None }
    }

    /// Whether one message more of `bytes` would pass a limit.
    pub fn is_full_for(&self, bytes: u64) -> bool {
        let settings = self.settings();
        settings.max_length.is_some_and(|max| self.ready.len() as u64 >= max)
            || settings.max_length_bytes.is_some_and(|max| self.ready_bytes + bytes > max)
    }

    pub fn is_over_limit(&self) -> bool {
        let settings = self.settings();
        settings.max_length.is_some_and(|max| self.ready.len() as u64 > max)
            || settings.max_length_bytes.is_some_and(|max| self.ready_bytes > max)
    }

    pub fn rejects_when_full(&self) -> bool {
        self.settings().overflow != Overflow::DropHead
    }

    /// Drops every ready message; returns how many there were.
    pub fn purge(&mut self) -> usize {
        self.ready_bytes = 0;
        std::mem::take(&mut self.ready).len()
    }

    /// Keeps what a restart leaves: persistent messages of a durable queue.
    pub fn restart(&mut self) {
        let quorum = self.settings().quorum;
        self.ready.retain(|_, stored| quorum || stored.message.persistent);
        self.ready_bytes = self.ready.values().map(|stored| stored.message.body.len() as u64).sum();
    }

    /// Adds a consumer behind those of its priority.
    pub fn add_consumer(&mut self, consumer: Consumer) {
        let place = self.consumers.partition_point(|other| other.priority >= consumer.priority);
        // With a single active consumer it is age that counts, whatever the priority (RabbitMQ 3.10).
        let place = if self.settings().single_active_consumer { self.consumers.len() } else { place };
        self.consumers.insert(place, consumer);
        self.had_consumer = true;
    }

    /// Removes the consumers that `gone` picks; returns whether there were any.
    pub fn remove_consumers(&mut self, gone: impl Fn(&Consumer) -> bool, now: Instant) -> bool {
        let before = self.consumers.len();
        self.consumers.retain(|consumer| !gone(consumer));
        let removed = self.consumers.len() < before;
        if removed && self.consumers.is_empty() {
            self.unused_since = now;
        }
        removed
    }

    pub fn consumer(&mut self, session: SessionId, channel: u16, tag: &str) -> Option<&mut Consumer> {
        self.consumers.iter_mut().find(|consumer| consumer.is(session, channel, tag))
    }

    /// The consumers that may get the next message: one, if only one is active.
    pub fn active(&self) -> usize {
        if self.settings().single_active_consumer {
            self.consumers.len().min(1)
        } else {
            self.consumers.len()
        }
    }

    /// Moves the consumer at `place` behind its equals: it has had its turn.
    pub fn rotate(&mut self, place: usize) {
        let priority = self.consumers[place].priority;
        let end = self.consumers.partition_point(|other| other.priority >= priority);
        if !self.settings().single_active_consumer {
            self.consumers[place..end].rotate_left(1);
        }
    }

    /// When the broker must look at it next.
    pub fn due(&self) -> Option<Instant> {
        let unused = self.consumers.is_empty().then_some(self.settings().expires).flatten();
        let head = self.ready.first_key_value().and_then(|(_, stored)| stored.expires_at);
        [unused.map(|expires| self.unused_since + expires), head].into_iter().flatten().min()
    }

    /// Whether it has been unused for as long as `x-expires` says.
    pub fn has_expired(&self, now: Instant) -> bool {
        self.consumers.is_empty()
            && self.settings().expires.is_some_and(|expires| self.unused_since + expires <= now)
    }
}
