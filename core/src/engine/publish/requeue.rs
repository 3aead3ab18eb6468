//! What becomes of the unconfirmed when their connection or channel is lost: sent again, or failed. An error says that the
//! outcome is known only where the broker certainly has no copy.

use super::{
    Outgoing,
    slots::Place,
    window::{Copies, Route, Window},
};
use crate::{
    Error,
    error::{ACCESS_REFUSED, NOT_FOUND, Reply},
};

/// Why a connection is gone, as far as publishes are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// Not for a publish.
    None,
    /// Perhaps for one of the publishes that were on the wire.
    OneOfThem,
    /// For the only publish that was on the wire, in whichever window of the connection.
    TheOnlyOne,
}

impl Window {
    /// Publishes that are on the wire without a confirm, those included that were given up.
    pub fn on_wire(&self) -> usize {
        self.sent.len()
    }

    /// How many of the publishes that wait have been on the wire before.
    pub fn to_republish(&self) -> usize {
        self.queue.iter().filter(|index| self.slots[*index].doubt).count()
    }

    /// Takes what is on the wire off it, in order. Publishes that were given up leave the window.
    fn recall(&mut self) -> Vec<u32> {
        self.partial = None;
        let mut recalled = Vec::with_capacity(self.sent.len());
        for index in self.sent.drain() {
            let slot = &mut self.slots[index];
            slot.returned = None;
            if slot.publish.is_some() {
                recalled.push(index);
            } else {
                self.leave_window(index);
            }
        }
        recalled
    }

    /// Puts recalled publishes back to the front of the queue, in order.
    fn requeue(&mut self, recalled: Vec<u32>) {
        for index in recalled.into_iter().rev() {
            let slot = &mut self.slots[index];
            slot.doubt = true;
            slot.place = Place::Queued(self.queue.push_front(index));
        }
    }

    /// The connection is gone. The unconfirmed wait to be sent again, or fail with `error` if they must not be.
    pub fn disconnect(&mut self, republish: bool, error: &Error, blame: Blame) {
        // Sent alone because one of several was refused before, and the connection is gone again.
        let found = blame != Blame::None && self.singly > 0 && self.sent.len() == 1;
        let copies = if blame == Blame::TheOnlyOne { Copies::Refused } else { Copies::AsSent };
        let recalled = self.recall();
        if matches!(self.route, Route::Open { .. }) {
            self.route = Route::Down;
        }
        self.blocked = false;
        self.stopped = false;
        self.failure = Some(error.clone());
        if !republish || found {
            self.singly = self.singly.saturating_sub(recalled.len());
            for index in recalled {
                self.fail(index, error.clone(), copies);
            }
        } else {
            if blame != Blame::None {
                self.singly = recalled.len();
            }
            self.requeue(recalled);
        }
    }

    /// The broker closed the channel, as the reply of `error` says.
    ///
    /// It took the publishes before the one that it refused and did not look at those behind it. Where it says enough to
    /// tell which one that was, that one fails; where several may be meant, they all fail and the outcome is unknown, since
    /// some of them may have been taken; where it says nothing, all are sent again one at a time, until the refused one is
    /// alone. The others are sent again.
    pub fn channel_refused(&mut self, error: &Error) {
        let reply = error.reply();
        let method = reply.map_or((0, 0), |reply| (reply.class_id, reply.method_id));
        let culprit = reply.map(Culprit::of).unwrap_or_default();
        // With those that were given up, which may be what it is about.
        let alone = self.sent.len() == 1;
        let all_known = self.sent.iter().all(|index| self.slots[index].publish.is_some());
        let recalled = self.recall();
        self.route = Route::Down;
        self.stopped = false;
        if !matches!(method, PUBLISH | (0, 0)) {
            // Another method was refused; publishes behind it were not looked at.
            self.requeue(recalled);
            return;
        }
        let (mut suspects, mut others): (Vec<u32>, Vec<u32>) = recalled
            .into_iter()
            .partition(|index| self.slots[*index].publish.as_ref().is_some_and(|out| culprit.may_be(out)));
        if alone && suspects.is_empty() {
            std::mem::swap(&mut suspects, &mut others);
        }
        if suspects.is_empty() {
            self.singly = others.len();
        } else {
            self.singly = self.singly.saturating_sub(suspects.len());
        }
        let certain = suspects.len() == 1 && all_known && reply.is_some_and(is_refusal);
        for index in suspects {
            self.fail(index, error.clone(), if certain { Copies::Refused } else { Copies::AsSent });
        }
        self.requeue(others);
    }

    /// No publish will be sent any more; all that is unresolved fails with `error`.
    pub fn close(&mut self, error: &Error) {
        let recalled = self.recall();
        let queued: Vec<u32> = self.queue.drain().collect();
        for index in recalled.into_iter().chain(queued) {
            self.fail(index, error.clone(), Copies::AsSent);
        }
        self.route = Route::Closed(error.clone());
        self.wake.extend(self.admission.wakers());
    }
}

/// Class and method id of `basic.publish`.
const PUBLISH: (u16, u16) = (60, 40);

/// Whether the broker certainly did not take the publish that the reply is about. RabbitMQ checks a publish before it is
/// routed; only a failure of its own (506, 541) may come after some queue has the message.
pub(crate) fn is_refusal(reply: &Reply) -> bool {
    (reply.class_id, reply.method_id) == PUBLISH && !matches!(reply.code, 506 | 541)
}

/// What the broker's text says of the publish it refused. `RabbitMQ` 3.10:
/// `NOT_FOUND - no exchange 'x' in vhost '/'`,
/// `ACCESS_REFUSED - access to exchange 'x' in vhost '/' refused for user 'u'` and
/// `ACCESS_REFUSED - access to topic 'a.b' in exchange 'x' in vhost '/' refused for user 'u'`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Culprit<'a> {
    exchange: Option<&'a str>,
    routing_key: Option<&'a str>,
}

impl<'a> Culprit<'a> {
    fn of(reply: &'a Reply) -> Self {
        if !matches!(reply.code, ACCESS_REFUSED | NOT_FOUND) {
            return Self::default();
        }
        let text = reply.text.as_str();
        let (routing_key, rest) =
            match text.split_once(" topic '").and_then(|(_, rest)| rest.split_once("' in exchange")) {
                Some((key, rest)) => (Some(key), rest),
                // The broker cuts its text at 255 bytes.
                None if text.contains(" topic '") => return Self::default(),
                None => (None, text.split_once("exchange").map_or("", |(_, rest)| rest)),
            };
        // The name itself may have a quote in it.
        let exchange = rest.split_once('\'').and_then(|(_, rest)| rest.rsplit_once("' in vhost"));
        match exchange {
            Some((exchange, _)) => Self { exchange: Some(exchange), routing_key },
            None => Self::default(),
        }
    }

    /// Whether the text can be about this publish; never when it names no exchange.
    fn may_be(&self, out: &Outgoing) -> bool {
        self.exchange == Some(&*out.exchange) && self.routing_key.is_none_or(|key| key == &*out.routing_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn culprit(code: u16, text: &str) -> (Option<String>, Option<String>) {
        let reply = Reply { code, text: text.into(), class_id: 60, method_id: 40 };
        let culprit = Culprit::of(&reply);
        (culprit.exchange.map(Into::into), culprit.routing_key.map(Into::into))
    }

    #[test]
    fn the_exchange_and_the_routing_key_are_read_off_the_brokers_text() {
        let some =
            |exchange: &str, key: Option<&str>| (Some(exchange.to_owned()), key.map(ToOwned::to_owned));
        let none = (None, None);
        for (code, text, expected) in [
            (404, "NOT_FOUND - no exchange 'x' in vhost '/'", some("x", None)),
            (404, "NOT_FOUND - no exchange 'it's' in vhost '/'", some("it's", None)),
            (
                403,
                "ACCESS_REFUSED - access to exchange 'x' in vhost '/' refused for user 'u'",
                some("x", None),
            ),
            (
                403,
                "ACCESS_REFUSED - write access to exchange 'x' in vhost '/' refused for user 'u'",
                some("x", None),
            ),
            (403, "ACCESS_REFUSED - cannot publish to internal exchange 'x' in vhost '/'", some("x", None)),
            (
                403,
                "ACCESS_REFUSED - access to topic 'a.b' in exchange 'x' in vhost '/' refused for user 'u'",
                some("x", Some("a.b")),
            ),
            (
                403,
                "ACCESS_REFUSED - write access to topic 'exchange 'y'' in exchange exchange 'x' in vhost '/' refused",
                some("x", Some("exchange 'y'")),
            ),
            (403, "ACCESS_REFUSED - access to topic 'a.b", none.clone()),
            (404, "NOT_FOUND - no exchange 'cut", none.clone()),
            (
                406,
                "PRECONDITION_FAILED - user_id property set to 'x' in exchange 'y' in vhost '/'",
                none.clone(),
            ),
            (404, "gone", none),
        ] {
            assert_eq!(culprit(code, text), expected, "{text}");
        }
    }
}
