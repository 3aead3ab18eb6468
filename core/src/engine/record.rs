//! What was declared, as plain values, so that recovery is a replay.
//!
//! What the broker removes by its own rules leaves the record, so that it is not brought back:
//!
//! - A queue with `expires` or `auto_delete` is recorded only while this client consumes it: a program that declares one
//!   such queue per peer, for years, must not grow, nor bring expired queues back. The latest of them are remembered in
//!   a list of fixed length, so that one that is consumed right after its declaration is known.
//! - Of those that are remembered, the broker keeps an auto-delete queue until its first consumer, and removes an
//!   exclusive one with the connection only: these are brought back too.
//! - An auto-delete exchange goes with its last binding. One that was never bound stays, at the broker and here.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

use crate::topology::{Binding, Exchange, Queue};

/// The number of queues that are remembered although nobody consumes them, and of auto-delete exchanges never bound.
const RECENT: usize = 256;

/// One thing that is brought back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    Exchange(String),
    Queue(String),
    Binding(Binding),
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Exchange(name) => write!(f, "exchange '{name}'"),
            Item::Queue(name) => write!(f, "queue '{name}'"),
            Item::Binding(binding) => {
                write!(f, "binding of '{}' to '{}'", binding.destination(), binding.source())
            }
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct RecordedQueue {
    pub queue: Queue,
    pub bindings: Vec<Binding>,
    /// It has had a consumer of this client since it was declared.
    was_consumed: bool,
}

impl RecordedQueue {
    /// Whether the broker still has the queue, or has lost it only with the connection, although nobody consumes it.
    fn is_kept_unconsumed(&self) -> bool {
        !self.was_consumed && (self.queue.is_exclusive() || !self.queue.expires_unused())
    }
}

#[derive(Clone, Debug)]
struct RecordedExchange {
    exchange: Exchange,
    /// It has been the source of a binding: an auto-delete exchange goes with the last.
    was_bound: bool,
}

#[derive(Default)]
pub(crate) struct RecordedTopology {
    exchanges: BTreeMap<String, RecordedExchange>,
    /// Auto-delete exchanges that were never bound, the oldest first.
    unbound: VecDeque<String>,
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
        let name = exchange.name().to_owned();
        let was_bound = self.all_bindings().any(|binding| binding.source() == name);
        self.unbound.retain(|unbound| *unbound != name);
        if exchange.is_auto_delete() && !was_bound {
            if self.unbound.len() == RECENT
                && let Some(oldest) = self.unbound.pop_front()
            {
                self.exchanges.remove(&oldest);
            }
            self.unbound.push_back(name.clone());
        }
        self.exchanges.insert(name, RecordedExchange { exchange, was_bound });
    }

    /// An exchange is gone, and with it the bindings from and to it.
    pub fn delete_exchange(&mut self, name: &str) {
        self.exchanges.remove(name);
        self.unbound.retain(|unbound| unbound != name);
        let mut sources = Vec::new();
        self.exchange_bindings.retain(|binding| {
            let goes = binding.source() == name || binding.destination() == name;
            if goes {
                sources.push(binding.source().to_owned());
            }
            !goes
        });
        self.foreign_bindings.retain(|binding| binding.source() != name);
        for recorded in self.queues.values_mut().chain(self.recent.iter_mut().map(|(_, recorded)| recorded)) {
            recorded.bindings.retain(|binding| binding.source() != name);
        }
        self.unbound_sources(sources);
    }

    /// `name` is the one the broker answered with.
    pub fn declare_queue(&mut self, name: &str, queue: Queue) {
        let consumed = self.consumed.contains_key(name);
        let bindings = self.known(name).map(|known| std::mem::take(&mut known.bindings)).unwrap_or_default();
        self.recent.retain(|(recent, _)| recent != name);
        let recorded = RecordedQueue { queue, bindings, was_consumed: consumed };
        if recorded.queue.is_transient_record() && !consumed {
            self.remember(name.to_owned(), recorded);
        } else {
            self.queues.insert(name.to_owned(), recorded);
        }
    }

    fn remember(&mut self, name: String, recorded: RecordedQueue) {
        let oldest = (self.recent.len() == RECENT).then(|| self.recent.pop_front()).flatten();
        self.recent.push_back((name, recorded));
        if let Some((_, oldest)) = oldest {
            self.unbound_sources(sources_of(&oldest.bindings));
        }
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

    /// A queue is gone, and with it its bindings.
    pub fn delete_queue(&mut self, name: &str) {
        let mut sources = Vec::new();
        if let Some(recorded) = self.queues.remove(name) {
            sources.extend(sources_of(&recorded.bindings));
        }
        if let Some(place) = self.recent.iter().position(|(recent, _)| recent == name)
            && let Some((_, recorded)) = self.recent.remove(place)
        {
            sources.extend(sources_of(&recorded.bindings));
        }
        self.foreign_bindings.retain(|binding| {
            let goes = binding.destination_is_queue() && binding.destination() == name;
            if goes {
                sources.push(binding.source().to_owned());
            }
            !goes
        });
        self.unbound_sources(sources);
    }

    pub fn bind(&mut self, binding: Binding) {
        if let Some(recorded) = self.exchanges.get_mut(binding.source())
            && !std::mem::replace(&mut recorded.was_bound, true)
        {
            self.unbound.retain(|unbound| unbound != binding.source());
        }
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
        self.unbound_sources([binding.source().to_owned()]);
    }

    /// These exchanges have lost a binding: an auto-delete one whose last it was is gone, and so are the bindings to it.
    fn unbound_sources(&mut self, sources: impl IntoIterator<Item = String>) {
        for source in sources {
            let is_auto_delete =
                self.exchanges.get(&source).is_some_and(|recorded| recorded.exchange.is_auto_delete());
            if is_auto_delete && !self.all_bindings().any(|binding| binding.source() == source) {
                self.delete_exchange(&source);
            }
        }
    }

    /// Whether a binding that the broker has refused with 404 is of a queue that somebody else has declared: it went
    /// with its queue or its exchange, and nothing here says when to make it again.
    pub fn is_foreign(&self, binding: &Binding) -> bool {
        self.foreign_bindings.contains(binding)
    }

    /// Drops the queue and the exchange that are recorded under `name`.
    pub fn forget(&mut self, name: &str) {
        self.delete_exchange(name);
        self.delete_queue(name);
    }

    /// Takes something off the record.
    pub fn forget_item(&mut self, item: &Item) {
        match item {
            Item::Exchange(name) => self.delete_exchange(name),
            Item::Queue(name) => self.delete_queue(name),
            Item::Binding(binding) => self.unbind(binding),
        }
    }

    pub fn consume(&mut self, name: &str) {
        *self.consumed.entry(name.to_owned()).or_default() += 1;
        if let Some(place) = self.recent.iter().position(|(recent, _)| recent == name)
            && let Some((name, recorded)) = self.recent.remove(place)
        {
            self.queues.insert(name, recorded);
        }
        if let Some(recorded) = self.queues.get_mut(name) {
            recorded.was_consumed = true;
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
        let renamed = |mut recorded: RecordedQueue| {
            for binding in &mut recorded.bindings {
                *binding = binding.clone().with_queue_renamed(old, new);
            }
            recorded
        };
        if let Some(recorded) = self.queues.remove(old) {
            self.queues.insert(new.to_owned(), renamed(recorded));
        }
        if let Some((name, recorded)) = self.recent.iter_mut().find(|(recent, _)| recent == old) {
            new.clone_into(name);
            *recorded = renamed(recorded.clone());
        }
        if let Some(count) = self.consumed.remove(old) {
            self.consumed.insert(new.to_owned(), count);
        }
    }

    /// The declaration of an exchange, if it was made through this client.
    pub fn exchange(&self, name: &str) -> Option<&Exchange> {
        self.exchanges.get(name).map(|recorded| &recorded.exchange)
    }

    /// The exchanges to bring back.
    pub fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        let bound: BTreeSet<&str> = self.bindings().map(Binding::source).collect();
        self.exchanges
            .values()
            .filter(move |recorded| {
                let name = recorded.exchange.name();
                !recorded.exchange.is_auto_delete() || !recorded.was_bound || bound.contains(name)
            })
            .map(|recorded| &recorded.exchange)
    }

    /// The queues to bring back.
    pub fn queues(&self) -> impl Iterator<Item = (&String, &RecordedQueue)> {
        let unconsumed = self.recent.iter().filter(|(_, recorded)| recorded.is_kept_unconsumed());
        self.queues.iter().chain(unconsumed.map(|(name, recorded)| (name, recorded)))
    }

    /// The bindings to bring back, exchange-to-exchange ones first.
    pub fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.exchange_bindings
            .iter()
            .chain(&self.foreign_bindings)
            .chain(self.queues().flat_map(|(_, recorded)| &recorded.bindings))
    }

    /// Those too of queues that are only remembered.
    fn all_bindings(&self) -> impl Iterator<Item = &Binding> {
        let recorded = self.queues.values().chain(self.recent.iter().map(|(_, recorded)| recorded));
        self.exchange_bindings
            .iter()
            .chain(&self.foreign_bindings)
            .chain(recorded.flat_map(|recorded| &recorded.bindings))
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

fn sources_of(bindings: &[Binding]) -> Vec<String> {
    bindings.iter().map(|binding| binding.source().to_owned()).collect()
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
