//! Declaring, binding, deleting: one method of the protocol each, answered by the broker.

use amq_protocol::{
    protocol::{AMQPClass, exchange, queue},
    types::ShortString,
};

use super::Client;
use crate::{
    Error, Result,
    engine::command::{Answer, Call, Command, PendingCall, TopologyChange},
    error::NOT_FOUND,
    message::check_short,
    topology::{Binding, Exchange, Queue, QueueInfo},
};

impl Client {
    async fn call(&self, name: String, method: AMQPClass, change: TopologyChange) -> Result<Answer> {
        self.ask(name, |reply| Command::Call(Call { method, pending: PendingCall { change, reply } })).await
    }

    /// Declares a queue (AMQP 0-9-1 section 1.7.2.1); the name in the answer is the broker's for a server-named one.
    ///
    /// Errors: [`crate::ErrorKind::PreconditionFailed`] when it exists with other properties,
    /// [`crate::ErrorKind::ResourceLocked`] when it is exclusive to another connection,
    /// [`crate::ErrorKind::InvalidArgument`] for what no broker can serve.
    #[doc(alias = "queue_declare")]
    pub async fn declare_queue(&self, queue: &Queue) -> Result<QueueInfo> {
        queue.check()?;
        let name = format!("declare queue '{}'", queue.name());
        let method = AMQPClass::Queue(queue::AMQPMethod::Declare(queue.declare()));
        match self.call(name, method, TopologyChange::DeclareQueue(queue.clone())).await? {
            Answer::Queue(info) => Ok(info),
            other => Err(unexpected(&other)),
        }
    }

    /// The counts of a queue that exists (passive declare); [`crate::ErrorKind::NotFound`] when it does not.
    pub async fn queue_info(&self, queue: &str) -> Result<QueueInfo> {
        let declare =
            queue::Declare { queue: existing_queue(queue)?, passive: true, ..queue::Declare::default() };
        let method = AMQPClass::Queue(queue::AMQPMethod::Declare(declare));
        match self.call(format!("look up queue '{queue}'"), method, TopologyChange::None).await? {
            Answer::Queue(info) => Ok(info),
            other => Err(unexpected(&other)),
        }
    }

    /// Deletes a queue and returns how many messages went with it. A queue that does not exist counts as deleted.
    #[doc(alias = "queue_delete")]
    pub async fn delete_queue(&self, queue: &str) -> Result<u32> {
        self.queue_delete(queue, false, false).await
    }

    /// Deletes a queue unless somebody consumes it (`if-unused`), which is [`crate::ErrorKind::PreconditionFailed`].
    pub async fn delete_queue_if_unused(&self, queue: &str) -> Result<u32> {
        self.queue_delete(queue, true, false).await
    }

    /// Deletes a queue unless messages wait in it (`if-empty`), which is [`crate::ErrorKind::PreconditionFailed`].
    pub async fn delete_queue_if_empty(&self, queue: &str) -> Result<()> {
        self.queue_delete(queue, false, true).await.map(drop)
    }

    /// Deletes a queue unless somebody consumes it or messages wait in it, which is
    /// [`crate::ErrorKind::PreconditionFailed`].
    pub async fn delete_queue_if_unused_and_empty(&self, queue: &str) -> Result<()> {
        self.queue_delete(queue, true, true).await.map(drop)
    }

    /// Deletes a queue only if nobody consumes it (`if_unused`) and it holds nothing (`if_empty`).
    #[deprecated = "use delete_queue, delete_queue_if_unused, delete_queue_if_empty or delete_queue_if_unused_and_empty"]
    pub async fn delete_queue_if(&self, queue: &str, if_unused: bool, if_empty: bool) -> Result<u32> {
        self.queue_delete(queue, if_unused, if_empty).await
    }

    async fn queue_delete(&self, queue: &str, if_unused: bool, if_empty: bool) -> Result<u32> {
        let delete = queue::Delete { queue: existing_queue(queue)?, if_unused, if_empty, nowait: false };
        let method = AMQPClass::Queue(queue::AMQPMethod::Delete(delete));
        let change = TopologyChange::DeleteQueue(queue.to_owned());
        count(self.call(format!("delete queue '{queue}'"), method, change).await?)
    }

    /// Drops the ready messages of a queue (not those delivered and unacked); returns how many.
    #[doc(alias = "queue_purge")]
    pub async fn purge_queue(&self, queue: &str) -> Result<u32> {
        let purge = queue::Purge { queue: existing_queue(queue)?, nowait: false };
        let method = AMQPClass::Queue(queue::AMQPMethod::Purge(purge));
        count(self.call(format!("purge queue '{queue}'"), method, TopologyChange::None).await?)
    }

    /// Declares an exchange (AMQP 0-9-1 section 1.6.2.1). Errors: as [`Self::declare_queue`].
    #[doc(alias = "exchange_declare")]
    pub async fn declare_exchange(&self, exchange: &Exchange) -> Result<()> {
        exchange.check()?;
        let method = AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange.declare()));
        let change = TopologyChange::DeclareExchange(exchange.clone());
        self.call(format!("declare exchange '{}'", exchange.name()), method, change).await.map(|_| ())
    }

    /// Checks that an exchange exists (passive declare); [`crate::ErrorKind::NotFound`] when it does not.
    pub async fn check_exchange(&self, exchange: &str) -> Result<()> {
        let declare = exchange::Declare {
            exchange: short("exchange name", exchange)?,
            passive: true,
            ..exchange::Declare::default()
        };
        let method = AMQPClass::Exchange(exchange::AMQPMethod::Declare(declare));
        self.call(format!("look up exchange '{exchange}'"), method, TopologyChange::None).await.map(|_| ())
    }

    /// Deletes an exchange. One that does not exist counts as deleted.
    #[doc(alias = "exchange_delete")]
    pub async fn delete_exchange(&self, exchange: &str) -> Result<()> {
        self.exchange_delete(exchange, false).await
    }

    /// Deletes an exchange unless something is bound to it (`if-unused`), which is
    /// [`crate::ErrorKind::PreconditionFailed`].
    pub async fn delete_exchange_if_unused(&self, exchange: &str) -> Result<()> {
        self.exchange_delete(exchange, true).await
    }

    /// Deletes an exchange only if nothing is bound to it (`if_unused`).
    #[deprecated = "use delete_exchange or delete_exchange_if_unused"]
    pub async fn delete_exchange_if(&self, exchange: &str, if_unused: bool) -> Result<()> {
        self.exchange_delete(exchange, if_unused).await
    }

    async fn exchange_delete(&self, exchange: &str, if_unused: bool) -> Result<()> {
        let delete =
            exchange::Delete { exchange: short("exchange name", exchange)?, if_unused, nowait: false };
        let method = AMQPClass::Exchange(exchange::AMQPMethod::Delete(delete));
        let change = TopologyChange::DeleteExchange(exchange.to_owned());
        self.call(format!("delete exchange '{exchange}'"), method, change).await.map(|_| ())
    }

    /// Binds a queue or an exchange to an exchange (AMQP 0-9-1 section 1.7.2.3; RabbitMQ exchange-to-exchange bindings).
    #[doc(alias = "queue_bind")]
    #[doc(alias = "exchange_bind")]
    pub async fn bind(&self, binding: &Binding) -> Result<()> {
        binding.check()?;
        let name = format!("bind '{}' to exchange '{}'", binding.destination(), binding.source());
        self.call(name, binding.bind_method(), TopologyChange::Bind(binding.clone())).await.map(|_| ())
    }

    /// Removes a binding.
    #[doc(alias = "queue_unbind")]
    pub async fn unbind(&self, binding: &Binding) -> Result<()> {
        binding.check()?;
        let name = format!("unbind '{}' from exchange '{}'", binding.destination(), binding.source());
        self.call(name, binding.unbind_method(), TopologyChange::Unbind(binding.clone())).await.map(|_| ())
    }

    /// Drops the queue or exchange of this name from the record, with its bindings: it stays at the broker and is not
    /// declared again after a reconnect.
    pub fn forget(&self, name: &str) {
        // A client that is closed has no record.
        let _ = self.0.main.send(Command::Forget { name: name.to_owned() });
    }
}

fn short(what: &str, value: &str) -> Result<ShortString> {
    check_short(what, value)?;
    ShortString::try_new(value).map_err(|error| Error::invalid(format!("{what}: {error}")))
}

/// The name of a queue that exists. The broker takes the empty one for the queue that was declared last on the channel,
/// which may be anybody's.
pub(crate) fn existing_queue(name: &str) -> Result<ShortString> {
    if name.is_empty() {
        return Err(Error::foreseen(
            NOT_FOUND,
            "the queue's name is empty; that of a server-named queue is in the answer to its declare",
        ));
    }
    short("queue name", name)
}

fn count(answer: Answer) -> Result<u32> {
    match answer {
        Answer::Count(count) => Ok(count),
        other => Err(unexpected(&other)),
    }
}

/// The engine checks that a reply belongs to its method, so this is never seen.
fn unexpected(answer: &Answer) -> Error {
    Error::protocol(format!("the broker answered with {answer:?}"))
}
