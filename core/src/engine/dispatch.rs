//! What to do with a frame.

use amq_protocol::protocol::{AMQPClass, basic, channel as channel_class, connection};

use super::{
    Ended, Engine,
    channel::{Channel, ChannelKind},
    content::{Arrived, Content},
    refusal,
    rpc::{answers, may_be_overtaken},
};
use crate::{
    error::Reply,
    wire::{
        encode,
        frame::{Deliver, Frame, Violation},
        ids,
    },
};

/// Why a frame ends the connection.
pub(super) enum Fault {
    /// The peer broke the protocol.
    Violation(Violation),
    Ended(Ended),
}

impl From<Violation> for Fault {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<Ended> for Fault {
    fn from(ended: Ended) -> Self {
        Self::Ended(ended)
    }
}

/// The number of answers to `channel.flow` kept for a peer that does not read them. No other method that a peer may
/// send again and again has an answer. One read of 256 KiB holds some twenty thousand.
const MOST_FLOWS: u32 = 100_000;

impl Engine {
    pub(super) fn on_frame(&mut self, frame: Frame<'_>) -> Result<(), Fault> {
        match frame {
            Frame::Heartbeat => Ok(()),
            Frame::Method(0, AMQPClass::Connection(method)) => Ok(self.on_connection_method(method)?),
            Frame::Method(0, _) => Err(Violation::command("a channel's method on channel 0"))?,
            Frame::Method(number, method) => Ok(self.on_method(number, method)?),
            Frame::Deliver(number, deliver) => Ok(self.on_deliver(number, &deliver)?),
            Frame::GetOk(number, got) => {
                if let Some(channel) = self.content_channel(number)? {
                    channel.content = Some(Content::got(&got));
                }
                Ok(())
            }
            Frame::Header(number, header) => {
                let max = self.options.max_body_size;
                Ok(self.on_content(number, |content| content.on_header(header, max))?)
            }
            Frame::Body(number, chunk) => Ok(self.on_content(number, |content| content.on_body(chunk))?),
        }
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

    fn on_deliver(&mut self, number: u16, deliver: &Deliver<'_>) -> Result<(), Violation> {
        let Some(channel) = self.content_channel(number)? else {
            return Ok(());
        };
        let ChannelKind::Consume { names, .. } = &mut channel.kind else {
            let text = format!("a delivery on channel {number}, which consumes nothing");
            return Err(Violation::command(text));
        };
        if !names.is_for(deliver.consumer_tag) {
            let tag = String::from_utf8_lossy(deliver.consumer_tag);
            return Err(Violation::command(format!(
                "a delivery for consumer tag '{tag}' on channel {number}, which has another consumer"
            )));
        }
        channel.content = Some(Content::deliver(deliver, names));
        Ok(())
    }

    /// The next part of the content that is arriving on a channel; `take` says whether it was the last.
    fn on_content(
        &mut self,
        number: u16,
        take: impl FnOnce(&mut Content) -> Result<bool, Violation>,
    ) -> Result<(), Violation> {
        let channel = self.live.channels.get(number).ok_or_else(|| not_open(number))?;
        let Some(content) = &mut channel.content else {
            return match channel.kind {
                ChannelKind::Closing => Ok(()),
                _ => Err(Violation::unexpected("a content frame that no method announced")),
            };
        };
        if !take(content)? {
            return Ok(());
        }
        let Some(content) = channel.content.take() else {
            return Ok(());
        };
        match content.finish() {
            Arrived::Delivery(arrival) => match &channel.kind {
                ChannelKind::Consume { incoming, lease, returning, .. } => {
                    let (queue, lease, returning) = (incoming.clone(), lease.clone(), *returning);
                    self.on_delivery(queue, lease, returning, arrival)
                }
                // Its consumer has ended since the delivery was announced.
                _ => Ok(()),
            },
            Arrived::Got { arrival, message_count } => self.on_got(number, arrival, message_count),
            Arrived::Returned { returned, oversize } => {
                if let Some(publishing) = channel.publishing.clone() {
                    publishing.with(|window| window.returned(returned, oversize));
                }
                Ok(())
            }
        }
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
                channel.content = Some(Content::returned(&returned));
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
    Violation::new(504, format!("a frame on channel {number}, which is not open"))
}
