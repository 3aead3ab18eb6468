//! A channel: what is out on it, what it confirms, and what content is just coming in.

use std::{collections::BTreeMap, sync::Arc};

use amq_protocol::protocol::basic;
use bytes::BytesMut;

use super::{
    QueueId,
    message::Stored,
    refusal::{Answer, Refusal},
};
use crate::wire::{encode, properties::ContentHeader};

/// A delivery that is not settled.
#[derive(Debug)]
pub(super) struct Unacked {
    pub queue: QueueId,
    /// The consumer's; `None` for `basic.get`.
    pub tag: Option<Arc<str>>,
    pub stored: Stored,
}

/// A publish of which more is to come.
#[derive(Debug)]
pub(super) struct Content {
    pub publish: basic::Publish,
    pub header: Option<ContentHeader>,
    pub body: BytesMut,
}

/// Publisher confirms (RabbitMQ extension). Acks are held back to the end of a batch and sent as one.
#[derive(Debug, Default)]
pub(super) struct Confirms {
    last: u64,
    sent: u64,
}

#[derive(Debug, Default)]
pub(super) struct Channel {
    /// `channel.close` was sent; everything but its answer is ignored.
    pub closing: bool,
    pub confirms: Option<Confirms>,
    pub next_delivery: u64,
    pub unacked: BTreeMap<u64, Unacked>,
    /// For the consumers to come.
    pub prefetch: u16,
    /// For all consumers together; 0 is without a limit.
    pub global_prefetch: u16,
    pub consumers: BTreeMap<Arc<str>, QueueId>,
    /// The queue declared last, which an empty name stands for.
    pub last_queue: Option<String>,
    pub content: Option<Content>,
    /// Consumer tag and key of the direct reply consumer.
    pub replies: Option<(Arc<str>, String)>,
}

impl Channel {
    /// Whether the limit of the channel allows one more delivery.
    pub fn can_take(&self, no_ack: bool) -> bool {
        no_ack || self.global_prefetch == 0 || self.unacked.len() < usize::from(self.global_prefetch)
    }

    /// Takes out what an ack, nack or reject of `tag` is about, oldest first.
    pub fn settle(&mut self, tag: u64, multiple: bool) -> Answer<Vec<(u64, Unacked)>> {
        let unknown = || Refusal::precondition(format!("unknown delivery tag {tag}"));
        if !multiple {
            return Ok(vec![(tag, self.unacked.remove(&tag).ok_or_else(unknown)?)]);
        }
        if tag == 0 {
            return Ok(std::mem::take(&mut self.unacked).into_iter().collect());
        }
        if !self.unacked.contains_key(&tag) {
            return Err(unknown());
        }
        let later = self.unacked.split_off(&(tag + 1));
        Ok(std::mem::replace(&mut self.unacked, later).into_iter().collect())
    }

    /// The publish just handled is confirmed, if this channel confirms.
    pub fn confirm(&mut self, out: &mut Vec<u8>, number: u16, accepted: bool) {
        let Some(confirms) = &mut self.confirms else { return };
        confirms.last += 1;
        if !accepted {
            let tag = confirms.last;
            confirms.last -= 1;
            self.flush_confirms(out, number);
            encode::nack(out, number, tag, false, false);
            self.confirms = Some(Confirms { last: tag, sent: tag });
        }
    }

    /// Sends the acks that were held back.
    pub fn flush_confirms(&mut self, out: &mut Vec<u8>, number: u16) {
        let Some(confirms) = &mut self.confirms else { return };
        if confirms.sent < confirms.last {
            encode::ack(out, number, confirms.last, confirms.last - confirms.sent > 1);
            confirms.sent = confirms.last;
        }
    }
}
