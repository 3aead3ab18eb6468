//! What handles ask of the engine.

use std::sync::Arc;

use amq_protocol::protocol::AMQPClass;
use tokio::{sync::oneshot, time::Instant};
use zeroize::Zeroizing;

use super::{acks::ChannelAcks, incoming::Incoming};
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
        incoming: Arc<Incoming>,
        what: Asked<()>,
    },
    /// Ends a consumer: deliveries that were not handed out go back to the queue.
    Cancel {
        consumer: u64,
        what: Asked<()>,
    },
    SetPrefetch {
        consumer: u64,
        prefetch: u16,
        what: Asked<()>,
    },
    /// `basic.recover` with requeue on the consumer's channel.
    Recover {
        consumer: u64,
        what: Asked<()>,
    },
    /// The application holds nothing of this channel any more.
    Release {
        acks: Arc<ChannelAcks>,
    },
    /// Drops a recorded queue or exchange, so that it is not declared again after a reconnect.
    Forget {
        name: String,
    },
    UpdateSecret {
        secret: Zeroizing<String>,
        reason: String,
        what: Asked<()>,
    },
    Close {
        /// Whether to wait until handed-out deliveries are settled.
        drain: bool,
        what: Asked<()>,
    },
}

/// Who waits for a command, until when, and what it is called in errors.
pub(crate) struct Asked<T> {
    pub name: String,
    pub deadline: Instant,
    pub reply: Option<ReplyTo<T>>,
}

impl<T> Asked<T> {
    /// Whether nobody waits for the answer any more.
    pub fn is_given_up(&self) -> bool {
        self.reply.as_ref().is_none_or(ReplyTo::is_closed)
    }

    pub fn answer(&mut self, result: Result<T>) {
        if let Some(reply) = self.reply.take() {
            // Nobody waiting is fine: the caller gave up.
            let _ = reply.send(result);
        }
    }
}

pub(crate) struct Call {
    pub method: AMQPClass,
    pub effect: Effect,
    pub what: Asked<Answer>,
}

pub(crate) struct Get {
    pub queue: String,
    pub no_ack: bool,
    pub what: Asked<Option<Delivery>>,
}

/// What a successful call changes in the record of the topology.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
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
            Command::Call(call) => Some(call.what.deadline),
            Command::Get(get) => Some(get.what.deadline),
            Command::Consume { what, .. }
            | Command::Cancel { what, .. }
            | Command::SetPrefetch { what, .. }
            | Command::Recover { what, .. }
            | Command::UpdateSecret { what, .. }
            | Command::Close { what, .. } => Some(what.deadline),
            Command::Release { .. } | Command::Forget { .. } => None,
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Command::Call(call) => &call.what.name,
            Command::Get(get) => &get.what.name,
            Command::Consume { what, .. }
            | Command::Cancel { what, .. }
            | Command::SetPrefetch { what, .. }
            | Command::Recover { what, .. }
            | Command::UpdateSecret { what, .. }
            | Command::Close { what, .. } => &what.name,
            Command::Release { .. } | Command::Forget { .. } => "",
        }
    }

    pub fn fail(self, error: Error) {
        match self {
            Command::Call(mut call) => call.what.answer(Err(error)),
            Command::Get(mut get) => get.what.answer(Err(error)),
            Command::Consume { incoming, mut what } => {
                if let Some(requests) = &incoming.requests {
                    requests.with(|window| window.close(&error));
                }
                incoming.end(Some(error.clone()));
                what.answer(Err(error));
            }
            Command::Cancel { mut what, .. }
            | Command::SetPrefetch { mut what, .. }
            | Command::Recover { mut what, .. }
            | Command::UpdateSecret { mut what, .. }
            | Command::Close { mut what, .. } => what.answer(Err(error)),
            Command::Release { .. } | Command::Forget { .. } => {}
        }
    }
}
