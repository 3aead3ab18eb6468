//! Bringing back what was declared, on a new connection: exchanges and queues, then bindings, then consumers, each step
//! pipelined; then the commands that waited, and the publishes.

mod progress;
mod retries;

use std::{collections::BTreeMap, sync::Arc};

use amq_protocol::protocol::{AMQPClass, exchange, queue};
use tokio::time::Instant;

use self::{progress::Phase, retries::is_passing};
pub(crate) use self::{
    progress::Replay,
    retries::{Retry, RetryWhat},
};
use super::{
    Engine, channel::ChannelKind, link::Link, publish::Window, record::Item, rpc::ExpectedReply,
    topology_wait::TopologyWait,
};
use crate::{
    ErrorKind, Result,
    events::{Event, NotRestored, Restored},
    topology::Binding,
};

impl Engine {
    pub(in crate::engine) fn start_replay(&mut self) {
        let given_up = std::mem::take(&mut self.given_up);
        self.live.replay = Some(Replay::new(self.epoch == 1, given_up));
        let exchanges = self.record.exchanges().map(|exchange| {
            let declare = exchange::AMQPMethod::Declare(exchange.declare());
            (Item::Exchange(exchange.name().to_owned()), AMQPClass::Exchange(declare))
        });
        let queues = self.record.queues().map(|(name, recorded)| {
            let declare = queue::AMQPMethod::Declare(recorded.queue.declare());
            (Item::Queue(name.clone()), AMQPClass::Queue(declare))
        });
        let entities = exchanges.chain(queues).collect();
        self.replay(entities);
        self.advance_replay();
    }

    fn replay(&mut self, items: Vec<(Item, AMQPClass)>) {
        if let Some(replay) = &mut self.live.replay {
            replay.sent(items.len());
        }
        for (item, method) in items {
            self.request_on_control(method, ExpectedReply::Replay(item));
        }
    }

    /// Begins the next step once the replies of this one are in.
    fn advance_replay(&mut self) {
        self.start_next_consumers();
        while let Some(phase) = self.live.replay.as_mut().and_then(Replay::next_phase) {
            match phase {
                Phase::Entities => {}
                Phase::Bindings => self.replay_bindings(),
                Phase::Consumers => self.replay_consumers(),
                Phase::Done => self.finish_replay(),
            }
        }
    }

    /// Bindings of a queue that is locked follow once the queue is declared, see [`Self::locked_answered`].
    fn replay_bindings(&mut self) {
        let locked = self.locked_queues();
        let is_locked =
            |binding: &Binding| binding.destination_is_queue() && locked.contains_key(binding.destination());
        let bindings = self.record.bindings().filter(|binding| !is_locked(binding));
        let bindings =
            bindings.map(|binding| (Item::Binding(binding.clone()), binding.bind_method())).collect();
        self.replay(bindings);
        for (name, since) in locked {
            self.retry_queue_later(name, since);
        }
    }

    fn replay_consumers(&mut self) {
        let locked = self.locked_queues();
        let ids: Vec<u64> = self
            .consumers
            .iter()
            .filter(|(_, consumer)| !locked.contains_key(&consumer.incoming.queue()))
            .map(|(id, _)| *id)
            .collect();
        if let Some(replay) = &mut self.live.replay {
            replay.will_start(ids);
        }
        self.start_next_consumers();
    }

    fn start_next_consumers(&mut self) {
        let careful = self.live.careful;
        while let Some(id) = self.live.replay.as_mut().and_then(|replay| replay.next_consumer(careful)) {
            self.start_consumer(id);
        }
    }

    fn locked_queues(&self) -> BTreeMap<String, Instant> {
        self.live.replay.as_ref().map(|replay| replay.locked.clone()).unwrap_or_default()
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
        // The first connection has no loss to recover from, but the main connection may be recovering.
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
    pub(in crate::engine) fn open_publishing(&mut self) {
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
    pub(in crate::engine) fn replace_worn_out(&mut self, number: u16) {
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
    pub(in crate::engine) fn replayed(&mut self, item: Item, result: Result<Option<AMQPClass>>) {
        let Some(replay) = &mut self.live.replay else {
            return;
        };
        replay.answered();
        if let (Item::Binding(binding), Err(error)) = (&item, &result)
            && let Some(again) = self.bind_again(binding, error)
        {
            if let Some(replay) = &mut self.live.replay {
                // It counts when it is back once more.
                replay.restored.exchanges = replay.restored.exchanges.saturating_sub(1);
            }
            self.replay(again.into());
            return;
        }
        let Some(replay) = &mut self.live.replay else {
            return;
        };
        let restored = &mut replay.restored;
        match (item, result) {
            (Item::Exchange(_), Ok(_)) => restored.exchanges += 1,
            (Item::Binding(_), Ok(_)) => restored.bindings += 1,
            (Item::Queue(name), Ok(reply)) => {
                restored.queues += 1;
                self.queue_is_back(&name, reply.as_ref());
            }
            (Item::Queue(name), Err(error)) if is_passing(&error) => {
                replay.locked.entry(name).or_insert_with(Instant::now);
            }
            (item, Err(error)) => {
                let is_gone = error.kind() == ErrorKind::NotFound;
                restored.failed.push(NotRestored { what: item.to_string(), error });
                if let Item::Binding(binding) = &item
                    && is_gone
                    && self.record.is_foreign(binding)
                {
                    // It went with its queue or its exchange, and nobody here will see when they are there again.
                    self.forget_item(&item);
                }
            }
        }
        self.advance_replay();
    }

    /// Takes something off the record.
    pub(in crate::engine) fn forget_item(&mut self, item: &Item) {
        self.record.forget_item(item);
        self.count_record();
    }

    /// A consumer is back, or is not and does not hold the others up.
    pub(in crate::engine) fn consumer_settled(&mut self, id: u64, restored: bool) {
        if let Some(replay) = &mut self.live.replay
            && replay.consumer_answered(id)
        {
            replay.restored.consumers += usize::from(restored);
            self.advance_replay();
        }
    }

    /// Remembers what could not be restored, for the event that ends the recovery; after a recovery, sends an event of
    /// its own.
    pub(in crate::engine) fn not_restored(&mut self, failed: NotRestored) {
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
            if consumer.incoming.is_of(name) {
                consumer.incoming.rename_queue(&new);
            }
        }
        self.events.send(Event::QueueRenamed { old: name.to_owned(), new });
    }
}
