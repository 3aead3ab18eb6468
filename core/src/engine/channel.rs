//! Channels of one connection: what each is for, what waits for a reply on it, and the content that is arriving.

use std::{collections::VecDeque, sync::Arc};

use super::{
    acks::{ChannelAcks, Lease},
    content::{Content, Names},
    delivery_queue::DeliveryQueue,
    publish::Publishing,
    rpc::Rpc,
};

/// What a channel is for.
pub(crate) enum ChannelKind {
    /// Declarations and everything else that leaves nothing to be settled.
    Control,
    Publish,
    Consume {
        incoming: Arc<DeliveryQueue>,
        lease: Arc<Lease>,
        names: Names,
        /// `basic.cancel` was sent: what still comes goes back to the queue.
        returning: bool,
    },
    /// One `basic.get` with acks at a time; its delivery keeps the channel until it is settled.
    Get(Arc<ChannelAcks>),
    /// Its consumer is gone, some deliveries are still with the application.
    Draining(Arc<ChannelAcks>),
    /// Closed by us; the broker's close-ok is to come and everything before it is ignored.
    Closing,
}

impl ChannelKind {
    /// The deliveries on the channel, if they are to be settled. They also tell which channel it is: another that has got
    /// its number has others.
    pub fn acks(&self) -> Option<&Arc<ChannelAcks>> {
        match self {
            ChannelKind::Consume { lease, .. } => Some(&lease.acks),
            ChannelKind::Get(acks) | ChannelKind::Draining(acks) => Some(acks),
            ChannelKind::Control | ChannelKind::Publish | ChannelKind::Closing => None,
        }
    }
}

pub(crate) struct Channel {
    pub kind: ChannelKind,
    /// The window of the publishes on it: those of a publish channel, or those a direct reply consumer's answers
    /// come back for.
    pub publishing: Option<Arc<Publishing>>,
    pub rpcs: VecDeque<Rpc>,
    pub content: Option<Content>,
}

impl Channel {
    /// Whether confirms and returns may come on it. Those of requests may still be on their way when the consumer of
    /// their answers is gone, and with it their window.
    pub fn may_publish(&self) -> bool {
        self.publishing.is_some() || matches!(self.kind, ChannelKind::Draining(_))
    }
}

/// The channels of a connection by number; 0 is the connection itself and never in here.
#[derive(Default)]
pub(crate) struct Channels {
    slots: Vec<Option<Box<Channel>>>,
    free: Vec<u16>,
    max: u16,
}

impl Channels {
    pub fn new(max: u16) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), max }
    }

    /// Reserves a number for a channel; the caller sends `channel.open` as its first method. `None` at the negotiated
    /// limit.
    pub fn open(&mut self, kind: impl FnOnce(u16) -> ChannelKind) -> Option<u16> {
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.slots.len() < usize::from(self.max) => {
                self.slots.push(None);
                self.slots.len() as u16
            }
            None => return None,
        };
        let channel = Channel { kind: kind(number), publishing: None, rpcs: VecDeque::new(), content: None };
        self.slots[usize::from(number) - 1] = Some(Box::new(channel));
        Some(number)
    }

    pub fn get(&mut self, number: u16) -> Option<&mut Channel> {
        self.slots.get_mut(usize::from(number).checked_sub(1)?)?.as_deref_mut()
    }

    pub fn remove(&mut self, number: u16) -> Option<Channel> {
        let channel = self.slots.get_mut(usize::from(number).checked_sub(1)?)?.take()?;
        self.free.push(number);
        Some(*channel)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u16, &mut Channel)> {
        self.slots
            .iter_mut()
            .enumerate()
            .filter_map(|(place, slot)| Some((place as u16 + 1, slot.as_deref_mut()?)))
    }

    /// All channels, front to back, leaving none.
    pub fn drain(&mut self) -> impl Iterator<Item = Channel> {
        self.free.clear();
        std::mem::take(&mut self.slots).into_iter().flatten().map(|channel| *channel)
    }
}

#[cfg(test)]
#[path = "channel_tests.rs"]
mod tests;
