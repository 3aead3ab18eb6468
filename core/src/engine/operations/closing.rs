//! The orderly end of a connection: consumers cancelled, their deliveries settled where the close drains, publishes
//! confirmed, acks sent, then `connection.close`.

use amq_protocol::protocol::{AMQPClass, connection};
use tokio::time::Instant;

use crate::{
    Error, ErrorKind, Result,
    engine::{Ended, Engine, channel::ChannelKind, closed, command::Pending},
    wire::encode,
};

/// The orderly end that was asked for.
pub(in crate::engine) struct Closing {
    pub(in crate::engine) drain: bool,
    pub(in crate::engine) reply: Pending<()>,
    /// Who asked for it again meanwhile; they wait for the same end, each until its own deadline.
    others: Vec<Pending<()>>,
    /// The deadline passed first.
    pub(in crate::engine) late: bool,
}

impl Closing {
    pub(in crate::engine) fn is_given_up(&self) -> bool {
        self.others.iter().chain([&self.reply]).all(Pending::is_given_up)
    }

    pub(in crate::engine) fn deadlines(&self) -> impl Iterator<Item = Instant> {
        self.others.iter().chain([&self.reply]).map(|reply| reply.deadline)
    }

    pub(in crate::engine) fn answer(&mut self, result: &Result<()>) {
        for reply in self.others.iter_mut().chain([&mut self.reply]) {
            reply.answer(result.clone());
        }
    }
}

impl Engine {
    pub(super) fn begin_close(&mut self, drain: bool, reply: Pending<()>) {
        if let Some(closing) = &mut self.closing {
            // The first caller decides whether unsettled deliveries are waited for. Once nobody waits for that close
            // any more, a later caller does.
            if closing.is_given_up() {
                closing.drain = drain;
            }
            closing.others.push(reply);
            return;
        }
        for command in std::mem::take(&mut self.deferred) {
            command.fail(closed());
        }
        let ids: Vec<u64> = self.consumers.keys().copied().collect();
        for id in ids {
            self.cancel(id, Pending { name: "close".into(), deadline: reply.deadline, to: None });
        }
        self.closing = Some(Closing { drain, reply, others: Vec::new(), late: false });
    }

    /// Whether a close without a connection has nothing to connect for: no publish waits for its outcome, or it waited
    /// too long.
    pub(in crate::engine) fn close_is_done(&mut self) -> bool {
        self.closing.is_some() && (self.finish_publishing() || self.close_is_late())
    }

    /// Takes no new publishes; returns whether those that were taken have their outcome. The broker does not read from
    /// a connection that it blocks, so a publish that was given up there may get no confirm and is not waited for.
    fn finish_publishing(&self) -> bool {
        self.windows().all(|publishing| {
            publishing.with(|window| {
                window.refuse_new();
                window.is_empty() || (self.live.blocked && window.is_decided())
            })
        })
    }

    /// Whether nobody needs the answer to the close that was sent. RabbitMQ reads nothing from a connection that it
    /// blocks, and would answer at the end of the alarm; only acks and cancels that it has not read are worth that
    /// wait.
    pub(in crate::engine) fn need_not_wait_for_close(&mut self) -> bool {
        self.live.close_sent
            && self.live.blocked
            && !self.live.channels.iter_mut().any(|(_, channel)| channel.kind.acks().is_some())
    }

    /// Whether the close is past the deadline of its first caller, who is told so when the engine is gone. A later
    /// caller whose own deadline is past is told here.
    fn close_is_late(&mut self) -> bool {
        let now = Instant::now();
        let Some(closing) = self.closing.as_mut() else { return false };
        for mut late in closing.others.extract_if(.., |reply| reply.deadline <= now) {
            let text = "close: the deadline passed; the client is still being closed";
            late.answer(Err(Error::new(ErrorKind::Timeout, text)));
        }
        if closing.reply.deadline > now {
            return false;
        }
        tracing::warn!(role = %self.role, "closing took longer than its deadline; what was open is dropped");
        closing.late = true;
        true
    }

    /// Takes the next step of a close whose condition is met.
    pub(in crate::engine) fn advance_close(&mut self) -> Option<Ended> {
        let drain = self.closing.as_ref()?.drain;
        if self.close_is_late() {
            return Some(Ended::Closed);
        }
        if self.live.close_sent || self.live.replay.is_some() {
            return None;
        }
        // The application may still publish while it handles deliveries.
        if drain && self.has_unsettled() {
            return None;
        }
        if !self.finish_publishing() {
            return None;
        }
        let close =
            connection::Close { reply_code: 200, reply_text: "goodbye".into(), class_id: 0, method_id: 0 };
        encode::method(&mut self.live.out, 0, &AMQPClass::Connection(connection::AMQPMethod::Close(close)));
        self.live.close_sent = true;
        None
    }

    /// Whether the application still works on deliveries, or a cancel is on its way.
    fn has_unsettled(&mut self) -> bool {
        self.live.channels.iter_mut().any(|(_, channel)| match &channel.kind {
            ChannelKind::Consume { .. } => true,
            ChannelKind::Draining(acks) | ChannelKind::Get(acks) => !acks.all_settled(),
            ChannelKind::Control | ChannelKind::Publish | ChannelKind::Closing => false,
        })
    }
}

/// What a close is told that took longer than its deadline.
pub(in crate::engine) fn closed_late() -> Error {
    Error::new(
        ErrorKind::Timeout,
        "close: the deadline passed before everything was settled; the connection is dropped",
    )
    .with_outcome_unknown()
}
