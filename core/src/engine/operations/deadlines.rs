//! Commands that get no answer before their deadline.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::{
    Error, ErrorKind,
    engine::{Engine, command::Pending, rpc::ExpectedReply},
};

impl Engine {
    /// Fails the commands that are past their deadline, wherever they wait, and sets when to look again.
    pub(in crate::engine) fn expire_commands(&mut self, now: Instant) {
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
        let mut waiting = VecDeque::new();
        for command in std::mem::take(&mut self.deferred) {
            if command.deadline().is_some_and(&mut check) {
                let error = late(command.name());
                command.fail(error);
            } else {
                waiting.push_back(command);
            }
        }
        let on_channels = self.live.channels.iter_mut().flat_map(|(_, channel)| &mut channel.rpcs);
        for rpc in on_channels.chain(&mut self.live.control.unsent) {
            match &mut rpc.expected {
                ExpectedReply::Call(call) => expire_asked(&mut call.reply, &mut check, &late),
                ExpectedReply::Get(get) => expire_asked(&mut get.reply, &mut check, &late),
                ExpectedReply::Recovered(reply) => {
                    expire_asked(reply, &mut check, &late);
                }
                ExpectedReply::Step
                | ExpectedReply::Consume(_)
                | ExpectedReply::Cancel(_)
                | ExpectedReply::Replay(_)
                | ExpectedReply::Bind(_)
                | ExpectedReply::Locked { .. } => {}
            }
        }
        for reply in &mut self.live.secrets {
            expire_asked(reply, &mut check, &late);
        }
        for consumer in self.consumers.values_mut() {
            for reply in consumer.waiting() {
                expire_asked(reply, &mut check, &late);
            }
        }
        self.deferred = waiting;
        self.armed = next;
        self.leave_stuck_control();
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
