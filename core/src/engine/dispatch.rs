//! What to do with a frame.

use std::sync::{Arc, atomic::Ordering};

use amq_protocol::{
    protocol::{AMQPClass, basic, channel as channel_class, connection},
    types::AMQPValue,
};

use super::{
    Ended, Engine,
    acks::{ChannelAcks, Lease, Settle},
    channel::{Channel, ChannelKind, Complete, Content, ContentKind, Envelope},
    refusal,
    rpc::{ExpectedReply, Rpc, answers, may_be_overtaken},
};
use crate::{
    Error, ErrorKind,
    delivery::Delivery,
    error::Reply,
    events::Event,
    wire::{
        encode,
        frame::{Frame, Violation},
        ids,
        properties::HeadersDefect,
    },
};

/// So many answers to `channel.flow` are kept for a peer that does not read them: nothing else that a peer asks for over
/// and over has an answer. A read holds some twenty thousand.
const MOST_FLOWS: u32 = 100_000;

impl Engine {
    pub(super) fn on_frame(&mut self, frame: Frame<'_>) -> Result<(), Ended> {
        let handled = match frame {
            Frame::Heartbeat => Ok(()),
            Frame::Method(0, AMQPClass::Connection(method)) => return self.on_connection_method(method),
            Frame::Method(0, _) => Err(Violation::command("a channel's method on channel 0")),
            Frame::Method(number, method) => return self.on_method(number, method),
            Frame::Deliver(number, deliver) => match self.content_channel(number) {
                Ok(None) => Ok(()),
                Ok(Some(channel)) => match &mut channel.kind {
                    ChannelKind::Consume { names, .. } if !names.is_for(deliver.consumer_tag) => {
                        let tag = String::from_utf8_lossy(deliver.consumer_tag);
                        Err(Violation::command(format!(
                            "a delivery for consumer tag '{tag}' on channel {number}, which has another consumer"
                        )))
                    }
                    ChannelKind::Consume { names, .. } => {
                        let envelope = Envelope::deliver(&deliver, names);
                        channel.content = Some(Content::new(ContentKind::Deliver(envelope)));
                        Ok(())
                    }
                    _ => Err(Violation::command(format!(
                        "a delivery on channel {number}, which consumes nothing"
                    ))),
                },
                Err(fault) => Err(fault),
            },
            Frame::GetOk(number, got) => match self.content_channel(number) {
                Ok(None) => Ok(()),
                Ok(Some(channel)) => {
                    let envelope = Envelope::got(&got);
                    let kind = ContentKind::Got { envelope, message_count: got.message_count };
                    channel.content = Some(Content::new(kind));
                    Ok(())
                }
                Err(fault) => Err(fault),
            },
            Frame::Header(number, header) => {
                let max = self.options.max_body_size;
                match self.arriving(number) {
                    Ok(None) => Ok(()),
                    Ok(Some(content)) => {
                        content.on_header(header, max).and_then(|done| self.content_done(number, done))
                    }
                    Err(fault) => Err(fault),
                }
            }
            Frame::Body(number, chunk) => match self.arriving(number) {
                Ok(None) => Ok(()),
                Ok(Some(content)) => content.on_body(chunk).and_then(|done| self.content_done(number, done)),
                Err(fault) => Err(fault),
            },
        };
        handled.map_err(|fault| self.violated(&fault))
    }

    // ---- content ---------------------------------------------------------------------------------------------

    /// The channel on which a content begins; `None` while it is closing.
    fn content_channel(&mut self, number: u16) -> Result<Option<&mut Channel>, Violation> {
        let channel = self.live.channels.get(number).ok_or_else(|| not_open(number))?;
        if matches!(channel.kind, ChannelKind::Closing) {
            return Ok(None);
        }
        if channel.content.is_some() {
            return Err(Violation::unexpected("a method in the middle of a content"));
        }
        Ok(Some(channel))
    }

    /// The content that is arriving on a channel; `None` while it is closing.
    fn arriving(&mut self, number: u16) -> Result<Option<&mut Content>, Violation> {
        let channel = self.live.channels.get(number).ok_or_else(|| not_open(number))?;
        match (&mut channel.content, &channel.kind) {
            (Some(content), _) => Ok(Some(content)),
            (None, ChannelKind::Closing) => Ok(None),
            (None, _) => Err(Violation::unexpected("a content frame that no method announced")),
        }
    }

    fn content_done(&mut self, number: u16, done: bool) -> Result<(), Violation> {
        if !done {
            return Ok(());
        }
        let Some(channel) = self.live.channels.get(number) else {
            return Ok(());
        };
        let Some(content) = channel.content.take() else {
            return Ok(());
        };
        let complete = content.finish();
        match complete.kind {
            ContentKind::Deliver(_) => self.on_delivery(number, complete),
            ContentKind::Got { .. } => self.on_got(number, complete),
            ContentKind::Return { .. } => {
                let oversize = complete.oversize;
                if let (Some(publishing), Some(returned)) =
                    (channel.publishing.clone(), complete.into_returned())
                {
                    publishing.with(|window| window.returned(returned, oversize));
                }
                Ok(())
            }
        }
    }

    fn on_delivery(&mut self, number: u16, complete: Complete) -> Result<(), Violation> {
        let Some(channel) = self.live.channels.get(number) else {
            return Ok(());
        };
        let ChannelKind::Consume { incoming, lease, returning, .. } = &channel.kind else {
            return Ok(());
        };
        let (incoming, lease, returning) = (incoming.clone(), lease.clone(), *returning);
        let (no_ack, tag) = (incoming.request.no_ack, incoming.request.tag.clone());
        let ContentKind::Deliver(envelope) = complete.kind else {
            return Ok(());
        };
        if !no_ack {
            lease.acks.arrived(envelope.delivery_tag).map_err(Violation::command)?;
            if returning {
                let requeue = Settle::Nack { requeue: true };
                // It arrived just now, so nobody can have settled it.
                let _ = lease.acks.settle(envelope.delivery_tag, requeue);
                return Ok(());
            }
        }
        if lease.acks.stream
            && let Some(offset) = complete
                .properties
                .headers()
                .as_ref()
                .and_then(|headers| headers.inner().get("x-stream-offset"))
                .and_then(AMQPValue::as_long_long_int)
        {
            if let Some(consumer) = self.consumers.get_mut(&incoming.id) {
                consumer.arrived_at(offset);
            }
        }
        if let Some(size) = complete.oversize {
            let queue = incoming.queue();
            let unsettled = (!no_ack).then_some((&lease.acks, envelope.delivery_tag));
            self.reject_oversize(unsettled, queue, size);
            return Ok(());
        }
        let headers_error = defect_of(complete.defect, &envelope);
        if let Some(defect) = &headers_error {
            let queue = incoming.queue();
            self.events.send(Event::HeadersDefect { queue, defect: (**defect).clone() });
        }
        self.counters.delivered.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes_delivered.fetch_add(complete.body.len() as u64, Ordering::Relaxed);
        incoming.push(Delivery {
            lease: Some(lease),
            consumer_tag: tag,
            delivery_tag: envelope.delivery_tag,
            redelivered: envelope.redelivered,
            no_ack,
            exchange: envelope.exchange,
            routing_key: envelope.routing_key,
            properties: complete.properties,
            headers_error,
            body: complete.body,
            message_count: None,
            memory: complete.memory,
        });
        if !self.live.to_wake.last().is_some_and(|last| Arc::ptr_eq(last, &incoming)) {
            self.live.to_wake.push(incoming);
        }
        Ok(())
    }

    fn on_got(&mut self, number: u16, complete: Complete) -> Result<(), Violation> {
        let Some(channel) = self.live.channels.get(number) else {
            return Ok(());
        };
        let ContentKind::Got { envelope, message_count } = complete.kind else {
            return Ok(());
        };
        let Some(Rpc { expected: ExpectedReply::Get(_), .. }) = channel.rpcs.front() else {
            return Err(Violation::command("basic.get-ok that nobody asked for"));
        };
        let lease = match &channel.kind {
            // Before the get is taken off: until it has its answer, somebody waits for it.
            ChannelKind::Get(acks) => {
                acks.arrived(envelope.delivery_tag).map_err(Violation::command)?;
                // It goes with the delivery: when that is dropped, the channel is free again.
                Some(Arc::new(Lease { acks: acks.clone() }))
            }
            _ => None,
        };
        let Some(Rpc { expected: ExpectedReply::Get(mut get), .. }) = channel.rpcs.pop_front() else {
            return Ok(());
        };
        self.control_answered(number);
        if let Some(size) = complete.oversize {
            let queue = get.queue.clone();
            let unsettled = lease.as_ref().map(|lease| (&lease.acks, envelope.delivery_tag));
            self.reject_oversize(unsettled, queue, size);
            get.reply.answer(Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "{}: the message has {size} bytes, over the bound of {}; it was rejected",
                    get.reply.name, self.options.max_body_size
                ),
            )));
            return Ok(());
        }
        let headers_error = defect_of(complete.defect, &envelope);
        self.counters.delivered.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes_delivered.fetch_add(complete.body.len() as u64, Ordering::Relaxed);
        let no_ack = get.no_ack;
        get.reply.answer(Ok(Some(Delivery {
            lease,
            consumer_tag: "".into(),
            delivery_tag: envelope.delivery_tag,
            redelivered: envelope.redelivered,
            no_ack,
            exchange: envelope.exchange,
            routing_key: envelope.routing_key,
            properties: complete.properties,
            headers_error,
            body: complete.body,
            message_count: Some(message_count),
            memory: complete.memory,
        })));
        Ok(())
    }

    fn reject_oversize(&mut self, unsettled: Option<(&Arc<ChannelAcks>, u64)>, queue: String, size: u64) {
        if let Some((acks, tag)) = unsettled {
            // It arrived just now, so nobody can have settled it.
            let _ = acks.settle(tag, Settle::Nack { requeue: false });
        }
        self.events.send(Event::OversizeRejected { queue, size, limit: self.options.max_body_size });
    }

    // ---- methods ---------------------------------------------------------------------------------------------

    fn on_connection_method(&mut self, method: connection::AMQPMethod) -> Result<(), Ended> {
        use connection::AMQPMethod as M;
        match method {
            M::Close(close) => Err(self.closed_by_broker(&close)),
            M::CloseOk(_) if self.live.close_sent => Err(Ended::Closed),
            M::Blocked(blocked) => {
                self.set_blocked(Some(blocked.reason.to_string()));
                Ok(())
            }
            M::Unblocked(_) => {
                self.set_blocked(None);
                Ok(())
            }
            M::UpdateSecretOk(_) if !self.live.secrets.is_empty() => {
                if let Some(mut reply) = self.live.secrets.pop_front() {
                    reply.answer(Ok(()));
                }
                Ok(())
            }
            other => {
                let (class, id) = ids(&AMQPClass::Connection(other));
                let text =
                    format!("method {class}.{id} on an open connection, which nothing there waits for");
                Err(self.violated(&Violation::command(text)))
            }
        }
    }

    fn closed_by_broker(&mut self, close: &connection::Close) -> Ended {
        encode::method(
            &mut self.live.out,
            0,
            &AMQPClass::Connection(connection::AMQPMethod::CloseOk(connection::CloseOk {})),
        );
        {
            let mut writer = self.link.lock_writer();
            writer.buffer.append(&mut self.live.out);
            writer.flush_now();
        }
        let (class, id) = (close.class_id, close.method_id);
        let what = format!("connection to {}", self.live.host);
        let error = refusal(&what, close.reply_code, &close.reply_text.to_string(), class, id);
        let on_publish = (class, id) == (60, 40) || matches!(close.reply_code, 501 | 502 | 505);
        self.fail_culprit(&error);
        Ended::Lost { error, suspect: on_publish }
    }

    fn on_method(&mut self, number: u16, method: AMQPClass) -> Result<(), Ended> {
        let Some(channel) = self.live.channels.get(number) else {
            return Err(self.violated(&not_open(number)));
        };
        let closing = matches!(channel.kind, ChannelKind::Closing);
        if channel.content.is_some() && !closing {
            return Err(self.violated(&Violation::unexpected("a method in the middle of a content")));
        }
        match method {
            AMQPClass::Channel(channel_class::AMQPMethod::Close(close)) => {
                encode::method(
                    &mut self.live.out,
                    number,
                    &AMQPClass::Channel(channel_class::AMQPMethod::CloseOk(channel_class::CloseOk {})),
                );
                // When both sides close, the answer to ours is still to come, and the number is not free until then.
                if !closing {
                    let reply = Reply {
                        code: close.reply_code,
                        text: close.reply_text.to_string(),
                        class_id: close.class_id,
                        method_id: close.method_id,
                    };
                    self.channel_closed(number, &reply);
                }
                Ok(())
            }
            AMQPClass::Channel(channel_class::AMQPMethod::CloseOk(_)) if closing => {
                self.live.channels.remove(number);
                Ok(())
            }
            _ if closing => Ok(()),
            AMQPClass::Basic(basic::AMQPMethod::Ack(ack)) => {
                self.on_confirm(number, ack.delivery_tag, ack.multiple, false)
            }
            AMQPClass::Basic(basic::AMQPMethod::Nack(nack)) => {
                self.on_confirm(number, nack.delivery_tag, nack.multiple, true)
            }
            AMQPClass::Basic(basic::AMQPMethod::Return(_)) if !channel.may_publish() => {
                let text = format!("a return on channel {number}, which publishes nothing");
                Err(self.violated(&Violation::command(text)))
            }
            AMQPClass::Basic(basic::AMQPMethod::Return(returned)) => {
                channel.content = Some(Content::new(ContentKind::Return {
                    reply_code: returned.reply_code,
                    reply_text: returned.reply_text.to_string(),
                    exchange: returned.exchange.to_string(),
                    routing_key: returned.routing_key.to_string(),
                }));
                Ok(())
            }
            AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)) => {
                self.cancelled_by_broker(number, cancel.consumer_tag.as_str());
                Ok(())
            }
            AMQPClass::Channel(channel_class::AMQPMethod::Flow(flow)) => {
                let active = flow.active;
                if let Some(publishing) = &channel.publishing {
                    publishing.with(|window| window.set_flow(active));
                }
                self.live.flows += 1;
                if self.live.flows > MOST_FLOWS {
                    return Err(self.violated(&Violation::unexpected(format!(
                        "more than {MOST_FLOWS} times channel.flow without reading the answers"
                    ))));
                }
                encode::method(
                    &mut self.live.out,
                    number,
                    &AMQPClass::Channel(channel_class::AMQPMethod::FlowOk(channel_class::FlowOk { active })),
                );
                Ok(())
            }
            reply => self.on_reply(number, reply),
        }
    }

    fn on_confirm(&mut self, number: u16, tag: u64, multiple: bool, nacked: bool) -> Result<(), Ended> {
        let confirmed = match self.live.channels.get(number) {
            Some(Channel { publishing: Some(publishing), .. }) => {
                publishing.with(|window| window.confirm(tag, multiple, nacked))
            }
            Some(channel) if channel.may_publish() => Ok(()),
            _ => Err(format!("a confirm on channel {number}, which publishes nothing")),
        };
        confirmed.map_err(|text| self.violated(&Violation::command(text)))?;
        if nacked {
            self.replace_worn_out(number);
        }
        Ok(())
    }

    fn on_reply(&mut self, number: u16, reply: AMQPClass) -> Result<(), Ended> {
        let Some(channel) = self.live.channels.get(number) else {
            return Ok(());
        };
        let place = channel.rpcs.iter().position(|rpc| answers(&rpc.method, &reply));
        let overtaken = channel.rpcs.iter().take(place.unwrap_or(0)).all(|rpc| may_be_overtaken(&rpc.method));
        // What waits for another answer stays, to be asked again or to be told of the violation.
        if let Some(rpc) = place.filter(|_| overtaken).and_then(|place| channel.rpcs.remove(place)) {
            self.on_answer(number, rpc, reply);
            return Ok(());
        }
        let (class, id) = ids(&reply);
        Err(self.violated(&Violation::command(format!(
            "method {class}.{id} on channel {number}, which nothing there waits for"
        ))))
    }
}

fn not_open(number: u16) -> Violation {
    Violation { code: 504, text: format!("a frame on channel {number}, which is not open") }
}

fn defect_of(defect: Option<HeadersDefect>, envelope: &Envelope) -> Option<Box<HeadersDefect>> {
    match defect {
        Some(defect) => Some(Box::new(defect)),
        None if envelope.exact => None,
        None => Some(Box::new(HeadersDefect {
            reason: "the exchange or the routing key is not UTF-8".into(),
            raw: bytes::Bytes::new(),
        })),
    }
}
