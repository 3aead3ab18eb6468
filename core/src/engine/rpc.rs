//! Methods that wait for the broker's reply, and which reply is whose.

use amq_protocol::protocol::{AMQPClass, channel};

use super::{
    command::{Call, Command, Get, Pending, PendingCall},
    record::Item,
};
use crate::{topology::Binding, wire::ids};

/// A method that waits for its reply. Replies come in the order of the methods (AMQP 0-9-1 section 2.2.2), but for those
/// that [`may_be_overtaken`].
pub(crate) struct Rpc {
    pub method: AMQPClass,
    pub expected: ExpectedReply,
}

/// What a reply is for.
pub(crate) enum ExpectedReply {
    /// `channel.open`, `confirm.select`, `basic.qos`: only a step towards something else.
    Step,
    Call(PendingCall),
    Get(Get),
    /// `basic.consume` of the consumer with this id.
    Consume(u64),
    /// `basic.cancel` of the consumer with this id.
    Cancel(u64),
    /// `basic.recover` on the consumer's channel.
    Recovered(Pending<()>),
    Replay(Item),
    /// `queue.bind` of a queue that the broker had kept for the dead connection.
    Bind(Binding),
    /// Another attempt at a queue that the broker kept for the dead connection.
    Locked {
        name: String,
        since: tokio::time::Instant,
    },
}

impl Rpc {
    /// Whether it is only a step towards something else.
    pub fn is_step(&self) -> bool {
        matches!(self.expected, ExpectedReply::Step)
    }
}

impl ExpectedReply {
    /// Whether the method is sent again when the connection is lost before its reply. If the broker ended the
    /// connection over it, it would end the next one too.
    pub fn comes_again(&self) -> bool {
        match self {
            ExpectedReply::Call(_)
            | ExpectedReply::Get(_)
            | ExpectedReply::Consume(_)
            | ExpectedReply::Replay(_)
            | ExpectedReply::Bind(_)
            | ExpectedReply::Locked { .. } => true,
            ExpectedReply::Step | ExpectedReply::Cancel(_) | ExpectedReply::Recovered(_) => false,
        }
    }

    /// Whether nobody waits for the answer to a call or a get any more.
    pub fn is_given_up(&self) -> bool {
        match self {
            ExpectedReply::Call(call) => call.reply.is_given_up(),
            ExpectedReply::Get(get) => get.reply.is_given_up(),
            _ => false,
        }
    }

    /// Whether a call or a get was told something already: that its deadline has passed.
    pub fn is_answered(&self) -> bool {
        match self {
            ExpectedReply::Call(call) => call.reply.to.is_none(),
            ExpectedReply::Get(get) => get.reply.to.is_none(),
            _ => false,
        }
    }

    /// The command to send again, on another channel or on the next connection, if its caller still waits. Only calls
    /// and gets become one: the rest is repeated by its owner, such as the consumer's machine or the replay.
    pub fn into_command(self, method: AMQPClass) -> Option<Command> {
        match self {
            expected if expected.is_given_up() => None,
            ExpectedReply::Call(pending) => Some(Command::Call(Call { method, pending })),
            ExpectedReply::Get(get) => Some(Command::Get(get)),
            _ => None,
        }
    }
}

/// `channel.open` (AMQP 0-9-1 section 1.5.2.1).
pub(crate) fn open_method() -> AMQPClass {
    AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))
}

/// Whether `reply` is what the broker answers `method` with.
pub(crate) fn answers(method: &AMQPClass, reply: &AMQPClass) -> bool {
    let (class, id) = ids(method);
    let expected: &[u16] = match (class, id) {
        // A reply has the method's id plus one, except exchange.unbind-ok; basic.get has a second reply,
        // basic.get-empty.
        (40, 40) => &[51],
        (60, 70) => &[71, 72],
        _ => &[id + 1],
    };
    let (reply_class, reply_id) = ids(reply);
    class == reply_class && expected.contains(&reply_id)
}

/// Whether the answer to a later method may come before that to `method`: RabbitMQ has the queue answer `basic.consume`
/// and `basic.cancel`, and the channel everything else.
pub(crate) fn may_be_overtaken(method: &AMQPClass) -> bool {
    use amq_protocol::protocol::basic::AMQPMethod::{Cancel, Consume};
    matches!(method, AMQPClass::Basic(Consume(_) | Cancel(_)))
}
