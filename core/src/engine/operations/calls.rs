//! Channels opened and closed, and methods sent on them.

use amq_protocol::protocol::AMQPClass;

use crate::{
    Error,
    engine::{
        Engine,
        channel::ChannelKind,
        command::Call,
        consumer::has_ended,
        rpc::{ExpectedReply, Rpc, open_method},
    },
    wire::encode,
};

impl Engine {
    /// One method on the control channel.
    pub(super) fn call(&mut self, call: Call) {
        self.request_on_control(call.method, ExpectedReply::Call(call.pending));
    }

    /// Sends a method and remembers who waits for its reply.
    pub(in crate::engine) fn request(&mut self, number: u16, method: AMQPClass, expected: ExpectedReply) {
        let before = self.live.out.len();
        encode::method(&mut self.live.out, number, &method);
        let size = self.live.out.len() - before;
        if size > self.live.frame_max {
            self.live.out.truncate(before);
            if matches!(expected, ExpectedReply::Consume(_)) {
                self.close_channel(number);
            }
            let frame_max = self.live.frame_max;
            self.fail_waiter_with(Rpc { method, expected }, &|name| too_large(name, size, frame_max));
            return;
        }
        if let Some(channel) = self.live.channels.get(number) {
            channel.rpcs.push_back(Rpc { method, expected });
        }
    }

    /// Opens a channel; what is sent on it may follow at once.
    pub(in crate::engine) fn open_channel(&mut self, kind: impl FnOnce(u16) -> ChannelKind) -> Option<u16> {
        let number = self.live.channels.open(kind)?;
        self.request(number, open_method(), ExpectedReply::Step);
        Some(number)
    }

    /// Closes a channel from our side (AMQP 0-9-1 section 1.5.2.5).
    pub(in crate::engine) fn close_channel(&mut self, number: u16) {
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
                // The broker has cancelled the consumer meanwhile.
                ExpectedReply::Recovered(mut reply) => {
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
}

/// AMQP has no way to send a method in several frames (section 2.3.5.2): the broker would end the connection.
fn too_large(name: &str, size: usize, frame_max: usize) -> Error {
    Error::invalid(format!(
        "{name}: with its arguments it takes a frame of {size} bytes, and frame_max is {frame_max} bytes"
    ))
}
