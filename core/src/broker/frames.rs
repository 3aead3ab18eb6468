//! What the broker does with a frame: connection and channel methods, the content of publishes, and refusals.
//!
//! The file is long because every method of connections and channels is dispatched here.

use amq_protocol::protocol::{
    AMQPClass, basic,
    channel::{self as channel_class, AMQPMethod as ChannelMethod},
    confirm,
    connection::{self, AMQPMethod as ConnectionMethod},
};
use bytes::BytesMut;
use tokio::time::Instant;

use super::{
    SessionId,
    channel::{Channel, Confirms, Content},
    exchange::Destination,
    refusal::{Answer, Refusal},
    session::Stage,
    state::State,
};
use crate::wire::{
    frame::{Frame, Violation},
    ids,
};

/// What a method on a channel led to: the reply to send, if any.
pub(super) type Reply = Answer<Option<AMQPClass>>;

impl State {
    /// Handles a frame of an open connection.
    pub fn on_frame(&mut self, id: SessionId, frame: Frame<'_>, now: Instant) {
        let Some(session) = self.sessions.get(&id) else { return };
        match session.stage {
            Stage::Open => {}
            Stage::Closing => {
                if let Frame::Method(0, AMQPClass::Connection(method)) = frame {
                    self.while_closing(id, &method);
                }
                return;
            }
            Stage::Closed | Stage::Dropped => return,
        }
        match frame {
            Frame::Heartbeat => {}
            Frame::Method(0, AMQPClass::Connection(method)) => self.on_connection_method(id, method),
            Frame::Method(0, method) => {
                let refusal = Refusal::new(503, "a method of a channel on channel 0");
                self.close_connection(id, &refusal, ids(&method));
            }
            Frame::Method(number, method) => self.on_method(id, number, method, now),
            Frame::Header(number, header) => {
                let Some(content) = self.incoming(id, number) else { return };
                if content.header.is_some() || header.class_id != 60 {
                    return self.unexpected(id, "a content header");
                }
                let whole = header.body_size == 0;
                content.header = Some(*header);
                if whole {
                    self.on_content(id, number, now);
                }
            }
            Frame::Body(number, bytes) => {
                let max = self.max_message;
                let Some(content) = self.incoming(id, number) else { return };
                let Some(header) = &content.header else { return self.unexpected(id, "a content body") };
                let total = (content.body.len() + bytes.len()) as u64;
                if total > header.body_size {
                    return self.unexpected(id, "more body than its header announced");
                }
                let whole = total == header.body_size;
                // What is too large is refused when it is complete; until then it need not be kept.
                if header.body_size <= max {
                    content.body.extend_from_slice(bytes);
                } else {
                    let size = header.body_size;
                    let text = format!("message size {size} is larger than configured max size {max}");
                    return self.refuse(id, number, &Refusal::precondition(text), (60, 40), now);
                }
                if whole {
                    self.on_content(id, number, now);
                }
            }
            Frame::Deliver(..) | Frame::GetOk(..) => {
                self.close_connection(id, &Refusal::new(503, "a client does not deliver"), (60, 60));
            }
        }
    }

    /// The publish that a content frame belongs to; otherwise the frame is dropped or the connection closed.
    fn incoming(&mut self, id: SessionId, number: u16) -> Option<&mut Content> {
        let channel = self.sessions.get(&id)?.channels.get(&number);
        match channel {
            Some(channel) if channel.closing => None,
            Some(channel) if channel.content.is_some() => {
                self.sessions.get_mut(&id)?.channels.get_mut(&number)?.content.as_mut()
            }
            _ => {
                self.unexpected(id, "a content frame");
                None
            }
        }
    }

    fn unexpected(&mut self, id: SessionId, what: &str) {
        let refusal = Refusal::new(505, format!("{what} is not expected here"));
        self.close_connection(id, &refusal, (0, 0));
    }

    fn on_content(&mut self, id: SessionId, number: u16, now: Instant) {
        let content = self
            .sessions
            .get_mut(&id)
            .and_then(|session| session.channels.get_mut(&number))
            .and_then(|channel| channel.content.take());
        let Some(Content { publish, header: Some(header), body }) = content else { return };
        if let Err(refusal) = self.publish(id, number, publish, header, body.freeze(), now) {
            self.refuse(id, number, &refusal, (60, 40), now);
        }
    }

    /// The peer broke the protocol.
    pub fn on_violation(&mut self, id: SessionId, fault: Violation) {
        if self.sessions.get(&id).is_some_and(|session| session.stage == Stage::Open) {
            self.close_connection(id, &fault.into(), (0, 0));
        } else {
            self.set_stage(id, Stage::Dropped);
        }
    }

    // ---- connections -----------------------------------------------------------------------------------------

    fn on_connection_method(&mut self, id: SessionId, method: ConnectionMethod) {
        match method {
            ConnectionMethod::Close(_) => {
                self.send(id, 0, &ConnectionMethod::CloseOk(connection::CloseOk {}).into_class());
                self.set_stage(id, Stage::Closed);
            }
            ConnectionMethod::UpdateSecret(_) => {
                self.send(
                    id,
                    0,
                    &ConnectionMethod::UpdateSecretOk(connection::UpdateSecretOk {}).into_class(),
                );
            }
            other => {
                let (class, method) = ids(&AMQPClass::Connection(other));
                let refusal = Refusal::new(503, format!("method {class}.{method} on an open connection"));
                self.close_connection(id, &refusal, (class, method));
            }
        }
    }

    fn while_closing(&mut self, id: SessionId, method: &ConnectionMethod) {
        match method {
            ConnectionMethod::CloseOk(_) => self.set_stage(id, Stage::Closed),
            ConnectionMethod::Close(_) => {
                self.send(id, 0, &ConnectionMethod::CloseOk(connection::CloseOk {}).into_class());
            }
            _ => {}
        }
    }

    pub fn set_stage(&mut self, id: SessionId, stage: Stage) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.stage = stage;
            session.wake.notify_one();
        }
    }

    pub fn send(&mut self, id: SessionId, number: u16, method: &AMQPClass) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.send(number, method);
        }
    }

    /// Closes a connection with a code; its answer is waited for by its task.
    pub fn close_connection(&mut self, id: SessionId, refusal: &Refusal, method: (u16, u16)) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.flush_confirms();
        }
        let close = connection::Close {
            reply_code: refusal.code,
            reply_text: refusal.short_text(),
            class_id: method.0,
            method_id: method.1,
        };
        self.send(id, 0, &ConnectionMethod::Close(close).into_class());
        self.set_stage(id, Stage::Closing);
    }

    /// A connection has ended: its unacked deliveries are requeued, its exclusive queues deleted.
    pub fn end_session(&mut self, id: SessionId, now: Instant) {
        let Some(mut session) = self.sessions.remove(&id) else { return };
        let channels = std::mem::take(&mut session.channels);
        for (number, channel) in channels {
            self.end_channel(id, number, channel, now);
        }
        let own: Vec<_> = self
            .queues
            .iter()
            .filter(|(_, queue)| queue.declared.owner == Some(id))
            .map(|(id, _)| *id)
            .collect();
        for queue in own {
            self.delete_queue(queue);
        }
        self.settle(now);
        // It may have been the one that waited for what is due next.
        self.wake_all();
    }

    // ---- channels --------------------------------------------------------------------------------------------

    fn on_method(&mut self, id: SessionId, number: u16, method: AMQPClass, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let method_ids = ids(&method);
        let Some(channel) = session.channels.get_mut(&number) else {
            return match method {
                AMQPClass::Channel(ChannelMethod::Open(_)) if number <= session.channel_max => {
                    session.channels.insert(number, Channel::default());
                    session.send(number, &ChannelMethod::OpenOk(channel_class::OpenOk {}).into_class());
                }
                // The answer to a close that crossed ours, or what was on its way to a channel that we closed.
                AMQPClass::Channel(ChannelMethod::CloseOk(_)) => {}
                _ => {
                    let text = if number > session.channel_max {
                        format!(
                            "number of channels opened ({number}) has reached the negotiated channel_max ({})",
                            session.channel_max
                        )
                    } else {
                        "expected 'channel.open'".to_owned()
                    };
                    let code = if number > session.channel_max { 530 } else { 504 };
                    self.close_connection(id, &Refusal::new(code, text), method_ids);
                }
            };
        };
        if channel.closing {
            match method {
                AMQPClass::Channel(ChannelMethod::CloseOk(_)) => {
                    session.channels.remove(&number);
                }
                AMQPClass::Channel(ChannelMethod::Close(_)) => {
                    session.send(number, &ChannelMethod::CloseOk(channel_class::CloseOk {}).into_class());
                }
                _ => {}
            }
            return;
        }
        if channel.content.is_some() {
            return self.unexpected(id, "a method in the middle of a content");
        }
        match self.call(id, number, method, now) {
            Ok(Some(reply)) => self.send(id, number, &reply),
            Ok(None) => {}
            Err(refusal) => self.refuse(id, number, &refusal, method_ids, now),
        }
        if !self.dead.is_empty() {
            self.settle(now);
        }
    }

    fn call(&mut self, id: SessionId, number: u16, method: AMQPClass, now: Instant) -> Reply {
        match method {
            AMQPClass::Basic(basic::AMQPMethod::Publish(publish)) => {
                if publish.immediate {
                    return Err(Refusal::not_implemented("immediate=true"));
                }
                if let Some(channel) = self.channel(id, number) {
                    channel.content = Some(Content { publish, header: None, body: BytesMut::new() });
                }
                Ok(None)
            }
            AMQPClass::Basic(method) => self.on_basic(id, number, method, now),
            AMQPClass::Queue(method) => self.on_queue(id, number, method, now),
            AMQPClass::Exchange(method) => self.on_exchange(id, method),
            AMQPClass::Channel(ChannelMethod::Close(_)) => {
                self.flush_confirms(id);
                let channel = self.sessions.get_mut(&id).and_then(|session| session.channels.remove(&number));
                if let Some(channel) = channel {
                    self.end_channel(id, number, channel, now);
                }
                Ok(Some(ChannelMethod::CloseOk(channel_class::CloseOk {}).into_class()))
            }
            AMQPClass::Channel(ChannelMethod::Flow(flow)) if flow.active => {
                Ok(Some(ChannelMethod::FlowOk(channel_class::FlowOk { active: true }).into_class()))
            }
            AMQPClass::Channel(ChannelMethod::Flow(_)) => Err(Refusal::not_implemented("active=false")),
            AMQPClass::Channel(ChannelMethod::FlowOk(_)) => Ok(None),
            AMQPClass::Channel(ChannelMethod::Open(_)) => {
                Err(Refusal::new(504, "second 'channel.open' seen"))
            }
            AMQPClass::Confirm(confirm::AMQPMethod::Select(select)) => {
                if let Some(channel) = self.channel(id, number) {
                    channel.confirms.get_or_insert_with(Confirms::default);
                }
                let reply = AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(confirm::SelectOk {}));
                Ok((!select.nowait).then_some(reply))
            }
            AMQPClass::Tx(_) => Err(Refusal::not_implemented(
                "the embedded broker has no transactions; use publisher confirms",
            )),
            other => {
                let (class, method) = ids(&other);
                Err(Refusal::new(503, format!("method {class}.{method} on a channel")))
            }
        }
    }

    pub fn channel(&mut self, id: SessionId, number: u16) -> Option<&mut Channel> {
        self.sessions.get_mut(&id)?.channels.get_mut(&number)
    }

    fn flush_confirms(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.flush_confirms();
        }
    }

    /// Closes the channel, or for hard errors the connection, with what the refusal says.
    pub fn refuse(
        &mut self,
        id: SessionId,
        number: u16,
        refusal: &Refusal,
        method: (u16, u16),
        now: Instant,
    ) {
        if refusal.is_hard() {
            // An error of the broker itself names no method.
            let method = if refusal.code == 541 { (0, 0) } else { method };
            return self.close_connection(id, refusal, method);
        }
        self.flush_confirms(id);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let closed = Channel { closing: true, ..Channel::default() };
        let channel = session.channels.insert(number, closed);
        let close = channel_class::Close {
            reply_code: refusal.code,
            reply_text: refusal.short_text(),
            class_id: method.0,
            method_id: method.1,
        };
        session.send(number, &ChannelMethod::Close(close).into_class());
        if let Some(channel) = channel {
            self.end_channel(id, number, channel, now);
        }
    }

    /// What was out on a channel goes back, in order, after its consumers are gone.
    pub fn end_channel(&mut self, id: SessionId, number: u16, channel: Channel, now: Instant) {
        let mut queues: Vec<_> = channel.consumers.values().copied().collect();
        queues.sort_unstable();
        queues.dedup();
        for queue in &queues {
            if let Some(queue) = self.queues.get_mut(queue) {
                queue.remove_consumers(|consumer| consumer.session == id && consumer.channel == number, now);
            }
        }
        for (_, unacked) in channel.unacked {
            self.requeue(unacked.queue, unacked.stored);
        }
        for queue in queues {
            self.consumers_left(queue);
        }
        self.settle(now);
    }

    /// Deletes an auto-delete queue that has lost its last consumer; otherwise the next one in line may be active.
    pub fn consumers_left(&mut self, id: u64) {
        let Some(queue) = self.queues.get(&id) else { return };
        if queue.declared.auto_delete && queue.had_consumer && queue.consumers.is_empty() {
            self.delete_queue(id);
        } else {
            self.dirty.insert(id);
            self.reschedule(id);
        }
    }

    /// The end of a batch of frames: what was held back goes out.
    pub fn end_batch(&mut self, id: SessionId, now: Instant) {
        self.settle(now);
        self.flush_confirms(id);
    }

    /// Removes a binding; an auto-delete exchange goes with its last one.
    pub fn remove_binding(
        &mut self,
        vhost: &str,
        source: &str,
        routing_key: &str,
        destination: Destination,
        arguments: &amq_protocol::types::FieldTable,
    ) {
        let Some(exchange) = self.vhosts.get_mut(vhost).and_then(|host| host.exchanges.get_mut(source))
        else {
            return;
        };
        let key = super::exchange::BindingKey::new(routing_key, destination, arguments);
        if exchange.bindings.remove(&key).is_some() && exchange.bindings.is_empty() && exchange.auto_delete {
            self.delete_exchange(vhost, source);
        }
    }
}

/// Methods into the enum over all classes.
pub(super) trait IntoClass {
    fn into_class(self) -> AMQPClass;
}

macro_rules! into_class {
    ($($module:ident $class:ident),*) => {
        $(impl IntoClass for amq_protocol::protocol::$module::AMQPMethod {
            fn into_class(self) -> AMQPClass {
                AMQPClass::$class(self)
            }
        })*
    };
}

into_class!(connection Connection, channel Channel, basic Basic, queue Queue, exchange Exchange);
