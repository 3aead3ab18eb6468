//! The control channel: declarations and whatever else leaves nothing to be settled, in the order they were asked for.
//!
//! A refusal closes the channel, and what was sent behind the refused method is sent again on another one. So methods are
//! sent one at a time after a refusal, and twice as many after each answer: a thousand refusals in a row cost a thousand
//! channels, and not half a million methods.
//!
//! A method that gets no answer before its deadline holds up all that is sent behind it: another channel takes over.

use std::collections::VecDeque;

use amq_protocol::protocol::{AMQPClass, exchange, queue};

use crate::engine::{
    Engine,
    channel::ChannelKind,
    rpc::{ExpectedReply, Rpc},
};

pub(in crate::engine) struct Control {
    /// The channel; 0 until one is needed.
    pub channel: u16,
    /// Methods that are held back.
    pub unsent: VecDeque<Rpc>,
    /// The number of methods that may be without an answer.
    limit: usize,
}

/// A control channel that gets no answer is left for another while there are at most this many, those included that
/// were left before and still wait: one more may be opened.
const MOST_CHANNELS: usize = 16;

impl Default for Control {
    fn default() -> Self {
        Self { channel: 0, unsent: VecDeque::new(), limit: usize::MAX }
    }
}

impl Engine {
    /// Sends a method on the control channel and remembers who waits for its reply.
    pub(in crate::engine) fn request_on_control(&mut self, method: AMQPClass, expected: ExpectedReply) {
        self.live.control.unsent.push_back(Rpc { method, expected });
        self.send_control();
    }

    /// Sends what was held back, as much as may be without an answer.
    fn send_control(&mut self) {
        while !self.live.control.unsent.is_empty() {
            let Some(number) = self.control_channel() else {
                for rpc in std::mem::take(&mut self.live.control.unsent) {
                    self.fail_waiter(rpc, None);
                }
                return;
            };
            let waiting = self.live.channels.get(number).map_or(0, |channel| {
                // The opening of the channel is nothing to wait for.
                channel.rpcs.len() - usize::from(channel.rpcs.front().is_some_and(Rpc::is_step))
            });
            let most = if self.live.careful { 1 } else { self.live.control.limit };
            if waiting >= most {
                return;
            }
            if let Some(rpc) = self.live.control.unsent.pop_front() {
                self.request(number, rpc.method, rpc.expected);
            }
        }
    }

    fn control_channel(&mut self) -> Option<u16> {
        if self.live.control.channel == 0 {
            self.live.control.channel = self.open_channel(|_| ChannelKind::Control)?;
        }
        Some(self.live.control.channel)
    }

    /// A method has been answered, maybe one of the control channel.
    pub(in crate::engine) fn control_answered(&mut self, number: u16) {
        if number == self.live.control.channel {
            let control = &mut self.live.control;
            control.limit = control.limit.saturating_mul(2);
            self.send_control();
            return;
        }
        let is_left = |channel: &mut crate::engine::channel::Channel| {
            matches!(channel.kind, ChannelKind::Control) && channel.rpcs.is_empty()
        };
        if self.live.channels.get(number).is_some_and(is_left) {
            self.close_channel(number);
        }
    }

    /// The broker closed a control channel over one method; those behind it are sent again.
    pub(in crate::engine) fn control_refused(&mut self, number: u16, behind: VecDeque<Rpc>) {
        if self.live.control.channel == number {
            self.live.control.channel = 0;
        }
        if !behind.is_empty() {
            self.live.control.limit = 1;
        }
        self.send_again(behind);
    }

    fn send_again(&mut self, methods: VecDeque<Rpc>) {
        for rpc in methods.into_iter().rev() {
            if !rpc.is_step() && !rpc.expected.is_given_up() {
                self.live.control.unsent.push_front(rpc);
            }
        }
        self.send_control();
    }

    /// Leaves a control channel whose oldest method got no answer in time. The methods right behind it that do no harm
    /// when they are done twice, or late, are sent again; from the first other one on, all wait there for the broker's
    /// answer.
    pub(in crate::engine) fn leave_stuck_control(&mut self) {
        let number = self.live.control.channel;
        let controls = self.live.channels.iter_mut();
        if controls.filter(|(_, channel)| matches!(channel.kind, ChannelKind::Control)).count()
            > MOST_CHANNELS
        {
            return;
        }
        let Some(channel) = self.live.channels.get(number) else {
            return;
        };
        let oldest = channel.rpcs.iter().position(|rpc| !rpc.is_step());
        let Some(oldest) = oldest.filter(|oldest| channel.rpcs[*oldest].expected.is_answered()) else {
            return;
        };
        let mut behind = channel.rpcs.split_off(oldest + 1);
        let harmless = behind.iter().take_while(|rpc| is_repeatable(&rpc.method)).count();
        channel.rpcs.extend(behind.split_off(harmless));
        tracing::warn!(role = %self.role, channel = number, "no answer: another channel takes over");
        self.live.control.channel = 0;
        self.send_again(behind);
    }
}

/// Whether it makes no difference if a method is done once, twice, or late.
fn is_repeatable(method: &AMQPClass) -> bool {
    matches!(
        method,
        AMQPClass::Queue(queue::AMQPMethod::Declare(_) | queue::AMQPMethod::Bind(_))
            | AMQPClass::Exchange(exchange::AMQPMethod::Declare(_) | exchange::AMQPMethod::Bind(_))
    )
}
