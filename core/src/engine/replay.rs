//! Bringing back what was declared, on a new connection: exchanges and queues, then bindings, then consumers, each step
//! pipelined; then the commands that waited, and the publishes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use amq_protocol::protocol::{AMQPClass, exchange, queue};
use tokio::time::Instant;

use super::{
    Engine, channel::ChannelKind, link::Link, record::Item, rpc::ExpectedReply, topology_wait::TopologyWait,
    window::Window,
};
use crate::{
    ErrorKind, Result,
    events::{Event, NotRestored, Restored},
    topology::{Binding, Exchange},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Entities,
    Bindings,
    Consumers,
}

pub(crate) struct Replay {
    phase: Phase,
    outstanding: usize,
    restored: Restored,
    /// Queues that the broker still keeps for the dead connection, with the time of the first refusal.
    locked: BTreeMap<String, Instant>,
    /// The first connection has nothing to bring back, and nothing to tell.
    first: bool,
}

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
    pub(super) fn start_replay(&mut self) {
        self.live.replay = Some(Replay {
            phase: Phase::Entities,
            outstanding: 0,
            restored: Restored::default(),
            locked: BTreeMap::new(),
            first: self.epoch == 1,
        });
        let exchanges: Vec<_> = self.record.exchanges().map(Exchange::declare).collect();
        let queues: Vec<_> =
            self.record.queues().map(|(name, recorded)| (name.clone(), recorded.queue.declare())).collect();
        for declare in exchanges {
            let item = Item::Exchange(declare.exchange.to_string());
            self.replay(item, AMQPClass::Exchange(exchange::AMQPMethod::Declare(declare)));
        }
        for (name, declare) in queues {
            self.replay(Item::Queue(name), AMQPClass::Queue(queue::AMQPMethod::Declare(declare)));
        }
        self.advance_replay();
    }

    fn replay(&mut self, item: Item, method: AMQPClass) {
        let Some(control) = self.control_channel() else {
            return;
        };
        if let Some(replay) = &mut self.live.replay {
            replay.outstanding += 1;
        }
        self.request(control, method, ExpectedReply::Replay(item));
    }

    /// Goes on to the next step once the replies of this one are in.
    fn advance_replay(&mut self) {
        while let Some(replay) = &mut self.live.replay {
            if replay.outstanding > 0 {
                return;
            }
            match replay.phase {
                Phase::Entities => {
                    replay.phase = Phase::Bindings;
                    let locked = replay.locked.clone();
                    let bindings: Vec<Binding> = self
                        .record
                        .bindings()
                        .filter(|binding| {
                            !binding.destination_is_queue() || !locked.contains_key(binding.destination())
                        })
                        .cloned()
                        .collect();
                    for binding in bindings {
                        let method = binding.bind_method();
                        self.replay(Item::Binding(binding), method);
                    }
                    for (name, since) in locked {
                        self.retries.push(Retry {
                            at: Instant::now() + LOCKED_RETRY,
                            what: RetryWhat::Queue { name, since },
                        });
                    }
                }
                Phase::Bindings => {
                    replay.phase = Phase::Consumers;
                    let locked = replay.locked.clone();
                    let ids: Vec<u64> = self
                        .consumers
                        .iter()
                        .filter(|(_, consumer)| !locked.contains_key(&consumer.incoming.settings().queue))
                        .map(|(id, _)| *id)
                        .collect();
                    if let Some(replay) = &mut self.live.replay {
                        replay.outstanding += ids.len();
                    }
                    for id in ids {
                        self.start_consumer(id);
                    }
                }
                Phase::Consumers => self.finish_replay(),
            }
        }
    }

    fn finish_replay(&mut self) {
        let Some(replay) = self.live.replay.take() else {
            return;
        };
        let mut restored = replay.restored;
        restored.republished =
            self.windows().map(|publishing| publishing.with(|window| window.to_republish())).sum();
        if !replay.first {
            self.events.send(Event::Recovered { role: self.role, restored });
        }
        self.link.set_restored(true);
        self.ask_for_topology();
        self.resume_commands();
    }

    /// Publishes are sent again once the queues that they are for are back, which another connection may see to.
    fn ask_for_topology(&mut self) {
        if self.publishing.is_none() {
            return;
        }
        // The first connection has lost none, but the other one may have.
        let may_be_missing = |after: &Arc<Link>| self.epoch > 1 || !after.is_restored();
        let Some(after) = self.after.clone().filter(may_be_missing) else {
            self.open_publishing();
            return;
        };
        self.topology_wait = TopologyWait::begin(&after);
        if self.topology_wait.is_none() {
            self.open_publishing();
        }
    }

    /// Opens the publish channel; what waits in the window goes out behind it.
    pub(super) fn open_publishing(&mut self) {
        self.topology_wait = None;
        let Some(publishing) = self.publishing.clone() else {
            return;
        };
        if publishing.with(|window| window.channel().is_some()) {
            return;
        }
        let Some(number) = self.open_channel(|_| ChannelKind::Publish) else {
            let error = self.no_channel("publish");
            publishing.with(|window| window.close(&error));
            return;
        };
        let select = amq_protocol::protocol::confirm::Select { nowait: false };
        self.request(
            number,
            AMQPClass::Confirm(amq_protocol::protocol::confirm::AMQPMethod::Select(select)),
            ExpectedReply::Step,
        );
        if let Some(channel) = self.live.channels.get(number) {
            channel.publishing = Some(publishing.clone());
        }
        // A caller that finds nothing queued writes its publish at once, which must be behind the opening of the channel.
        self.link.lock_writer().buffer.append(&mut self.live.out);
        publishing.with(|window| window.open(number));
    }

    /// Opens another publish channel in the place of one that gets nothing but nacks.
    pub(super) fn replace_worn_out(&mut self, number: u16) {
        let Some(publishing) = self.publishing.clone() else { return };
        let worn_out = publishing.with(|window| window.channel() == Some(number) && window.is_worn_out());
        if worn_out {
            tracing::info!(role = %self.role, "only nacks for a while: publishing goes on on a new channel");
            publishing.with(Window::leave_channel);
            self.close_channel(number);
            self.open_publishing();
        }
    }

    /// One thing is back, or is not. A queue comes with the broker's answer, which has its name.
    pub(super) fn replayed(&mut self, item: Item, result: Result<Option<AMQPClass>>) {
        let Some(replay) = &mut self.live.replay else {
            return;
        };
        let phase = match &item {
            Item::Exchange(_) | Item::Queue(_) => Phase::Entities,
            Item::Binding(_) => Phase::Bindings,
            Item::Consumer(_) => Phase::Consumers,
        };
        if replay.phase != phase {
            return;
        }
        replay.outstanding = replay.outstanding.saturating_sub(1);
        let restored = &mut replay.restored;
        match (item, result) {
            (Item::Exchange(_), Ok(_)) => restored.exchanges += 1,
            (Item::Binding(_), Ok(_)) => restored.bindings += 1,
            (Item::Consumer(_), Ok(_)) => restored.consumers += 1,
            (Item::Queue(name), Ok(reply)) => {
                restored.queues += 1;
                self.queue_is_back(&name, reply.as_ref());
            }
            (Item::Queue(name), Err(error)) if error.kind() == ErrorKind::ResourceLocked => {
                replay.locked.entry(name).or_insert_with(Instant::now);
            }
            (item, Err(error)) => restored.failed.push(NotRestored { what: item.to_string(), error }),
        }
        self.advance_replay();
    }

    /// Takes something off the record.
    pub(super) fn forget_item(&mut self, item: &Item) {
        match item {
            Item::Exchange(name) => self.record.delete_exchange(name),
            Item::Queue(name) => self.record.delete_queue(name),
            Item::Binding(binding) => self.record.unbind(binding),
            Item::Consumer(_) => {}
        }
        self.count_record();
    }

    /// A consumer is not back, and does not hold the others up.
    pub(super) fn consumer_settled(&mut self) {
        if let Some(replay) = &mut self.live.replay
            && replay.phase == Phase::Consumers
        {
            replay.outstanding = replay.outstanding.saturating_sub(1);
            self.advance_replay();
        }
    }

    /// Remembers what could not be restored, for the event that ends the recovery.
    pub(super) fn not_restored(&mut self, failed: NotRestored) {
        match &mut self.live.replay {
            Some(replay) => replay.restored.failed.push(failed),
            None => {
                let restored = Restored { failed: vec![failed], ..Restored::default() };
                self.events.send(Event::Recovered { role: self.role, restored });
            }
        }
    }

    fn queue_is_back(&mut self, name: &str, reply: Option<&AMQPClass>) {
        let Some(AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok))) = reply else {
            return;
        };
        let new = ok.queue.to_string();
        if new == name {
            return;
        }
        self.record.rename(name, &new);
        for consumer in self.consumers.values() {
            let mut settings = consumer.incoming.settings();
            if settings.queue == name {
                settings.queue.clone_from(&new);
            }
        }
        self.events.send(Event::QueueRenamed { old: name.to_owned(), new });
    }

    // ---- later attempts --------------------------------------------------------------------------------------

    pub(super) fn run_retries(&mut self, now: Instant) {
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

    fn retry_queue(&mut self, name: String, since: Instant) {
        let Some(recorded) = self.record.queue(&name) else {
            // It was forgotten meanwhile, but not by its consumers.
            self.start_consumers_of(&name);
            return;
        };
        let method = AMQPClass::Queue(queue::AMQPMethod::Declare(recorded.queue.declare()));
        let Some(control) = self.control_channel() else {
            return;
        };
        self.request(control, method, ExpectedReply::Locked { name, since });
    }

    /// The answer to another attempt at a queue that was locked.
    pub(super) fn locked_answered(&mut self, name: String, since: Instant, result: Result<AMQPClass>) {
        let patience = self.options.heartbeat.max(Duration::from_secs(1)) * 3;
        match result {
            Ok(_) => {
                let bindings =
                    self.record.queue(&name).map(|recorded| recorded.bindings.clone()).unwrap_or_default();
                if let Some(control) = self.control_channel() {
                    for binding in bindings {
                        let method = binding.bind_method();
                        self.request(control, method, ExpectedReply::Bind(binding));
                    }
                }
                self.start_consumers_of(&name);
                let restored = Restored { queues: 1, ..Restored::default() };
                self.events.send(Event::Recovered { role: self.role, restored });
            }
            Err(error) if error.kind() == ErrorKind::ResourceLocked && since.elapsed() < patience => {
                let at = Instant::now() + LOCKED_RETRY;
                self.retries.push(Retry { at, what: RetryWhat::Queue { name, since } });
            }
            Err(error) => {
                self.not_restored(NotRestored { what: format!("queue '{name}'"), error });
                self.start_consumers_of(&name);
            }
        }
    }

    fn start_consumers_of(&mut self, name: &str) {
        let ids: Vec<u64> = self
            .consumers
            .iter()
            .filter(|(_, consumer)| consumer.incoming.settings().queue == name)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.start_consumer(id);
        }
    }
}
