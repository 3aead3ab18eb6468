//! The start of a consumer: a channel of its own, `basic.qos` and `basic.consume`, all in one go.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use amq_protocol::{
    protocol::{AMQPClass, basic, confirm},
    types::{AMQPValue, ShortString},
};
use tokio::time::Instant;

use super::{
    Consumer,
    machine::{Event as Happened, Machine, OnWire, Terms},
    prefetch::{Change, no_stream_prefetch},
};
use crate::{
    Error,
    engine::{
        Engine,
        acks::{ChannelAcks, Lease},
        channel::ChannelKind,
        command::Pending,
        content::Names,
        delivery_queue::{ConsumerRequest, DeliveryQueue},
        rpc::{ExpectedReply, Rpc},
    },
    topology::QueueType,
    wire::ids,
};

/// How long a refusal that ended a connection is remembered: the queue may be another by then.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The ids of `basic.consume`.
const CONSUME: (u16, u16) = (60, 20);

/// What the broker ended connections over, so that it is not asked again.
#[derive(Default)]
pub(crate) struct RefusedConsumes {
    known: BTreeMap<(String, bool, bool), (Instant, Error)>,
    /// Consumers that were starting when a connection ended over one of them that was not named. They start one after the
    /// other, so that the guilty one is alone.
    suspects: BTreeSet<u64>,
}

impl RefusedConsumes {
    /// Another queue may have the name now.
    pub fn forget(&mut self, queue: &str) {
        self.known.retain(|(name, ..), _| name != queue);
    }

    fn key(incoming: &DeliveryQueue) -> (String, bool, bool) {
        (incoming.queue(), incoming.request.no_ack, incoming.request.exclusive)
    }

    fn remember(&mut self, incoming: &DeliveryQueue, error: &Error) {
        self.known.insert(Self::key(incoming), (Instant::now() + REMEMBERED, error.clone()));
    }

    fn refusal(&mut self, incoming: &DeliveryQueue) -> Option<Error> {
        if self.known.is_empty() {
            return None;
        }
        let now = Instant::now();
        self.known.retain(|_, (until, _)| *until > now);
        self.known.get(&Self::key(incoming)).map(|(_, error)| {
            error.within("the broker ended a connection over the same a moment ago, and is not asked again")
        })
    }
}

/// The tag on the wire: tags are unique on a channel, and two of one consumer overlap while its prefetch changes.
pub(super) fn wire_tag(incoming: &DeliveryQueue, on: OnWire) -> ShortString {
    let tag = &incoming.request.tag;
    let text = if on.generation == 0 { tag.to_string() } else { format!("{tag}.{}", on.generation) };
    ShortString::try_new(text).unwrap_or_default()
}

/// The generation that a tag on the wire names.
pub(super) fn generation(tag: &str, on_wire: &str) -> u32 {
    let rest = on_wire.strip_prefix(tag).and_then(|rest| rest.strip_prefix('.'));
    rest.and_then(|number| number.parse().ok()).unwrap_or_default()
}

impl Engine {
    pub(in crate::engine) fn consume(&mut self, incoming: Arc<DeliveryQueue>, mut reply: Pending<()>) {
        let request = &incoming.request;
        let recorded = self.record.queue(&incoming.queue());
        let stream = request.stream
            || recorded.is_some_and(|recorded| recorded.queue.kind() == Some(QueueType::Stream));
        let terms = Terms {
            no_ack: request.no_ack,
            resume: request.resume,
            stream,
            requests: incoming.requests.is_some(),
            change: Change::of(request, stream, recorded),
            patience: self.options.heartbeat.max(Duration::from_secs(1)) * 3,
            longest_delay: self.options.recovery.max_delay,
        };
        if stream && request.prefetch == 0 {
            reply.answer(Err(no_stream_prefetch()));
            return;
        }
        self.record.consume(&incoming.queue());
        if let Some(requests) = incoming.requests.clone() {
            requests.with(|window| window.set_blocked(self.live.blocked));
            self.requests.push(requests);
        }
        let id = incoming.id;
        let machine = Machine::new(terms, request.prefetch, reply);
        self.consumers.insert(id, Consumer { incoming, machine });
        self.start_consumer(id);
    }

    /// Opens a channel for the consumer and consumes, unless it has one.
    pub(in crate::engine) fn start_consumer(&mut self, id: u64) {
        let Some(consumer) = self.consumers.get(&id).filter(|consumer| consumer.machine.wants_channel())
        else {
            return;
        };
        if self.refused_consumes.suspects.contains(&id) && self.another_suspect_is_starting(id) {
            return;
        }
        let incoming = consumer.incoming.clone();
        if let Some(error) = self.refused_consumes.refusal(&incoming) {
            self.consumer_event(id, Happened::Broke(error));
            return;
        }
        let stream = consumer.machine.terms.stream;
        let (inbox, epoch, on_drop) = (self.link.acks.clone(), self.epoch, Some(incoming.request.on_drop));
        let requests = incoming.requests.clone();
        let names = Names::of(incoming.request.tag.clone());
        let number = self.open_channel(|number| ChannelKind::Consume {
            incoming,
            lease: Arc::new(Lease { acks: ChannelAcks::new(inbox, number, epoch, stream, on_drop) }),
            names,
            returning: false,
        });
        let Some(number) = number else {
            let error = self.no_channel("consume");
            self.consume_refused(id, &error);
            return;
        };
        if let Some(requests) = requests {
            let select = confirm::AMQPMethod::Select(confirm::Select { nowait: false });
            self.request(number, AMQPClass::Confirm(select), ExpectedReply::Step);
            if let Some(channel) = self.live.channels.get(number) {
                channel.publishing = Some(requests);
            }
        }
        self.consumer_event(id, Happened::Opened(number));
    }

    pub(super) fn send_consume(&mut self, id: u64, on: OnWire, qos: bool) {
        let Some(consumer) = self.consumers.get(&id) else {
            return;
        };
        let ConsumerRequest { no_ack, exclusive, ref arguments, .. } = consumer.incoming.request;
        let mut arguments = arguments.clone();
        if let Some(offset) = consumer.machine.next_offset() {
            arguments.insert("x-stream-offset".into(), AMQPValue::LongLongInt(offset));
        }
        let consume = basic::Consume {
            queue: ShortString::try_new(consumer.incoming.queue()).unwrap_or_default(),
            consumer_tag: wire_tag(&consumer.incoming, on),
            no_local: false,
            no_ack,
            exclusive,
            nowait: false,
            arguments,
        };
        if qos {
            let qos = basic::Qos { prefetch_count: on.prefetch, global: false };
            self.request(on.channel, AMQPClass::Basic(basic::AMQPMethod::Qos(qos)), ExpectedReply::Step);
        }
        let consume = AMQPClass::Basic(basic::AMQPMethod::Consume(consume));
        self.request(on.channel, consume, ExpectedReply::Consume(id));
    }

    // ---- a start that ends the connection --------------------------------------------------------------------

    /// The broker ended the connection over a `basic.consume`. The guilty one ends; where it is not certain which one that
    /// is, all that were starting do so again, one after the other.
    pub(in crate::engine) fn connection_ended_over_consume(&mut self, error: &Error) {
        let refuses_consume = |kind: &ChannelKind, rpc: Option<&Rpc>| match kind {
            ChannelKind::Consume { incoming, .. } => {
                rpc.is_some_and(|rpc| ids(&rpc.method) == CONSUME).then_some(incoming.id)
            }
            _ => None,
        };
        let starting: Vec<u64> = self
            .live
            .channels
            .iter_mut()
            .filter_map(|(_, channel)| refuses_consume(&channel.kind, channel.rpcs.front()))
            .collect();
        let named: Vec<u64> = starting.iter().copied().filter(|id| self.is_named(*id, error)).collect();
        let mut guilty = if named.is_empty() { starting } else { named };
        if guilty.len() > 1 && guilty.iter().any(|id| self.refused_consumes.suspects.contains(id)) {
            guilty.retain(|id| self.refused_consumes.suspects.contains(id));
        }
        // Those that ask for the same of the same queue are as guilty.
        let asks = |id: &u64| self.consumers.get(id).map(|consumer| RefusedConsumes::key(&consumer.incoming));
        if guilty.len() > 1 && guilty.windows(2).all(|pair| asks(&pair[0]) == asks(&pair[1])) {
            guilty.truncate(1);
        }
        let [id] = guilty[..] else {
            self.refused_consumes.suspects.extend(guilty);
            return;
        };
        self.refused_consumes.suspects.remove(&id);
        if let Some(consumer) = self.consumers.get(&id) {
            self.refused_consumes.remember(&consumer.incoming, error);
        }
        self.consumer_event(id, Happened::Broke(error.clone()));
    }

    fn is_named(&self, id: u64, error: &Error) -> bool {
        let queue = self.consumers.get(&id).map(|consumer| format!("'{}'", consumer.incoming.queue()));
        queue.zip(error.reply_text()).is_some_and(|(queue, text)| text.contains(&queue))
    }

    fn another_suspect_is_starting(&self, id: u64) -> bool {
        self.refused_consumes
            .suspects
            .iter()
            .filter(|suspect| **suspect != id)
            .any(|suspect| self.consumers.get(suspect).is_some_and(|consumer| consumer.machine.is_starting()))
    }

    /// A consumer has started or was refused: if it was under suspicion, the next one's turn has come.
    pub(super) fn start_next_suspect(&mut self, id: u64) {
        if !self.refused_consumes.suspects.remove(&id) {
            return;
        }
        while let Some(next) = self.refused_consumes.suspects.first().copied() {
            if self.consumers.contains_key(&next) {
                self.start_consumer(next);
                return;
            }
            self.refused_consumes.suspects.remove(&next);
        }
    }
}
