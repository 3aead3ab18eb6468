//! What handles ask of the engine.

use std::sync::Arc;

use amq_protocol::protocol::AMQPClass;
use tokio::{sync::oneshot, time::Instant};
use zeroize::Zeroizing;

use super::delivery_queue::DeliveryQueue;
use crate::{
    Error, Result,
    delivery::Delivery,
    topology::{Binding, Exchange, Queue, QueueInfo},
};

/// Where the answer to a command goes. Dropping the other end means that nobody waits any more.
pub(crate) type ReplyTo<T> = oneshot::Sender<Result<T>>;

pub(crate) enum Command {
    /// One method on the control channel.
    Call(Call),
    Get(Get),
    Consume {
        incoming: Arc<DeliveryQueue>,
        reply: Pending<()>,
    },
    /// Ends a consumer: deliveries that were not handed out go back to the queue.
    Cancel {
        consumer: u64,
        reply: Pending<()>,
    },
    SetPrefetch {
        consumer: u64,
        prefetch: u16,
        reply: Pending<()>,
    },
    /// `basic.recover` with requeue on the consumer's channel.
    Recover {
        consumer: u64,
        reply: Pending<()>,
    },
    /// Drops a recorded queue or exchange, so that it is not declared again after a reconnect.
    Forget {
        name: String,
    },
    /// Answered once the topology of the connection is back; at once while it is there.
    AwaitRestored {
        reply: Pending<()>,
    },
    UpdateSecret {
        secret: Zeroizing<String>,
        reason: String,
        reply: Pending<()>,
    },
    Close {
        /// Whether to wait until handed-out deliveries are settled.
        drain: bool,
        reply: Pending<()>,
    },
}

/// Who waits for a command, until when, and what it is called in errors.
pub(crate) struct Pending<T> {
    pub name: String,
    pub deadline: Instant,
    pub to: Option<ReplyTo<T>>,
}

impl<T> Pending<T> {
    /// Whether nobody waits for the answer any more.
    pub fn is_given_up(&self) -> bool {
        self.to.as_ref().is_none_or(ReplyTo::is_closed)
    }

    pub fn answer(&mut self, result: Result<T>) {
        if let Some(to) = self.to.take() {
            // Nobody waiting is fine: the caller gave up.
            let _ = to.send(result);
        }
    }
}

pub(crate) struct Call {
    pub method: AMQPClass,
    pub pending: PendingCall,
}

/// What is left of a call once its method was sent.
pub(crate) struct PendingCall {
    pub change: TopologyChange,
    pub reply: Pending<Answer>,
}

pub(crate) struct Get {
    pub queue: String,
    pub no_ack: bool,
    pub reply: Pending<Option<Delivery>>,
}

/// What a successful call changes in the record of the topology.
#[derive(Clone, Debug)]
pub(crate) enum TopologyChange {
    None,
    DeclareExchange(Exchange),
    DeleteExchange(String),
    DeclareQueue(Queue),
    DeleteQueue(String),
    Bind(Binding),
    Unbind(Binding),
}

#[derive(Debug)]
pub(crate) enum Answer {
    Done,
    Queue(QueueInfo),
    /// Messages purged or deleted.
    Count(u32),
}

impl Command {
    /// The deadline, for commands that somebody waits for.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Command::Call(call) => Some(call.pending.reply.deadline),
            Command::Get(get) => Some(get.reply.deadline),
            Command::Consume { reply, .. }
            | Command::Cancel { reply, .. }
            | Command::SetPrefetch { reply, .. }
            | Command::Recover { reply, .. }
            | Command::AwaitRestored { reply }
            | Command::UpdateSecret { reply, .. }
            | Command::Close { reply, .. } => Some(reply.deadline),
            Command::Forget { .. } => None,
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Command::Call(call) => &call.pending.reply.name,
            Command::Get(get) => &get.reply.name,
            Command::Consume { reply, .. }
            | Command::Cancel { reply, .. }
            | Command::SetPrefetch { reply, .. }
            | Command::Recover { reply, .. }
            | Command::AwaitRestored { reply }
            | Command::UpdateSecret { reply, .. }
            | Command::Close { reply, .. } => &reply.name,
            Command::Forget { .. } => "",
        }
    }

    /// Whether the command waits until the topology is back.
    pub fn relies_on_topology(&self) -> bool {
        match self {
            Command::Call(_)
            | Command::Get(_)
            | Command::Consume { .. }
            | Command::SetPrefetch { .. }
            | Command::Recover { .. }
            | Command::AwaitRestored { .. } => true,
            Command::Cancel { .. }
            | Command::Forget { .. }
            | Command::UpdateSecret { .. }
            | Command::Close { .. } => false,
        }
    }

    /// Whether the command is pointless because its caller no longer waits. Never so for a consume, whose handle
    /// cancels the consumer, nor for a cancel, a close or a forget, which are carried out in any case.
    pub fn is_given_up(&self) -> bool {
        match self {
            Command::Call(call) => call.pending.reply.is_given_up(),
            Command::Get(get) => get.reply.is_given_up(),
            Command::SetPrefetch { reply, .. }
            | Command::Recover { reply, .. }
            | Command::AwaitRestored { reply }
            | Command::UpdateSecret { reply, .. } => reply.is_given_up(),
            Command::Consume { .. }
            | Command::Cancel { .. }
            | Command::Close { .. }
            | Command::Forget { .. } => false,
        }
    }

    pub fn fail(self, error: Error) {
        match self {
            Command::Call(mut call) => call.pending.reply.answer(Err(error)),
            Command::Get(mut get) => get.reply.answer(Err(error)),
            Command::Consume { incoming, mut reply } => {
                if let Some(requests) = &incoming.requests {
                    requests.with(|window| window.close(&error));
                }
                incoming.end(Some(error.clone()));
                reply.answer(Err(error));
            }
            Command::Cancel { mut reply, .. }
            | Command::SetPrefetch { mut reply, .. }
            | Command::Recover { mut reply, .. }
            | Command::AwaitRestored { mut reply }
            | Command::UpdateSecret { mut reply, .. }
            | Command::Close { mut reply, .. } => reply.answer(Err(error)),
            Command::Forget { .. } => {}
        }
    }
}
