//! Channels and connections that the broker closed over a method: who is told, and what is sent again.

use crate::{
    Error, ErrorKind,
    engine::{
        Engine,
        channel::ChannelKind,
        record::Item,
        refusal,
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

    /// The broker closed a channel: the first method that waits for a reply is the one it refused; those behind it
    /// were not looked at and are sent again on a new channel.
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
            publishing.with(|window| window.channel_refused(&error, missing_exchange(reply)));
        }
        match &channel.kind {
            ChannelKind::Control => {
                if let Some(rpc) = refused {
                    self.fail_waiter(rpc, Some(reply));
                }
                self.control_refused(number, channel.rpcs);
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

    /// Tells whoever waits for a method that it was refused.
    pub(in crate::engine) fn fail_waiter(&mut self, rpc: Rpc, reply: Option<&Reply>) {
        let host = self.live.host.clone();
        let error = |name: &str| match reply {
            Some(reply) => Error::refusal(name, reply.clone()),
            None => no_channel(&host, name),
        };
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
                let what = Item::Binding(binding).to_string();
                let error = error(&format!("{what}, again"));
                self.not_restored(NotRestored { what, error });
            }
            ExpectedReply::Locked { name, since } => {
                let error = error(&format!("queue '{name}', again"));
                self.locked_answered(name, since, Err(error));
            }
        }
    }

    /// Fails the one operation that the broker closed the connection for.
    pub(in crate::engine) fn fail_culprit(&mut self, culprit: (u16, u16), error: &Error) {
        if culprit == (60, 20) {
            self.connection_ended_over_consume(error);
            return;
        }
        let refused = self
            .live
            .channels
            .iter_mut()
            .map(|(_, channel)| channel)
            .find(|channel| channel.rpcs.front().is_some_and(|rpc| ids(&rpc.method) == culprit))
            .and_then(|channel| channel.rpcs.pop_front());
        match refused {
            Some(Rpc { expected: ExpectedReply::Replay(item), .. }) => {
                // Declared again after the next reconnect, it would end that connection too.
                self.forget_item(&item);
                self.given_up.push(NotRestored { what: item.to_string(), error: error.clone() });
            }
            Some(rpc) => self.fail_waiter(rpc, error.reply()),
            None => {}
        }
    }
}

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

/// The exchange that a 404 or 403 for a publish is about: `NOT_FOUND - no exchange 'x' in vhost '/'`.
fn missing_exchange(reply: &Reply) -> Option<&str> {
    if !matches!(reply.code, 403 | 404) {
        return None;
    }
    let (_, rest) = reply.text.split_once("exchange '")?;
    // Greedy, because the name itself may have a quote in it.
    rest.rsplit_once("' in vhost").map(|(name, _)| name)
}
