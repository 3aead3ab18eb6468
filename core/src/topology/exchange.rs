//! Exchanges, and the bindings that route from them.

use amq_protocol::protocol::{AMQPClass, exchange, queue};

use super::{Arguments, checked_short};
use crate::{
    Error, Result,
    error::{ACCESS_REFUSED, COMMAND_INVALID, NOT_FOUND, PRECONDITION_FAILED},
    message::{IntoValue, Value, check_short},
};

const ALTERNATE_EXCHANGE: &str = "alternate-exchange";

/// An exchange to declare (`exchange.declare`). Durable unless said otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    name: String,
    kind: String,
    durable: bool,
    auto_delete: bool,
    internal: bool,
    arguments: Arguments,
}

impl Exchange {
    /// An exchange of any type, also one that a plugin brings, e.g. `x-delayed-message`. The broker closes the whole
    /// connection over a type it does not know.
    pub fn new(name: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: kind.into(),
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Arguments::default(),
        }
    }

    /// Routes to the queues bound with exactly the message's routing key.
    pub fn direct(name: impl Into<String>) -> Self {
        Self::new(name, "direct")
    }

    /// Routes by patterns over the words of the routing key: `*` is one word, `#` any number.
    pub fn topic(name: impl Into<String>) -> Self {
        Self::new(name, "topic")
    }

    /// Routes to every bound queue.
    pub fn fanout(name: impl Into<String>) -> Self {
        Self::new(name, "fanout")
    }

    /// Routes by the message's headers.
    pub fn headers(name: impl Into<String>) -> Self {
        Self::new(name, "headers")
    }

    /// Whether the exchange survives a restart of the broker.
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Whether the exchange is deleted when its last binding goes.
    pub fn auto_delete(mut self, auto_delete: bool) -> Self {
        self.auto_delete = auto_delete;
        self
    }

    /// Whether only other exchanges may feed it, and no publish.
    pub fn internal(mut self, internal: bool) -> Self {
        self.internal = internal;
        self
    }

    /// Where a message goes that no binding takes (`alternate-exchange`). It counts as routed then.
    pub fn alternate_exchange(self, name: impl Into<String>) -> Self {
        self.argument(ALTERNATE_EXCHANGE, name.into())
    }

    /// Sets any argument by its name on the wire.
    pub fn argument(mut self, key: impl Into<String>, value: impl IntoValue) -> Self {
        self.arguments.set(key.into(), value);
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_auto_delete(&self) -> bool {
        self.auto_delete
    }

    /// The method that declares the exchange. Only for one that passed [`check`](Self::check).
    pub(crate) fn declare(&self) -> exchange::Declare {
        exchange::Declare {
            exchange: checked_short(&self.name),
            kind: checked_short(&self.kind),
            passive: false,
            durable: self.durable,
            auto_delete: self.auto_delete,
            internal: self.internal,
            nowait: false,
            arguments: self.arguments.table.clone(),
        }
    }

    /// Refuses what `RabbitMQ` would refuse, with the reason. Names that begin with `amq.` are left to the broker: to
    /// declare one that exists is allowed.
    pub(crate) fn check(&self) -> Result<()> {
        check_short("exchange name", &self.name)?;
        check_short("exchange type", &self.kind)?;
        self.arguments.check()?;
        if self.name.is_empty() {
            return Err(Error::foreseen(
                ACCESS_REFUSED,
                "the default exchange (the empty name) is always there; it is not declared",
            ));
        }
        if self.kind.is_empty() {
            let text = format!("exchange {:?} has an empty type: give it one, such as direct", self.name);
            return Err(Error::foreseen(COMMAND_INVALID, text));
        }
        match self.arguments.table.inner().get(ALTERNATE_EXCHANGE) {
            None => Ok(()),
            Some(Value::LongString(name)) if name.len() <= 255 => Ok(()),
            Some(_) => Err(Error::foreseen(
                PRECONDITION_FAILED,
                format!(
                    "exchange {:?}: {ALTERNATE_EXCHANGE} must be the name of an exchange, at most 255 bytes",
                    self.name
                ),
            )),
        }
    }
}

/// A route from an exchange to a queue (`queue.bind`) or to another exchange (`exchange.bind`, a `RabbitMQ` extension).
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    to_queue: bool,
    destination: String,
    source: String,
    routing_key: String,
    arguments: Arguments,
}

impl Binding {
    /// Routes the messages with this routing key, or that match this pattern, from `exchange` to `queue`.
    pub fn new(
        queue: impl Into<String>,
        exchange: impl Into<String>,
        routing_key: impl Into<String>,
    ) -> Self {
        Self::queue(queue, exchange).routing_key(routing_key)
    }

    /// Routes messages from `exchange` to `queue`. For a server-named queue give the name its declare answered with.
    pub fn queue(queue: impl Into<String>, exchange: impl Into<String>) -> Self {
        Self::of(true, queue.into(), exchange.into())
    }

    /// Routes messages from the exchange `source` to the exchange `destination`.
    pub fn exchange(destination: impl Into<String>, source: impl Into<String>) -> Self {
        Self::of(false, destination.into(), source.into())
    }

    fn of(to_queue: bool, destination: String, source: String) -> Self {
        Self { to_queue, destination, source, routing_key: String::new(), arguments: Arguments::default() }
    }

    /// The routing key or pattern to match; empty by default, which fanout and headers exchanges ignore.
    pub fn routing_key(mut self, routing_key: impl Into<String>) -> Self {
        self.routing_key = routing_key.into();
        self
    }

    /// Sets an argument: a header to match, or `x-match` (`all`, `any`, `all-with-x`, `any-with-x`), for a headers
    /// exchange.
    pub fn argument(mut self, key: impl Into<String>, value: impl IntoValue) -> Self {
        self.arguments.set(key.into(), value);
        self
    }

    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    pub(crate) fn destination(&self) -> &str {
        &self.destination
    }

    pub(crate) fn destination_is_queue(&self) -> bool {
        self.to_queue
    }

    /// The same binding for the queue `new`, if it is one of the queue `old`; itself otherwise.
    pub(crate) fn with_queue_renamed(mut self, old: &str, new: &str) -> Self {
        if self.to_queue && self.destination == old {
            new.clone_into(&mut self.destination);
        }
        self
    }

    /// Refuses what `RabbitMQ` would refuse, with the reason.
    pub(crate) fn check(&self) -> Result<()> {
        let destination = if self.to_queue { "queue name" } else { "destination exchange name" };
        check_short(destination, &self.destination)?;
        check_short("exchange name", &self.source)?;
        check_short("routing key", &self.routing_key)?;
        self.arguments.check()?;
        if self.source.is_empty() || (!self.to_queue && self.destination.is_empty()) {
            return Err(Error::foreseen(
                ACCESS_REFUSED,
                "the default exchange (the empty name) cannot be bound; it routes to every queue by its name",
            ));
        }
        if self.destination.is_empty() {
            return Err(Error::foreseen(
                NOT_FOUND,
                "a binding needs the queue's name; that of a server-named queue is in the answer to its declare",
            ));
        }
        Ok(())
    }

    /// The method that makes the binding. Only for one that passed [`check`](Self::check).
    pub(crate) fn bind_method(&self) -> AMQPClass {
        let (destination, source) = (checked_short(&self.destination), checked_short(&self.source));
        let routing_key = checked_short(&self.routing_key);
        let arguments = self.arguments.table.clone();
        if self.to_queue {
            AMQPClass::Queue(queue::AMQPMethod::Bind(queue::Bind {
                queue: destination,
                exchange: source,
                routing_key,
                nowait: false,
                arguments,
            }))
        } else {
            AMQPClass::Exchange(exchange::AMQPMethod::Bind(exchange::Bind {
                destination,
                source,
                routing_key,
                nowait: false,
                arguments,
            }))
        }
    }

    /// The method that removes the binding. Only for one that passed [`check`](Self::check).
    pub(crate) fn unbind_method(&self) -> AMQPClass {
        let (destination, source) = (checked_short(&self.destination), checked_short(&self.source));
        let routing_key = checked_short(&self.routing_key);
        let arguments = self.arguments.table.clone();
        if self.to_queue {
            AMQPClass::Queue(queue::AMQPMethod::Unbind(queue::Unbind {
                queue: destination,
                exchange: source,
                routing_key,
                arguments,
            }))
        } else {
            AMQPClass::Exchange(exchange::AMQPMethod::Unbind(exchange::Unbind {
                destination,
                source,
                routing_key,
                nowait: false,
                arguments,
            }))
        }
    }
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
