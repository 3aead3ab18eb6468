//! Commands: taken from the handles, and kept while the connection or its topology is not there.

use amq_protocol::protocol::{AMQPClass, connection};
use tokio::time::Instant;

use crate::{
    engine::{Engine, acks::AckEvent, closed, command::Command},
    wire::encode,
};

impl Engine {
    /// Takes what handles have asked for since the last turn.
    pub(in crate::engine) fn read_mail(&mut self) {
        let mail = self.link.take_mail();
        for event in mail.acks {
            match event {
                AckEvent::Settled(acks) => {
                    self.flush_acks(&acks);
                    self.close_if_drained(&acks);
                }
                AckEvent::Released(acks) => self.release(&acks),
            }
        }
        for command in mail.commands {
            self.arm(command.deadline());
            self.on_command(command);
        }
    }

    /// As [`Self::read_mail`] while there is no connection.
    pub(in crate::engine) fn defer_mail(&mut self) {
        for command in self.link.take_mail().commands {
            self.arm(command.deadline());
            match command {
                Command::Forget { name } => self.forget(&name),
                Command::Close { drain, reply } => self.begin_close(drain, reply),
                Command::Cancel { consumer, reply } => self.cancel(consumer, reply),
                // There is no login to renew; the next one has the new secret.
                Command::UpdateSecret { mut reply, .. } => reply.answer(Ok(())),
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
    pub(in crate::engine) fn resume_commands(&mut self) {
        for command in std::mem::take(&mut self.deferred) {
            self.on_command(command);
        }
    }

    pub(in crate::engine) fn on_command(&mut self, command: Command) {
        let waits = self.live.replay.is_some() || self.live.careful;
        if waits && command.relies_on_topology() {
            self.deferred.push_back(command);
        } else {
            self.perform(command);
        }
    }

    /// On a connection that does one operation at a time: begins the next, once the one before has its answer.
    pub(in crate::engine) fn advance_carefully(&mut self) {
        while self.live.careful && self.live.replay.is_none() && self.is_quiet() {
            match self.deferred.pop_front() {
                Some(command) => self.perform(command),
                None => self.live.careful = false,
            }
        }
    }

    /// Begins what a command asks for.
    fn perform(&mut self, command: Command) {
        match command {
            command if command.is_given_up() => {}
            Command::Forget { name } => self.forget(&name),
            Command::Close { drain, reply } => self.begin_close(drain, reply),
            Command::Cancel { consumer, reply } => self.cancel(consumer, reply),
            Command::UpdateSecret { mut reply, .. } if self.closing.is_some() => reply.answer(Err(closed())),
            Command::UpdateSecret { secret, reason, reply } => {
                let method = connection::AMQPMethod::UpdateSecret(connection::UpdateSecret {
                    new_secret: secret.as_bytes().into(),
                    reason: amq_protocol::types::ShortString::try_new(reason).unwrap_or_default(),
                });
                encode::method(&mut self.live.out, 0, &AMQPClass::Connection(method));
                self.live.secrets.push_back(reply);
            }
            command if self.closing.is_some() => command.fail(closed()),
            Command::Call(call) => self.call(call),
            Command::Get(get) => self.get(get),
            Command::Consume { incoming, reply } => self.consume(incoming, reply),
            Command::SetPrefetch { consumer, prefetch, reply } => {
                self.set_prefetch(consumer, prefetch, reply);
            }
            Command::Recover { consumer, reply } => self.recover(consumer, reply),
            Command::AwaitRestored { mut reply } => reply.answer(Ok(())),
        }
    }
}
