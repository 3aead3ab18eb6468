//! Queues, exchanges and bindings: declare, delete, purge, bind, with RabbitMQ's checks and texts.

use std::sync::Arc;

use amq_protocol::{
    protocol::{
        exchange::{self, AMQPMethod as ExchangeMethod},
        queue::{self, AMQPMethod as QueueMethod},
    },
    types::{FieldTable, ShortString},
};
use tokio::time::Instant;

use super::{
    QueueId, SessionId,
    arguments::{QUEUE_ARGUMENTS, Settings, check_flag, check_same},
    exchange::{BindingKey, Destination, Exchange, Kind},
    frames::{IntoClass, Reply},
    queue::{Declared, Queue},
    refusal::{Answer, Refusal},
    state::State,
};

impl State {
    pub(super) fn vhost_of(&self, id: SessionId) -> Arc<str> {
        self.sessions.get(&id).map_or_else(|| "/".into(), |session| session.vhost.clone())
    }

    /// The queue of this name, which `id` may use.
    pub(super) fn usable_queue(&self, id: SessionId, name: &str) -> Answer<QueueId> {
        let vhost = self.vhost_of(id);
        let found = self.vhosts.get(&vhost).and_then(|host| host.queues.get(name)).copied();
        let queue = found.ok_or_else(|| Refusal::no_queue(name, &vhost))?;
        if self.queues.get(&queue).is_some_and(|queue| queue.declared.owner.is_some_and(|owner| owner != id))
        {
            return Err(locked(name, &vhost));
        }
        Ok(queue)
    }

    /// A name as a method gave it: empty stands for the queue declared last on the channel.
    pub(super) fn queue_name(&mut self, id: SessionId, number: u16, name: &ShortString) -> Answer<String> {
        if !name.as_str().is_empty() {
            return Ok(name.as_str().to_owned());
        }
        let last = self.channel(id, number).and_then(|channel| channel.last_queue.clone());
        last.ok_or_else(|| Refusal::new(404, "no previously declared queue"))
    }

    // ---- queues ----------------------------------------------------------------------------------------------

    pub(super) fn on_queue(
        &mut self,
        id: SessionId,
        number: u16,
        method: QueueMethod,
        now: Instant,
    ) -> Reply {
        match method {
            QueueMethod::Declare(declare) => {
                let nowait = declare.nowait;
                if self.answers_replies(declare.queue.as_str(), &self.vhost_of(id))? {
                    let reply =
                        queue::DeclareOk { queue: declare.queue, message_count: 0, consumer_count: 1 };
                    return Ok((!nowait).then(|| QueueMethod::DeclareOk(reply).into_class()));
                }
                let (name, queue) = self.declare_queue(id, number, declare, now)?;
                let queue = self.queues.get(&queue);
                let reply = queue::DeclareOk {
                    queue: ShortString::try_new(&*name).unwrap_or_default(),
                    message_count: queue.map_or(0, Queue::len) as u32,
                    consumer_count: queue.map_or(0, |queue| queue.consumers.len()) as u32,
                };
                if let Some(channel) = self.channel(id, number) {
                    channel.last_queue = Some(name);
                }
                Ok((!nowait).then(|| QueueMethod::DeclareOk(reply).into_class()))
            }
            QueueMethod::Delete(delete) => {
                let count = self.delete_queue_if(id, number, &delete)?;
                let reply = queue::DeleteOk { message_count: count as u32 };
                Ok((!delete.nowait).then(|| QueueMethod::DeleteOk(reply).into_class()))
            }
            QueueMethod::Purge(purge) => {
                let name = self.queue_name(id, number, &purge.queue)?;
                let queue = self.usable_queue(id, &name)?;
                let count = self.queues.get_mut(&queue).map_or(0, Queue::purge);
                self.reschedule(queue);
                let reply = queue::PurgeOk { message_count: count as u32 };
                Ok((!purge.nowait).then(|| QueueMethod::PurgeOk(reply).into_class()))
            }
            QueueMethod::Bind(bind) => {
                let name = self.queue_name(id, number, &bind.queue)?;
                let destination = Destination::Queue(self.usable_queue(id, &name)?);
                // An empty key with an empty name means the name of the queue (AMQP 0-9-1 section 1.7.2.3.4).
                let key = if bind.queue.as_str().is_empty() && bind.routing_key.as_str().is_empty() {
                    name
                } else {
                    bind.routing_key.as_str().to_owned()
                };
                self.bind(id, bind.exchange.as_str(), &key, destination, bind.arguments)?;
                Ok((!bind.nowait).then(|| QueueMethod::BindOk(queue::BindOk {}).into_class()))
            }
            QueueMethod::Unbind(unbind) => {
                let name = self.queue_name(id, number, &unbind.queue)?;
                check_not_default(unbind.exchange.as_str())?;
                let vhost = self.vhost_of(id);
                // What is not there is not bound, and whose queue it is does not matter (RabbitMQ).
                if let Some(queue) =
                    self.vhosts.get(&vhost).and_then(|host| host.queues.get(name.as_str())).copied()
                {
                    let (source, key) = (unbind.exchange.as_str(), unbind.routing_key.as_str());
                    self.remove_binding(&vhost, source, key, Destination::Queue(queue), &unbind.arguments);
                }
                Ok(Some(QueueMethod::UnbindOk(queue::UnbindOk {}).into_class()))
            }
            _ => Err(Refusal::new(503, "an answer from a client")),
        }
    }

    fn declare_queue(
        &mut self,
        id: SessionId,
        number: u16,
        declare: queue::Declare,
        now: Instant,
    ) -> Answer<(String, QueueId)> {
        let vhost = self.vhost_of(id);
        let name = declare.queue.as_str();
        if declare.passive {
            let name = self.queue_name(id, number, &declare.queue)?;
            let queue = self.usable_queue(id, &name)?;
            self.renew(queue, now);
            return Ok((name, queue));
        }
        if self.breaks_at.contains(name) {
            return Err(Refusal::new(541, "an error in the broker"));
        }
        let existing = self.vhosts.get(&vhost).and_then(|host| host.queues.get(name)).copied();
        if let Some(existing) = existing {
            self.check_redeclared(id, existing, &declare)?;
            self.renew(existing, now);
            return Ok((name.to_owned(), existing));
        }
        let name = if name.is_empty() { self.generated_name("amq.gen-") } else { name.to_owned() };
        if !declare.queue.as_str().is_empty() && name.starts_with("amq.") {
            return Err(Refusal::access(format!("queue name '{name}' contains reserved prefix 'amq.*'")));
        }
        if self.deny_deprecated && !declare.durable && !declare.exclusive {
            return Err(Refusal::new(541, "Feature `transient_nonexcl_queues` is deprecated."));
        }
        let what = format!("queue '{name}' in vhost '{vhost}'");
        let settings = Settings::parse(&declare.arguments, &what)?;
        if settings.quorum {
            for (refused, property) in [
                (!declare.durable, "non-durable"),
                (declare.auto_delete, "auto-delete"),
                (declare.exclusive, "exclusive-owner"),
            ] {
                if refused {
                    return Err(Refusal::precondition(format!("invalid property '{property}' for {what}")));
                }
            }
        }
        let key: Arc<str> = name.as_str().into();
        let declared = Declared {
            vhost: vhost.clone(),
            name: key.clone(),
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            owner: declare.exclusive.then_some(id),
            arguments: declare.arguments,
            settings,
        };
        let queue = self.next_id();
        self.queues.insert(queue, Queue::new(declared, now));
        if let Some(host) = self.vhosts.get_mut(&vhost) {
            host.queues.insert(key, queue);
        }
        self.reschedule(queue);
        Ok((name, queue))
    }

    /// Declaring a queue that exists, also passively, counts as using it.
    fn renew(&mut self, id: QueueId, now: Instant) {
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.unused_since = now;
        }
        self.reschedule(id);
    }

    fn check_redeclared(&self, id: SessionId, existing: QueueId, declare: &queue::Declare) -> Answer {
        let Some(queue) = self.queues.get(&existing) else { return Ok(()) };
        let declared = &queue.declared;
        let exclusive = declare.exclusive.then_some(id);
        if declared.owner.is_some_and(|owner| owner != id) {
            return Err(locked(&declared.name, &declared.vhost));
        }
        let what = queue.what();
        check_flag(&what, "durable", &declare.durable, &declared.durable)?;
        check_flag(&what, "auto_delete", &declare.auto_delete, &declared.auto_delete)?;
        if declared.owner != exclusive {
            return Err(locked(&declared.name, &declared.vhost));
        }
        check_same(&what, &declare.arguments, &declared.arguments, &QUEUE_ARGUMENTS)
    }

    fn delete_queue_if(&mut self, id: SessionId, number: u16, delete: &queue::Delete) -> Answer<usize> {
        let name = self.queue_name(id, number, &delete.queue)?;
        let queue_id = match self.usable_queue(id, &name) {
            // Deleting what does not exist succeeds (RabbitMQ, since 3.2).
            Err(refusal) if refusal.code == 404 => return Ok(0),
            other => other?,
        };
        let Some(queue) = self.queues.get(&queue_id) else { return Ok(0) };
        if delete.if_unused && !queue.consumers.is_empty() {
            return Err(Refusal::precondition(format!("{} in use", queue.what())));
        }
        if delete.if_empty && !queue.is_empty() {
            return Err(Refusal::precondition(format!("{} not empty", queue.what())));
        }
        let count = queue.len();
        self.delete_queue(queue_id);
        Ok(count)
    }

    // ---- exchanges -------------------------------------------------------------------------------------------

    pub(super) fn on_exchange(&mut self, id: SessionId, method: ExchangeMethod) -> Reply {
        let vhost = self.vhost_of(id);
        match method {
            ExchangeMethod::Declare(declare) => {
                let nowait = declare.nowait;
                self.declare_exchange(&vhost, declare)?;
                Ok((!nowait).then(|| ExchangeMethod::DeclareOk(exchange::DeclareOk {}).into_class()))
            }
            ExchangeMethod::Delete(delete) => {
                let name = delete.exchange.as_str();
                check_not_default(name)?;
                if name.starts_with("amq.") {
                    return Err(Refusal::access(format!(
                        "exchange name '{name}' contains reserved prefix 'amq.*'"
                    )));
                }
                let exchange = self.vhosts.get(&vhost).and_then(|host| host.exchanges.get(name));
                if delete.if_unused && exchange.is_some_and(|exchange| !exchange.bindings.is_empty()) {
                    return Err(Refusal::precondition(format!(
                        "exchange '{name}' in vhost '{vhost}' in use"
                    )));
                }
                self.delete_exchange(&vhost, name);
                Ok((!delete.nowait).then(|| ExchangeMethod::DeleteOk(exchange::DeleteOk {}).into_class()))
            }
            ExchangeMethod::Bind(bind) => {
                let destination = self.destination_exchange(&vhost, bind.destination.as_str())?;
                let (source, key) = (bind.source.as_str(), bind.routing_key.as_str());
                self.bind(id, source, key, destination, bind.arguments.clone())?;
                Ok((!bind.nowait).then(|| ExchangeMethod::BindOk(exchange::BindOk {}).into_class()))
            }
            ExchangeMethod::Unbind(unbind) => {
                let (source, key) = (unbind.source.as_str(), unbind.routing_key.as_str());
                check_not_default(source)?;
                check_not_default(unbind.destination.as_str())?;
                let destination = Destination::Exchange(unbind.destination.as_str().to_owned());
                self.remove_binding(&vhost, source, key, destination, &unbind.arguments);
                Ok((!unbind.nowait).then(|| ExchangeMethod::UnbindOk(exchange::UnbindOk {}).into_class()))
            }
            _ => Err(Refusal::new(503, "an answer from a client")),
        }
    }

    fn declare_exchange(&mut self, vhost: &str, declare: exchange::Declare) -> Answer {
        let name = declare.exchange.as_str();
        let existing = self.vhosts.get(vhost).and_then(|host| host.exchanges.get(name));
        if declare.passive {
            check_not_default(name)?;
            return existing.map(|_| ()).ok_or_else(|| Refusal::no_exchange(name, vhost));
        }
        let kind = Kind::parse(declare.kind.as_str())?;
        check_not_default(name)?;
        if let Some(exchange) = existing {
            let what = format!("exchange '{name}' in vhost '{vhost}'");
            check_flag(&what, "type", &kind.name(), &exchange.kind.name())?;
            check_flag(&what, "durable", &declare.durable, &exchange.durable)?;
            check_flag(&what, "auto_delete", &declare.auto_delete, &exchange.auto_delete)?;
            check_flag(&what, "internal", &declare.internal, &exchange.internal)?;
            return check_same(&what, &declare.arguments, &exchange.arguments, &["alternate-exchange"]);
        }
        if name.starts_with("amq.") {
            return Err(Refusal::access(format!("exchange name '{name}' contains reserved prefix 'amq.*'")));
        }
        let exchange = Exchange {
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: declare.arguments,
            ..Exchange::new(kind)
        };
        if let Some(host) = self.vhosts.get_mut(vhost) {
            host.exchanges.insert(declare.exchange.as_str().to_owned(), exchange);
        }
        Ok(())
    }

    fn destination_exchange(&self, vhost: &str, name: &str) -> Answer<Destination> {
        check_not_default(name)?;
        let exists = self.vhosts.get(vhost).is_some_and(|host| host.exchanges.contains_key(name));
        if exists {
            Ok(Destination::Exchange(name.to_owned()))
        } else {
            Err(Refusal::no_exchange(name, vhost))
        }
    }

    // ---- bindings --------------------------------------------------------------------------------------------

    fn bind(
        &mut self,
        id: SessionId,
        source: &str,
        key: &str,
        destination: Destination,
        arguments: FieldTable,
    ) -> Answer {
        check_not_default(source)?;
        let vhost = self.vhost_of(id);
        let exchange = self.vhosts.get_mut(&vhost).and_then(|host| host.exchanges.get_mut(source));
        let exchange = exchange.ok_or_else(|| Refusal::no_exchange(source, &vhost))?;
        exchange.bindings.insert(BindingKey::new(key, destination, &arguments), arguments);
        Ok(())
    }
}

fn check_not_default(name: &str) -> Answer {
    if name.is_empty() {
        return Err(Refusal::access("operation not permitted on the default exchange"));
    }
    Ok(())
}

fn locked(name: &str, vhost: &str) -> Refusal {
    Refusal::new(
        405,
        format!(
            "cannot obtain exclusive access to locked queue '{name}' in vhost '{vhost}'. It could be originally \
             declared on another connection or the exclusive property value does not match that of the original \
             declaration."
        ),
    )
}
