//! What to do with a command, and with the broker's answer to it.

use std::sync::Arc;

use amq_protocol::protocol::{AMQPClass, basic, connection, queue};
use tokio::time::Instant;

use super::{
    Closing, Ended, Engine,
    acks::ChannelAcks,
    channel::{ChannelKind, ExpectedReply, Rpc, open_method},
    closed,
    command::{Answer, Command, Get, Pending, TopologyChange},
    consuming::has_ended,
    replay::Item,
};
use crate::{
    Error, ErrorKind,
    error::Reply,
    events::NotRestored,
    topology::QueueInfo,
    wire::{encode, ids},
};

impl Engine {
    /// Takes what handles have asked for since the last turn.
    pub(super) fn read_mail(&mut self) {
        let mail = self.link.take_mail();
        for acks in mail.acks {
            self.flush_acks(&acks);
            self.close_if_drained(&acks);
        }
        for command in mail.commands {
            self.arm(command.deadline());
            self.on_command(command);
        }
    }

    /// As [`Self::read_mail`] while there is no connection.
    pub(super) fn defer_mail(&mut self) {
        for command in self.link.take_mail().commands {
            self.arm(command.deadline());
            match command {
                Command::Forget { name } => self.forget(&name),
                // The channel is gone with its connection.
                Command::Release { .. } => {}
                Command::Close { drain, reply } => self.begin_close(drain, reply),
                Command::Cancel { consumer, reply } => self.cancel(consumer, reply),
                command => self.deferred.push_back(command),
            }
        }
    }

    fn arm(&mut self, deadline: Option<Instant>) {
        if let Some(deadline) = deadline {
            self.armed = Some(self.armed.map_or(deadline, |armed| armed.min(deadline)));
        }
    }

    /// Takes commands that waited for the topology to be back.
    pub(super) fn resume_commands(&mut self) {
        for command in std::mem::take(&mut self.deferred) {
            self.on_command(command);
        }
    }

    pub(super) fn on_command(&mut self, command: Command) {
        match command {
            Command::Release { acks } => self.release(&acks),
            Command::Forget { name } => self.forget(&name),
            Command::Close { drain, reply } => self.begin_close(drain, reply),
            Command::Cancel { consumer, reply } => self.cancel(consumer, reply),
            // Everything else relies on the topology, which is on its way back.
            command if self.live.replay.is_some() => self.deferred.push_back(command),
            command if self.closing.is_some() => command.fail(closed()),
            Command::Call(mut call) => {
                let method = std::mem::replace(&mut call.method, open_method());
                match self.control_channel() {
                    Some(control) => self.request(control, method, ExpectedReply::Call(call)),
                    None => call.reply.answer(Err(self.no_channel(&call.reply.name))),
                }
            }
            Command::Get(get) => self.get(get),
            Command::Consume { incoming, reply } => self.consume(incoming, reply),
            Command::SetPrefetch { consumer, prefetch, reply } => {
                self.set_prefetch(consumer, prefetch, reply);
            }
            Command::Recover { consumer, reply } => self.recover(consumer, reply),
            Command::UpdateSecret { secret, reason, reply } => {
                let method = connection::AMQPMethod::UpdateSecret(connection::UpdateSecret {
                    new_secret: secret.as_bytes().into(),
                    reason: amq_protocol::types::ShortString::try_new(reason).unwrap_or_default(),
                });
                encode::method(&mut self.live.out, 0, &AMQPClass::Connection(method));
                self.live.secrets.push_back(reply);
            }
        }
    }

    pub(super) fn no_channel(&self, name: &str) -> Error {
        Error::new(
            ErrorKind::LimitReached,
            format!(
                "{name}: all channels that were negotiated with {} are in use; raise channel_max here and at the \
                 broker, or use another client",
                self.live.host
            ),
        )
    }

    /// Sends a method and remembers who waits for its reply.
    pub(super) fn request(&mut self, number: u16, method: AMQPClass, expected: ExpectedReply) {
        encode::method(&mut self.live.out, number, &method);
        if let Some(channel) = self.live.channels.get(number) {
            channel.rpcs.push_back(Rpc { method, expected });
        }
    }

    /// Opens a channel; what is sent on it may follow at once.
    pub(super) fn open_channel(&mut self, kind: impl FnOnce(u16) -> ChannelKind) -> Option<u16> {
        let number = self.live.channels.open(kind)?;
        self.request(number, open_method(), ExpectedReply::Step);
        Some(number)
    }

    pub(super) fn control_channel(&mut self) -> Option<u16> {
        if self.live.control == 0 {
            self.live.control = self.open_channel(|_| ChannelKind::Control)?;
        }
        Some(self.live.control)
    }

    /// Closes a channel from our side (AMQP 0-9-1 section 1.5.2.5).
    pub(super) fn close_channel(&mut self, number: u16) {
        use amq_protocol::protocol::channel::{AMQPMethod, Close};
        let Some(channel) = self.live.channels.get(number) else {
            return;
        };
        if matches!(channel.kind, ChannelKind::Closing) {
            return;
        }
        // What is settled from now on must not be sent any more; the broker requeues it.
        if let Some(acks) = channel.kind.acks().filter(|acks| !acks.all_settled()) {
            acks.mark_stale();
        }
        channel.kind = ChannelKind::Closing;
        let mut again = Vec::new();
        for rpc in std::mem::take(&mut channel.rpcs) {
            match rpc.expected {
                ExpectedReply::Cancel(mut reply) => reply.answer(Ok(())),
                // The broker has cancelled the consumer meanwhile.
                ExpectedReply::Done(mut reply) | ExpectedReply::Recovered(mut reply) => {
                    let error = has_ended(&reply.name);
                    reply.answer(Err(error));
                }
                expected => again.extend(expected.into_command(rpc.method)),
            }
        }
        channel.content = None;
        channel.publishing = None;
        let close = Close { reply_code: 200, reply_text: "done".into(), class_id: 0, method_id: 0 };
        encode::method(&mut self.live.out, number, &AMQPClass::Channel(AMQPMethod::Close(close)));
        for command in again {
            self.on_command(command);
        }
    }

    /// The channel of these deliveries, while it is still theirs: its number may be another's by now.
    fn channel_of(&mut self, acks: &Arc<ChannelAcks>) -> Option<&ChannelKind> {
        let kind = &self.live.channels.get(acks.channel)?.kind;
        kind.acks().is_some_and(|its| Arc::ptr_eq(its, acks)).then_some(kind)
    }

    fn release(&mut self, acks: &Arc<ChannelAcks>) {
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

    // ---- get -------------------------------------------------------------------------------------------------

    /// `basic.get`. One that is to be acked has a channel of its own, so that the refusal of another operation cannot
    /// requeue its message; without acks there is nothing to requeue.
    fn get(&mut self, mut get: Get) {
        let number = if get.no_ack { self.control_channel() } else { self.channel_for_a_get() };
        let Some(number) = number else {
            get.reply.answer(Err(self.no_channel(&get.reply.name)));
            return;
        };
        let method = basic::AMQPMethod::Get(basic::Get {
            queue: amq_protocol::types::ShortString::try_new(get.queue.clone()).unwrap_or_default(),
            no_ack: get.no_ack,
        });
        self.request(number, AMQPClass::Basic(method), ExpectedReply::Get(get));
    }

    fn channel_for_a_get(&mut self) -> Option<u16> {
        if let Some(number) = self.live.idle_gets.pop() {
            return Some(number);
        }
        let (link, epoch) = (self.link.clone(), self.epoch);
        self.open_channel(|number| ChannelKind::Get(ChannelAcks::new(link, number, epoch, false)))
    }

    // ---- answers ---------------------------------------------------------------------------------------------

    pub(super) fn on_answer(&mut self, number: u16, rpc: Rpc, reply: AMQPClass) {
        match rpc.expected {
            ExpectedReply::Step | ExpectedReply::Bind(_) => {}
            ExpectedReply::Call(mut call) => {
                let answer = self.record_effect(call.effect, &reply);
                call.reply.answer(Ok(answer));
            }
            ExpectedReply::Get(mut get) => {
                get.reply.answer(Ok(None));
                if !get.no_ack {
                    self.live.idle_gets.push(number);
                }
            }
            ExpectedReply::Consume(consumer) => self.on_consume_ok(consumer),
            ExpectedReply::Cancel(reply) => self.on_cancel_ok(number, reply),
            ExpectedReply::Restart(consumer) => self.restart(number, consumer),
            ExpectedReply::Replaced(consumer) => self.go_on(consumer),
            ExpectedReply::Done(mut reply) => reply.answer(Ok(())),
            ExpectedReply::Recovered(reply) => self.on_recover_ok(number, reply),
            ExpectedReply::Replay(item) => self.replayed(item, Ok(reply)),
            ExpectedReply::Locked { name, since } => self.locked_answered(name, since, Ok(reply)),
        }
    }

    fn record_effect(&mut self, effect: TopologyChange, reply: &AMQPClass) -> Answer {
        let answer = match reply {
            AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)) => Answer::Queue(QueueInfo {
                name: ok.queue.to_string(),
                message_count: ok.message_count,
                consumer_count: ok.consumer_count,
            }),
            AMQPClass::Queue(queue::AMQPMethod::DeleteOk(ok)) => Answer::Count(ok.message_count),
            AMQPClass::Queue(queue::AMQPMethod::PurgeOk(ok)) => Answer::Count(ok.message_count),
            _ => Answer::Done,
        };
        match (effect, &answer) {
            (TopologyChange::None, _) => return answer,
            (TopologyChange::DeclareExchange(exchange), _) => self.record.declare_exchange(exchange),
            (TopologyChange::DeleteExchange(name), _) => self.record.delete_exchange(&name),
            (TopologyChange::DeclareQueue(queue), Answer::Queue(info)) => {
                self.record.declare_queue(&info.name, queue);
            }
            (TopologyChange::DeclareQueue(_), _) => {}
            (TopologyChange::DeleteQueue(name), _) => self.record.delete_queue(&name),
            (TopologyChange::Bind(binding), _) => self.record.bind(binding),
            (TopologyChange::Unbind(binding), _) => self.record.unbind(&binding),
        }
        self.count_record();
        answer
    }

    fn forget(&mut self, name: &str) {
        self.record.forget(name);
        self.count_record();
    }

    pub(super) fn count_record(&self) {
        self.counters.recorded.store(self.record.len() as u64, std::sync::atomic::Ordering::Relaxed);
    }

    // ---- refusals --------------------------------------------------------------------------------------------

    /// The broker closed a channel: the first method that waits for a reply is the one it refused; those behind it
    /// were not looked at and are sent again on a new channel.
    pub(super) fn channel_closed(&mut self, number: u16, reply: &Reply) {
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
            let error = super::refusal("publish", reply.code, &reply.text, reply.class_id, reply.method_id);
            publishing.with(|window| window.channel_refused(&error, missing_exchange(reply)));
        }
        match &channel.kind {
            ChannelKind::Control => {
                self.live.control = 0;
                if let Some(rpc) = refused {
                    self.fail_waiter(rpc, Some(reply));
                }
                for rpc in channel.rpcs {
                    if matches!(rpc.expected, ExpectedReply::Step) {
                        continue;
                    }
                    if let Some(control) = self.control_channel() {
                        self.request(control, rpc.method, rpc.expected);
                    } else {
                        self.fail_waiter(rpc, None);
                    }
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
                self.consumer_channel_closed(id, channel.rpcs, refused, reply);
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
    pub(super) fn fail_waiter(&mut self, rpc: Rpc, reply: Option<&Reply>) {
        let error = |name: &str| match reply {
            Some(reply) => Error::from_reply(name, reply.clone()),
            None => Error::new(ErrorKind::LimitReached, format!("{name}: no channel is free")),
        };
        match rpc.expected {
            ExpectedReply::Step | ExpectedReply::Restart(_) | ExpectedReply::Replaced(_) => {}
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
            ExpectedReply::Cancel(mut reply)
            | ExpectedReply::Done(mut reply)
            | ExpectedReply::Recovered(mut reply) => {
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

    // ---- deadlines -------------------------------------------------------------------------------------------

    /// Fails the commands that are past their deadline, wherever they wait, and sets when to look again.
    pub(super) fn expire_commands(&mut self, now: Instant) {
        let mut next: Option<Instant> = None;
        let mut check = |deadline: Instant| {
            let due = deadline <= now;
            if !due {
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
            }
            due
        };
        let host = if self.live.host.is_empty() { "not connected" } else { &self.live.host };
        let late = |name: &str| {
            Error::new(ErrorKind::Timeout, format!("{name}: no answer before the deadline ({host})"))
                .with_outcome_unknown()
        };
        let mut waiting = std::collections::VecDeque::new();
        for command in std::mem::take(&mut self.deferred) {
            if command.deadline().is_some_and(&mut check) {
                let error = late(command.name());
                command.fail(error);
            } else {
                waiting.push_back(command);
            }
        }
        for (_, channel) in self.live.channels.iter_mut() {
            for rpc in &mut channel.rpcs {
                match &mut rpc.expected {
                    ExpectedReply::Call(call) => expire_asked(&mut call.reply, &mut check, &late),
                    ExpectedReply::Get(get) => expire_asked(&mut get.reply, &mut check, &late),
                    ExpectedReply::Cancel(reply)
                    | ExpectedReply::Done(reply)
                    | ExpectedReply::Recovered(reply) => {
                        expire_asked(reply, &mut check, &late);
                    }
                    ExpectedReply::Step
                    | ExpectedReply::Consume(_)
                    | ExpectedReply::Restart(_)
                    | ExpectedReply::Replaced(_)
                    | ExpectedReply::Replay(_)
                    | ExpectedReply::Bind(_)
                    | ExpectedReply::Locked { .. } => {}
                }
            }
        }
        for reply in &mut self.live.secrets {
            expire_asked(reply, &mut check, &late);
        }
        for consumer in self.consumers.values_mut() {
            for reply in consumer.asked.iter_mut().chain(&mut consumer.changes).chain(&mut consumer.cancels) {
                expire_asked(reply, &mut check, &late);
            }
        }
        self.deferred = waiting;
        self.armed = next;
    }

    // ---- the end ---------------------------------------------------------------------------------------------

    fn begin_close(&mut self, drain: bool, reply: Pending<()>) {
        if let Some(closing) = &mut self.closing {
            // Deliveries in work are waited for as long as somebody waits for that.
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
    pub(super) fn close_is_done(&mut self) -> bool {
        self.closing.is_some() && (self.finish_publishing() || self.close_is_late())
    }

    /// Takes no new publishes; returns whether those that were taken have their outcome.
    fn finish_publishing(&self) -> bool {
        self.windows().all(|publishing| {
            publishing.with(|window| {
                window.refuse_new();
                window.is_empty()
            })
        })
    }

    /// Whether the close is past its deadline. Whoever waits for it is told when the engine is gone.
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
    pub(super) fn advance_close(&mut self) -> Option<Ended> {
        let drain = self.closing.as_ref()?.drain;
        if self.close_is_late() {
            return Some(Ended::Closed);
        }
        if self.live.close_sent || self.live.replay.is_some() {
            return None;
        }
        // While deliveries are still in work, their answers may have to be published.
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

    /// A channel that only waited for the last of its deliveries is closed.
    fn close_if_drained(&mut self, acks: &Arc<ChannelAcks>) {
        if acks.all_settled() && matches!(self.channel_of(acks), Some(ChannelKind::Draining(_))) {
            self.close_channel(acks.channel);
        }
    }
}

fn expire_asked<T>(
    reply: &mut Pending<T>,
    due: &mut impl FnMut(Instant) -> bool,
    late: &impl Fn(&str) -> Error,
) {
    if reply.to.is_some() && due(reply.deadline) {
        let error = late(&reply.name);
        reply.answer(Err(error));
    }
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
