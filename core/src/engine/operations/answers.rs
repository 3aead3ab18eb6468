//! Replies of the broker, and what they change in the record of the topology.

use amq_protocol::protocol::{AMQPClass, queue};

use crate::{
    engine::{
        Engine,
        command::{Answer, TopologyChange},
        rpc::{ExpectedReply, Rpc},
    },
    topology::QueueInfo,
};

impl Engine {
    pub(in crate::engine) fn on_answer(&mut self, number: u16, rpc: Rpc, reply: AMQPClass) {
        let is_step = rpc.is_step();
        match rpc.expected {
            ExpectedReply::Step | ExpectedReply::Bind(_) => {}
            ExpectedReply::Call(mut call) => {
                let answer = self.record_change(call.change, &reply);
                call.reply.answer(Ok(answer));
            }
            ExpectedReply::Get(mut get) => {
                get.reply.answer(Ok(None));
                if !get.no_ack {
                    self.live.idle_gets.push(number);
                }
            }
            ExpectedReply::Consume(consumer) => self.on_consume_ok(number, consumer),
            ExpectedReply::Cancel(consumer) => self.on_cancel_ok(number, consumer),
            ExpectedReply::Recovered(reply) => self.on_recover_ok(number, reply),
            ExpectedReply::Replay(item) => self.replayed(item, Ok(Some(reply))),
            ExpectedReply::Locked { name, since } => self.locked_answered(name, since, Ok(reply)),
        }
        if !is_step {
            self.control_answered(number);
        }
    }

    fn record_change(&mut self, change: TopologyChange, reply: &AMQPClass) -> Answer {
        let answer = match reply {
            AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)) => Answer::Queue(QueueInfo {
                name: ok.queue.to_string(),
                message_count: ok.message_count,
                consumer_count: ok.consumer_count,
            }),
            AMQPClass::Queue(queue::AMQPMethod::DeleteOk(ok)) => Answer::Count(ok.message_count),
            AMQPClass::Queue(queue::AMQPMethod::PurgeOk(ok)) => Answer::Count(ok.message_count),
            _ => Answer::Done,
        };
        match (change, &answer) {
            (TopologyChange::None, _) => return answer,
            (TopologyChange::DeclareExchange(exchange), _) => self.record.declare_exchange(exchange),
            (TopologyChange::DeleteExchange(name), _) => self.record.delete_exchange(&name),
            (TopologyChange::DeclareQueue(queue), Answer::Queue(info)) => {
                self.refused_consumes.forget(&info.name);
                self.record.declare_queue(&info.name, queue);
            }
            (TopologyChange::DeclareQueue(_), _) => {}
            (TopologyChange::DeleteQueue(name), _) => {
                self.refused_consumes.forget(&name);
                self.record.delete_queue(&name);
            }
            (TopologyChange::Bind(binding), _) => self.record.bind(binding),
            (TopologyChange::Unbind(binding), _) => self.record.unbind(&binding),
        }
        self.count_record();
        answer
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.record.forget(name);
        self.count_record();
    }

    pub(in crate::engine) fn count_record(&self) {
        self.counters.recorded.store(self.record.len() as u64, std::sync::atomic::Ordering::Relaxed);
    }
}
