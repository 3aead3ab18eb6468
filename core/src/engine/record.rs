//! What was declared, as plain values, so that recovery is a replay.
//!
//! A queue with `expires` or `auto_delete` is recorded only while this client consumes it: a program that declares one
//! such queue per peer, for years, must not grow, nor bring expired queues back. The latest of them are remembered in
//! a list of fixed length, so that one that is consumed right after its declaration is known.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};

use crate::topology::{Binding, Exchange, Queue};

const RECENT: usize = 256;

/// One thing that is being brought back.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Exchange(String),
    Queue(String),
    Binding(Binding),
    Consumer(u64),
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Exchange(name) => write!(f, "exchange '{name}'"),
            Item::Queue(name) => write!(f, "queue '{name}'"),
            Item::Binding(binding) => {
                write!(f, "binding of '{}' to '{}'", binding.destination(), binding.source())
            }
            Item::Consumer(id) => write!(f, "consumer {id}"),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct RecordedQueue {
    pub queue: Queue,
    pub bindings: Vec<Binding>,
}

#[derive(Default)]
pub(crate) struct RecordedTopology {
    exchanges: BTreeMap<String, Exchange>,
    exchange_bindings: Vec<Binding>,
    queues: BTreeMap<String, RecordedQueue>,
    /// Bindings of queues that others declared.
    foreign_bindings: Vec<Binding>,
    recent: VecDeque<(String, RecordedQueue)>,
    /// Consumers per queue.
    consumed: BTreeMap<String, usize>,
}

impl RecordedTopology {
    pub fn declare_exchange(&mut self, exchange: Exchange) {
        self.exchanges.insert(exchange.name().to_owned(), exchange);
    }

    pub fn delete_exchange(&mut self, name: &str) {
        self.exchanges.remove(name);
        self.exchange_bindings.retain(|binding| binding.source() != name && binding.destination() != name);
        self.foreign_bindings.retain(|binding| binding.source() != name);
        for recorded in self.queues.values_mut().chain(self.recent.iter_mut().map(|(_, recorded)| recorded)) {
            recorded.bindings.retain(|binding| binding.source() != name);
        }
    }

    /// `name` is the one the broker answered with.
    pub fn declare_queue(&mut self, name: &str, queue: Queue) {
        let consumed = self.consumed.contains_key(name);
        let bindings = self.known(name).map(|known| std::mem::take(&mut known.bindings)).unwrap_or_default();
        self.recent.retain(|(recent, _)| recent != name);
        let recorded = RecordedQueue { queue, bindings };
        if recorded.queue.is_transient_record() && !consumed {
            self.remember(name.to_owned(), recorded);
        } else {
            self.queues.insert(name.to_owned(), recorded);
        }
    }

    fn remember(&mut self, name: String, recorded: RecordedQueue) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((name, recorded));
    }

    fn known(&mut self, name: &str) -> Option<&mut RecordedQueue> {
        match self.queues.get_mut(name) {
            Some(recorded) => Some(recorded),
            None => self.recent.iter_mut().find(|(recent, _)| recent == name).map(|(_, recorded)| recorded),
        }
    }

    /// The declaration of a queue, if it was made through this client and is still remembered.
    pub fn queue(&self, name: &str) -> Option<&RecordedQueue> {
        self.queues
            .get(name)
            .or_else(|| self.recent.iter().find(|(recent, _)| recent == name).map(|(_, recorded)| recorded))
    }

    pub fn delete_queue(&mut self, name: &str) {
        self.queues.remove(name);
        self.recent.retain(|(recent, _)| recent != name);
        self.foreign_bindings
            .retain(|binding| !(binding.destination_is_queue() && binding.destination() == name));
    }

    pub fn bind(&mut self, binding: Binding) {
        let list = if !binding.destination_is_queue() {
            &mut self.exchange_bindings
        } else if self.known(binding.destination()).is_some() {
            let name = binding.destination().to_owned();
            match self.known(&name) {
                Some(recorded) => &mut recorded.bindings,
                None => return,
            }
        } else {
            &mut self.foreign_bindings
        };
        if !list.contains(&binding) {
            list.push(binding);
        }
    }

    pub fn unbind(&mut self, binding: &Binding) {
        self.exchange_bindings.retain(|recorded| recorded != binding);
        self.foreign_bindings.retain(|recorded| recorded != binding);
        if let Some(recorded) = self.known(binding.destination()) {
            recorded.bindings.retain(|recorded| recorded != binding);
        }
    }

    /// Drops whatever is recorded under `name`.
    pub fn forget(&mut self, name: &str) {
        self.delete_exchange(name);
        self.delete_queue(name);
    }

    pub fn consume(&mut self, name: &str) {
        *self.consumed.entry(name.to_owned()).or_default() += 1;
        if let Some(place) = self.recent.iter().position(|(recent, _)| recent == name)
            && let Some((name, recorded)) = self.recent.remove(place)
        {
            self.queues.insert(name, recorded);
        }
    }

    pub fn stop_consuming(&mut self, name: &str) {
        let Some(count) = self.consumed.get_mut(name) else {
            return;
        };
        *count -= 1;
        if *count > 0 {
            return;
        }
        self.consumed.remove(name);
        if self.queues.get(name).is_some_and(|recorded| recorded.queue.is_transient_record())
            && let Some(recorded) = self.queues.remove(name)
        {
            self.remember(name.to_owned(), recorded);
        }
    }

    /// A server-named queue got another name; its bindings and consumers follow.
    pub fn rename(&mut self, old: &str, new: &str) {
        if let Some(mut recorded) = self.queues.remove(old) {
            for binding in &mut recorded.bindings {
                *binding = binding.clone().with_queue_renamed(old, new);
            }
            self.queues.insert(new.to_owned(), recorded);
        }
        if let Some(count) = self.consumed.remove(old) {
            self.consumed.insert(new.to_owned(), count);
        }
    }

    pub fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        self.exchanges.values()
    }

    pub fn queues(&self) -> impl Iterator<Item = (&String, &RecordedQueue)> {
        self.queues.iter()
    }

    /// All bindings, exchange-to-exchange ones first.
    pub fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.exchange_bindings
            .iter()
            .chain(&self.foreign_bindings)
            .chain(self.queues.values().flat_map(|recorded| &recorded.bindings))
    }

    /// How many entities are recorded or remembered.
    pub fn len(&self) -> usize {
        self.exchanges.len()
            + self.queues.len()
            + self.recent.len()
            + self.exchange_bindings.len()
            + self.foreign_bindings.len()
    }
}
