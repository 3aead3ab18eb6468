//! Channels and connections that the broker closed over a method: who is told, and what is sent again.

use crate::{
    Error, ErrorKind,
    engine::{
        Engine,
        channel::ChannelKind,
        record::Item,
        refusal,
        replay::Replay,
        rpc::{ExpectedReply, Rpc},
    },
    error::Reply,
    events::NotRestored,
    wire::ids,
};

impl Engine {
    pub(in crate::engine) fn no_channel(&self, name: &str) -> Error {
        no_channel(&self.live.host, name)
    }

    /// The broker closed a channel. Unless it names `basic.publish`, it refused the first method that waits for a
    /// reply, and did not look at those behind it. On a control channel and on that of a get, these are sent again on a
    /// new channel.
    pub(in crate::engine) fn channel_closed(&mut self, number: u16, reply: &Reply) {
        let Some(mut channel) = self.live.channels.remove(number) else {
            return;
        };
        self.live.idle_gets.retain(|idle| *idle != number);
        let on_publish = (reply.class_id, reply.method_id) == (60, 40);
        let refused = if on_publish { None } else { channel.rpcs.pop_front() };
        if let Some(rpc) = &refused
            && reply.class_id != 0
            && ids(&rpc.method) != (reply.class_id, reply.method_id)
        {
            tracing::warn!(%number, ?reply, "the broker closed a channel for another method than the one in turn");
        }
        if let Some(publishing) = channel.publishing.take() {
            let error = refusal("publish", reply.code, &reply.text, reply.class_id, reply.method_id);
            publishing.with(|window| window.channel_refused(&error));
        }
        match &channel.kind {
            ChannelKind::Control => {
                // First, so that what follows from the refusal is sent on a channel that is open.
                self.control_refused(number, channel.rpcs);
                if let Some(rpc) = refused {
                    self.fail_waiter(rpc, Some(reply));
                }
            }
            ChannelKind::Publish => self.open_publishing(),
            ChannelKind::Get(acks) => {
                acks.mark_stale();
                if let Some(rpc) = refused {
                    self.fail_waiter(rpc, Some(reply));
                }
                for rpc in channel.rpcs {
                    if let Some(command) = rpc.expected.into_command(rpc.method) {
                        self.on_command(command);
                    }
                }
            }
            ChannelKind::Consume { incoming, lease, .. } => {
                lease.acks.mark_stale();
                let id = incoming.id;
                self.consumer_channel_closed(id, number, refused.into_iter().chain(channel.rpcs), reply);
            }
            ChannelKind::Draining(acks) => {
                acks.mark_stale();
                for rpc in refused.into_iter().chain(channel.rpcs) {
                    self.fail_waiter(rpc, Some(reply));
                }
            }
            ChannelKind::Closing => {}
        }
    }

    /// Tells the caller of a method that the broker refused it; without a `reply`, that no channel was free for it.
    pub(in crate::engine) fn fail_waiter(&mut self, rpc: Rpc, reply: Option<&Reply>) {
        let host = self.live.host.clone();
        self.fail_waiter_with(rpc, &|name| match reply {
            Some(reply) => Error::refusal(name, reply.clone()),
            None => no_channel(&host, name),
        });
    }

    /// Tells whoever waits for a method why it was not done.
    pub(super) fn fail_waiter_with(&mut self, rpc: Rpc, error: &dyn Fn(&str) -> Error) {
        match rpc.expected {
            ExpectedReply::Step | ExpectedReply::Cancel(_) => {}
            ExpectedReply::Call(mut call) => {
                let error = error(&call.reply.name);
                call.reply.answer(Err(error));
            }
            ExpectedReply::Get(mut get) => {
                let error = error(&get.reply.name);
                get.reply.answer(Err(error));
            }
            ExpectedReply::Consume(consumer) => {
                let error = error("consume");
                self.consume_refused(consumer, &error);
            }
            ExpectedReply::Recovered(mut reply) => {
                let error = error(&reply.name);
                reply.answer(Err(error));
            }
            ExpectedReply::Replay(item) => {
                let error = error(&format!("{item}, again"));
                self.replayed(item, Err(error));
            }
            ExpectedReply::Bind(binding) => {
                let error = error(&format!("{}, again", Item::Binding(binding.clone())));
                self.late_binding_refused(binding, error);
            }
            ExpectedReply::Locked { name, since } => {
                let error = error(&format!("queue '{name}', again"));
                self.locked_answered(name, since, Err(error));
            }
        }
    }

    /// The broker has ended the connection with an error: fails the operation that it did so over. Otherwise it would be
    /// sent again on the next connection, and end that one too.
    pub(in crate::engine) fn fail_culprit(&mut self, error: &Error) {
        let told = |replay: &Option<Replay>| replay.as_ref().map_or(0, |replay| replay.restored.failed.len());
        let before = told(&self.live.replay);
        self.find_culprit(error);
        // The event that ends this recovery will not come.
        if let Some(replay) = &mut self.live.replay {
            self.given_up.extend(replay.restored.failed.drain(before..));
        }
    }

    fn find_culprit(&mut self, error: &Error) {
        let Some(reply) = error.reply().cloned() else {
            return;
        };
        if (reply.class_id, reply.method_id) == CONSUME {
            // Which of several consumers it is over is the consumers' to find out.
            self.connection_ended_over_consume(error);
        } else if let Some(culprit) = self.take_named(&reply) {
            self.give_up(culprit, &reply, false);
        } else if reply.code >= LEAST_HARD_ERROR && (reply.class_id, reply.method_id) == (0, 0) {
            // An error of the broker itself, and one of a frame, name no method.
            let mut suspects = self.suspects();
            match (suspects.next(), suspects.next()) {
                (Some(channel), None) => {
                    drop(suspects);
                    if let Some(culprit) = self.take_suspect(channel) {
                        self.give_up(culprit, &reply, true);
                    }
                }
                (Some(_), Some(_)) => {
                    drop(suspects);
                    self.careful_next = true;
                }
                (None, _) => {}
            }
        }
    }

    /// The channels of the methods without an answer that would be sent again.
    fn suspects(&mut self) -> impl Iterator<Item = u16> {
        self.live.channels.iter_mut().flat_map(|(number, channel)| {
            channel.rpcs.iter().filter(|rpc| rpc.expected.comes_again()).map(move |_| number)
        })
    }

    fn take_suspect(&mut self, number: u16) -> Option<Rpc> {
        let rpcs = &mut self.live.channels.get(number)?.rpcs;
        let place = rpcs.iter().position(|rpc| rpc.expected.comes_again())?;
        rpcs.remove(place)
    }

    /// The method that the broker names.
    fn take_named(&mut self, reply: &Reply) -> Option<Rpc> {
        let named = (reply.class_id, reply.method_id);
        self.live
            .channels
            .iter_mut()
            .map(|(_, channel)| channel)
            .find(|channel| channel.rpcs.front().is_some_and(|rpc| ids(&rpc.method) == named))
            .and_then(|channel| channel.rpcs.pop_front())
    }

    /// Tells of an operation that has ended the connection; what is recorded is not declared again.
    fn give_up(&mut self, culprit: Rpc, reply: &Reply, unknown: bool) {
        let error = |name: &str| {
            let error = Error::refusal(name, reply.clone());
            if unknown { error.with_outcome_unknown() } else { error }
        };
        match &culprit.expected {
            ExpectedReply::Replay(item) => {
                self.record.forget_item(item);
                self.count_record();
                let what = item.to_string();
                let error = error(&format!("{what}, again"));
                self.given_up.push(NotRestored { what, error });
            }
            ExpectedReply::Consume(id) => self.consumer_broke(*id, error("consume")),
            _ => self.fail_waiter_with(culprit, &error),
        }
    }

    /// Whether no operation waits for its answer.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.live.control.unsent.is_empty() && self.suspects().next().is_none()
    }
}

/// `basic.consume`.
const CONSUME: (u16, u16) = (60, 20);

/// The reply codes from here on are errors of the connection (AMQP 0-9-1 section 1.2).
const LEAST_HARD_ERROR: u16 = 501;

/// The error of what needs a channel when none is free.
fn no_channel(host: &str, name: &str) -> Error {
    Error::new(
        ErrorKind::LimitReached,
        format!(
            "{name}: all channels that were negotiated with {host} are in use; raise channel_max here and at the broker, \
             or use another client"
        ),
    )
}
