//! `basic.get`, and channels that are kept for the deliveries that the application holds.

use std::sync::Arc;

use amq_protocol::{
    protocol::{AMQPClass, basic},
    types::ShortString,
};

use crate::engine::{Engine, acks::ChannelAcks, channel::ChannelKind, command::Get, rpc::ExpectedReply};

impl Engine {
    /// The channel of these deliveries, while it is still theirs: its number may be another's by now.
    fn channel_of(&mut self, acks: &Arc<ChannelAcks>) -> Option<&ChannelKind> {
        let kind = &self.live.channels.get(acks.channel)?.kind;
        kind.acks().is_some_and(|its| Arc::ptr_eq(its, acks)).then_some(kind)
    }

    pub(super) fn release(&mut self, acks: &Arc<ChannelAcks>) {
        let is_get = match self.channel_of(acks) {
            Some(ChannelKind::Get(_)) => true,
            Some(ChannelKind::Draining(_)) => false,
            _ => return,
        };
        acks.flush(&mut self.live.out);
        if is_get && acks.all_settled() {
            self.live.idle_gets.push(acks.channel);
        } else {
            self.close_channel(acks.channel);
        }
    }

    /// `basic.get`. One that is to be acked has a channel of its own, so that the refusal of another operation cannot
    /// requeue its message; without acks there is nothing to requeue.
    pub(super) fn get(&mut self, mut get: Get) {
        let method = AMQPClass::Basic(basic::AMQPMethod::Get(basic::Get {
            queue: ShortString::try_new(get.queue.clone()).unwrap_or_default(),
            no_ack: get.no_ack,
        }));
        if get.no_ack {
            self.request_on_control(method, ExpectedReply::Get(get));
        } else if let Some(number) = self.channel_for_a_get() {
            self.request(number, method, ExpectedReply::Get(get));
        } else {
            get.reply.answer(Err(self.no_channel(&get.reply.name)));
        }
    }

    fn channel_for_a_get(&mut self) -> Option<u16> {
        if let Some(number) = self.live.idle_gets.pop() {
            return Some(number);
        }
        let (inbox, epoch) = (self.link.acks.clone(), self.epoch);
        self.open_channel(|number| ChannelKind::Get(ChannelAcks::new(inbox, number, epoch, false, None)))
    }

    /// A channel that only waited for the last of its deliveries is closed.
    pub(super) fn close_if_drained(&mut self, acks: &Arc<ChannelAcks>) {
        if acks.all_settled() && matches!(self.channel_of(acks), Some(ChannelKind::Draining(_))) {
            self.close_channel(acks.channel);
        }
    }
}
