//! Everything the broker knows, behind one lock: virtual hosts, queues, connections, and what is due when.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use amq_protocol::types::FieldTable;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    QueueId, SessionId,
    exchange::{Destination, Exchange, Kind},
    message::{Message, Stored},
    observe::{Observed, Observer},
    queue::{Declared, Queue},
    refusal::Refusal,
    session::Session,
};

/// Why a message leaves its queue unconsumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Rejected,
    Expired,
    MaxLength,
    DeliveryLimit,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLength => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

#[derive(Debug)]
pub(super) struct Vhost {
    pub exchanges: BTreeMap<String, Exchange>,
    pub queues: BTreeMap<Arc<str>, QueueId>,
}

impl Vhost {
    fn new() -> Self {
        let mut vhost = Self { exchanges: BTreeMap::new(), queues: BTreeMap::new() };
        for (name, kind) in [
            ("", Kind::Direct),
            ("amq.direct", Kind::Direct),
            ("amq.topic", Kind::Topic),
            ("amq.fanout", Kind::Fanout),
            ("amq.headers", Kind::Headers),
            ("amq.match", Kind::Headers),
        ] {
            vhost.exchanges.insert(name.into(), Exchange::new(kind));
        }
        let mut trace = Exchange::new(Kind::Topic);
        trace.internal = true;
        vhost.exchanges.insert("amq.rabbitmq.trace".into(), trace);
        vhost
    }
}

pub(super) struct State {
    pub vhosts: BTreeMap<Arc<str>, Vhost>,
    pub queues: BTreeMap<QueueId, Queue>,
    pub sessions: BTreeMap<SessionId, Session>,
    pub users: BTreeMap<String, Zeroizing<String>>,
    /// Whom SASL EXTERNAL logs in as.
    pub external_user: Option<String>,
    pub refuse_logins: bool,
    pub refuse_connections: bool,
    /// Queues whose declaration ends the connection.
    pub breaks_at: BTreeSet<String>,
    /// The reason of the alarm, while there is one.
    pub blocked: Option<String>,
    pub stalled: bool,
    /// Publishes are not confirmed for now.
    pub holds_confirms: bool,
    /// Whether the features are denied that RabbitMQ 4 deprecates.
    pub deny_deprecated: bool,
    pub observer: Option<Observer>,
    /// When which queue must be looked at.
    due: BTreeSet<(Instant, QueueId)>,
    /// Queues that may have something to deliver.
    pub dirty: BTreeSet<QueueId>,
    pub dead: VecDeque<(Declared, Stored, Reason)>,
    next_id: u64,
    pub rng: fastrand::Rng,
    /// The largest body that is taken, in bytes.
    pub max_message: u64,
}

impl State {
    pub fn new(seed: Option<u64>) -> Self {
        let mut state = Self {
            vhosts: BTreeMap::new(),
            queues: BTreeMap::new(),
            sessions: BTreeMap::new(),
            users: BTreeMap::new(),
            external_user: None,
            refuse_logins: false,
            refuse_connections: false,
            breaks_at: BTreeSet::new(),
            blocked: None,
            stalled: false,
            holds_confirms: false,
            deny_deprecated: false,
            observer: None,
            due: BTreeSet::new(),
            dirty: BTreeSet::new(),
            dead: VecDeque::new(),
            next_id: 1,
            rng: seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
            max_message: 128 * 1024 * 1024,
        };
        state.add_vhost("/");
        state.users.insert("guest".into(), Zeroizing::new("guest".into()));
        state
    }

    pub fn add_vhost(&mut self, name: &str) {
        self.vhosts.entry(name.into()).or_insert_with(Vhost::new);
    }

    pub fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// A name such as RabbitMQ makes: `amq.gen-` and 22 characters.
    pub fn generated_name(&mut self, prefix: &str) -> String {
        let random: String = (0..22).map(|_| self.rng.alphanumeric()).collect();
        format!("{prefix}{random}")
    }

    pub fn observe(&mut self, observed: Observed<'_>) {
        if let Some(observer) = &mut self.observer {
            observer(observed);
        }
    }

    pub fn wake_all(&self) {
        for session in self.sessions.values() {
            session.wake.notify_one();
        }
    }

    // ---- time ------------------------------------------------------------------------------------------------

    /// When something is due next. Each connection waits for it: there is no task besides theirs.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        while let Some((at, id)) = self.due.first().copied() {
            if at > now {
                break;
            }
            self.due.pop_first();
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            queue.scheduled = None;
            if queue.has_expired(now) {
                self.delete_queue(id);
                continue;
            }
            self.expire_head(id, now);
            self.reschedule(id);
        }
        self.settle(now);
    }

    /// Notes when `id` must be looked at next.
    pub fn reschedule(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let due = queue.due();
        if due == queue.scheduled {
            return;
        }
        if let Some(before) = queue.scheduled {
            self.due.remove(&(before, id));
        }
        queue.scheduled = due;
        if let Some(at) = due {
            self.due.insert((at, id));
        }
    }

    pub fn expire_head(&mut self, id: QueueId, now: Instant) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        while let Some(stored) = queue.pop_expired(now) {
            self.dead.push_back((queue.declared.clone(), stored, Reason::Expired));
        }
    }

    /// Brings the queues to rest: what can be delivered is, what is dead is routed on.
    pub fn settle(&mut self, now: Instant) {
        loop {
            if let Some(id) = self.dirty.pop_first() {
                self.pump(id, now);
            } else if let Some((queue, stored, reason)) = self.dead.pop_front() {
                self.dead_letter(&queue, &stored, reason, now);
            } else {
                break;
            }
        }
    }

    // ---- queues ----------------------------------------------------------------------------------------------

    /// Deletes a queue, its bindings, and tells its consumers.
    pub fn delete_queue(&mut self, id: QueueId) {
        let Some(queue) = self.queues.remove(&id) else { return };
        if let Some(at) = queue.scheduled {
            self.due.remove(&(at, id));
        }
        if let Some(vhost) = self.vhosts.get_mut(&queue.declared.vhost) {
            vhost.queues.remove(&queue.declared.name);
        }
        self.unbind_destination(&queue.declared.vhost, &Destination::Queue(id));
        for consumer in &queue.consumers {
            if let Some(session) = self.sessions.get_mut(&consumer.session) {
                session.consumer_cancelled(consumer.channel, &consumer.tag);
            }
        }
    }

    /// Removes every binding to `destination`, and the auto-delete exchanges that lose their last one.
    pub fn unbind_destination(&mut self, vhost: &str, destination: &Destination) {
        let Some(host) = self.vhosts.get_mut(vhost) else { return };
        let mut emptied = Vec::new();
        for (name, exchange) in &mut host.exchanges {
            let before = exchange.bindings.len();
            exchange.bindings.retain(|binding, _| binding.destination != *destination);
            if exchange.bindings.len() < before && exchange.bindings.is_empty() && exchange.auto_delete {
                emptied.push(name.clone());
            }
        }
        for name in emptied {
            self.delete_exchange(vhost, &name);
        }
    }

    pub fn delete_exchange(&mut self, vhost: &str, name: &str) {
        if let Some(host) = self.vhosts.get_mut(vhost) {
            host.exchanges.remove(name);
        }
        self.unbind_destination(vhost, &Destination::Exchange(name.to_owned()));
    }

    // ---- routing ---------------------------------------------------------------------------------------------

    /// The queues a message reaches, each once, in the order of their making. 404 if the exchange does not exist.
    pub fn route(
        &self,
        vhost: &str,
        exchange: &str,
        keys: &[&str],
        headers: Option<&FieldTable>,
    ) -> Result<Vec<QueueId>, Refusal> {
        let missing = || Refusal::no_exchange(exchange, vhost);
        let host = self.vhosts.get(vhost).ok_or_else(missing)?;
        if !host.exchanges.contains_key(exchange) {
            return Err(missing());
        }
        if exchange.is_empty() && keys.len() == 1 {
            // By far the most frequent case, without the sets of the general one.
            return Ok(host.queues.get(keys[0]).copied().into_iter().collect());
        }
        let mut queues = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut waiting = vec![exchange.to_owned()];
        while let Some(name) = waiting.pop() {
            let Some(exchange) = host.exchanges.get(&name) else { continue };
            if !seen.insert(name.clone()) {
                continue;
            }
            let mut matched = false;
            if name.is_empty() {
                for id in keys.iter().filter_map(|key| host.queues.get(*key)) {
                    queues.insert(*id);
                    matched = true;
                }
            }
            exchange.matching(keys, headers, |destination| {
                matched = true;
                match destination {
                    Destination::Queue(id) => {
                        queues.insert(*id);
                    }
                    Destination::Exchange(name) => waiting.push(name.clone()),
                }
            });
            if !matched {
                waiting.extend(exchange.alternate());
            }
        }
        Ok(queues.into_iter().collect())
    }

    /// Puts a copy into a queue. `false` when the queue is full and refuses it.
    pub fn enqueue(&mut self, id: QueueId, message: &Arc<Message>, now: Instant) -> bool {
        let number = self.next_id();
        let Some(queue) = self.queues.get_mut(&id) else { return true };
        let ttl = match (queue.settings().message_ttl, message.expiration) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let stored = Stored {
            number,
            message: message.clone(),
            expires_at: ttl.map(|ttl| now + ttl),
            redelivered: false,
            returns: 0,
            counts_returns: queue.settings().quorum,
        };
        if queue.rejects_when_full() && queue.is_full_for(message.body.len() as u64) {
            if queue.settings().overflow == super::arguments::Overflow::RejectPublishDlx {
                self.dead.push_back((queue.declared.clone(), stored, Reason::MaxLength));
            }
            return false;
        }
        if self.observer.is_some() {
            let name = queue.declared.name.clone();
            let id = message.message_id.as_ref().map_or("", |id| id.as_str());
            self.observe(Observed::Enqueued { queue: &name, message_id: id, copy: number });
        }
        let Some(queue) = self.queues.get_mut(&id) else { return true };
        queue.insert(stored);
        if !queue.consumers.is_empty() {
            self.hand_out(id, now);
        }
        self.expire_head(id, now);
        let Some(queue) = self.queues.get_mut(&id) else { return true };
        if queue.settings().limits_length() && !queue.rejects_when_full() {
            while queue.is_over_limit() {
                let Some(stored) = queue.pop() else { break };
                self.dead.push_back((queue.declared.clone(), stored, Reason::MaxLength));
            }
        }
        self.reschedule(id);
        true
    }

    /// Puts a message back that was out and not settled.
    pub fn requeue(&mut self, id: QueueId, mut stored: Stored) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        stored.redelivered = true;
        stored.returns += 1;
        let over = queue.settings().quorum
            && queue.settings().delivery_limit.is_some_and(|limit| stored.returns > limit);
        if over {
            self.dead.push_back((queue.declared.clone(), stored, Reason::DeliveryLimit));
        } else {
            queue.insert(stored);
            self.dirty.insert(id);
            self.reschedule(id);
        }
    }

    /// A message was out and is not wanted.
    pub fn reject(&mut self, id: QueueId, stored: Stored) {
        if let Some(queue) = self.queues.get(&id) {
            self.dead.push_back((queue.declared.clone(), stored, Reason::Rejected));
        }
    }
}
