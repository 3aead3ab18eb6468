//! Exchanges, queues and bindings.

use murano_messaging::{Binding, Exchange, Queue};
use pyo3::{prelude::*, types::PyDict};

use super::{
    arguments::{Flag, Text},
    client::PukaBase,
    fields,
    frames::{Frame, Given},
    promises::{Done, Operation},
};

impl PukaBase {
    fn binding(
        &self,
        py: Python<'_>,
        binding: Binding,
        (routing_key, arguments): (Text, Option<Bound<'_, PyAny>>),
        answer: Frame,
        callback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        let table = fields::arguments(arguments.as_ref())?;
        let binding =
            (&table).into_iter().fold(binding.routing_key(routing_key.0), |binding, (key, value)| {
                binding.argument(key.as_str(), value.clone())
            });
        let core = self.ready(py)?;
        let work = Box::pin(async move {
            match answer {
                Frame::QueueUnbindOk | Frame::ExchangeUnbindOk => core.unbind(&binding).await?,
                _ => core.bind(&binding).await?,
            }
            Ok(Done::Given(Given::Empty(answer)))
        });
        self.promise(work, callback)
    }
}

/// What declares, binds and deletes.
#[pyclass(frozen, subclass, extends = PukaBase, module = "murano_messaging.compat.puka")]
pub struct PukaTopology;

#[pymethods]
impl PukaTopology {
    // ---- exchanges -------------------------------------------------------------------------------------------

    /// Declares an exchange.
    #[pyo3(
        signature = (exchange, r#type=Text("direct".into()), durable=Flag(false), auto_delete=Flag(false), arguments=None, *, callback=None),
        text_signature = "($self, exchange, type='direct', durable=False, auto_delete=False, arguments=None, *, callback=None)"
    )]
    fn exchange_declare(
        slf: &Bound<'_, Self>,
        exchange: Text,
        r#type: Text,
        durable: Flag,
        auto_delete: Flag,
        arguments: Option<Bound<'_, PyAny>>,
        callback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        let (py, this) = (slf.py(), slf.as_super().get());
        let table = fields::arguments(arguments.as_ref())?;
        let exchange = Exchange::new(exchange.0, r#type.0).durable(durable.0).auto_delete(auto_delete.0);
        let exchange = (&table)
            .into_iter()
            .fold(exchange, |exchange, (key, value)| exchange.argument(key.as_str(), value.clone()));
        let core = this.ready(py)?;
        let work = Box::pin(async move {
            core.declare_exchange(&exchange).await?;
            Ok(Done::Given(Given::Empty(Frame::ExchangeDeclareOk)))
        });
        this.promise(work, callback)
    }

    /// Deletes an exchange; with `if_unused` only if nothing is bound to it.
    #[pyo3(
        signature = (exchange, if_unused=Flag(false), *, callback=None),
        text_signature = "($self, exchange, if_unused=False, *, callback=None)"
    )]
    fn exchange_delete(
        slf: &Bound<'_, Self>,
        exchange: Text,
        if_unused: Flag,
        callback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        let (py, this) = (slf.py(), slf.as_super().get());
        let core = this.ready(py)?;
        let work = Box::pin(async move {
            crate::topology::delete_exchange(&core, &exchange.0, if_unused.0).await?;
            Ok(Done::Given(Given::Empty(Frame::ExchangeDeleteOk)))
        });
        this.promise(work, callback)
    }

    /// Binds an exchange to another.
    #[pyo3(
        signature = (destination, source, routing_key=Text(String::new()), arguments=None, *, callback=None),
        text_signature = "($self, destination, source, routing_key='', arguments=None, *, callback=None)"
    )]
    fn exchange_bind(
        slf: &Bound<'_, Self>,
        destination: Text,
        source: Text,
        routing_key: Text,
        arguments: Option<Bound<'_, PyAny>>,
        callback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        let (py, this) = (slf.py(), slf.as_super().get());
        let binding = Binding::exchange(destination.0, source.0);
        this.binding(py, binding, (routing_key, arguments), Frame::ExchangeBindOk, callback)
    }

    /// Removes a binding between exchanges.
    #[pyo3(
        signature = (destination, source, routing_key=Text(String::new()), arguments=None, *, callback=None),
        text_signature = "($self, destination, source, routing_key='', arguments=None, *, callback=None)"
    )]
    fn exchange_unbind(
        slf: &Bound<'_, Self>,
        destination: Text,
        source: Text,
        routing_key: Text,
        arguments: Option<Bound<'_, PyAny>>,
        callback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        let (py, this) = (slf.py(), slf.as_super().get());
        let binding = Binding::exchange(destination.0, source.0);
        this.binding(py, binding, (routing_key, arguments), Frame::ExchangeUnbindOk, callback)
    }

    // ---- queues ----------------------------------------------------------------------------------------------

    /// `passive` may also be the arguments, which had this place in the Murano fork.
    #[pyo3(
        signature = (queue=Text(String::new()), durable=Flag(false), exclusive=Flag(false), auto_delete=Flag(false), passive=None, arguments=None, *, callback=None),
        text_signature = "($self, queue='', durable=False, exclusive=False, auto_delete=False, passive=False, arguments=None, *, callback=None)"
    )]
    fn queue_declare(
        slf: &Bound<'_, Self>,
        queue: Text,
        durable: Flag,
        exclusive: Flag,
        auto_delete: Flag,
        passive: Option<Bound<'_, PyAny>>,
        arguments: Option<Bound<'_, PyAny>>,
        callback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        let (py, this) = (slf.py(), slf.as_super().get());
        let (passive, arguments) = match passive {
            Some(table) if table.is_instance_of::<PyDict>() => (false, Some(table)),
            Some(passive) => (passive.is_truthy()?, arguments),
            None => (false, arguments),
        };
        let table = fields::arguments(arguments.as_ref())?;
        let core = this.ready(py)?;
        let work: Operation = if passive {
            Box::pin(async move { Ok(Done::Given(Given::Queue(core.queue_info(&queue.0).await?))) })
        } else {
            let queue =
                Queue::new(queue.0).durable(durable.0).exclusive(exclusive.0).auto_delete(auto_delete.0);
            let queue = (&table)
                .into_iter()
                .fold(queue, |queue, (key, value)| queue.argument(key.as_str(), value.clone()));
            Box::pin(async move { Ok(Done::Given(Given::Queue(core.declare_queue(&queue).await?))) })
        };
        this.promise(work, callback)
    }

    /// Deletes a queue; the result has how many messages went with it.
    #[pyo3(
        signature = (queue, if_unused=Flag(false), if_empty=Flag(false), *, callback=None),
        text_signature = "($self, queue, if_unused=False, if_empty=False, *, callback=None)"
    )]
    fn queue_delete(
        slf: &Bound<'_, Self>,
        queue: Text,
        if_unused: Flag,
        if_empty: Flag,
        callback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        let (py, this) = (slf.py(), slf.as_super().get());
        let core = this.ready(py)?;
        let work = Box::pin(async move {
            let count = crate::topology::delete_queue(&core, &queue.0, if_unused.0, if_empty.0).await?;
            Ok(Done::Given(Given::Count(Frame::QueueDeleteOk, count)))
        });
        this.promise(work, callback)
    }

    /// Drops the messages of a queue that nobody has in work.
    #[pyo3(
        signature = (queue, *, callback=None),
        text_signature = "($self, queue, *, callback=None)"
    )]
    fn queue_purge(slf: &Bound<'_, Self>, queue: Text, callback: Option<Bound<'_, PyAny>>) -> PyResult<u64> {
        let (py, this) = (slf.py(), slf.as_super().get());
        let core = this.ready(py)?;
        let work = Box::pin(async move {
            let count = core.purge_queue(&queue.0).await?;
            Ok(Done::Given(Given::Count(Frame::QueuePurgeOk, count)))
        });
        this.promise(work, callback)
    }

    /// Binds a queue to an exchange.
    #[pyo3(
        signature = (queue, exchange, routing_key=Text(String::new()), arguments=None, *, callback=None),
        text_signature = "($self, queue, exchange, routing_key='', arguments=None, *, callback=None)"
    )]
    fn queue_bind(
        slf: &Bound<'_, Self>,
        queue: Text,
        exchange: Text,
        routing_key: Text,
        arguments: Option<Bound<'_, PyAny>>,
        callback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        let (py, this) = (slf.py(), slf.as_super().get());
        let binding = Binding::queue(queue.0, exchange.0);
        this.binding(py, binding, (routing_key, arguments), Frame::QueueBindOk, callback)
    }

    /// Removes a binding of a queue.
    #[pyo3(
        signature = (queue, exchange, routing_key=Text(String::new()), arguments=None, *, callback=None),
        text_signature = "($self, queue, exchange, routing_key='', arguments=None, *, callback=None)"
    )]
    fn queue_unbind(
        slf: &Bound<'_, Self>,
        queue: Text,
        exchange: Text,
        routing_key: Text,
        arguments: Option<Bound<'_, PyAny>>,
        callback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        let (py, this) = (slf.py(), slf.as_super().get());
        let binding = Binding::queue(queue.0, exchange.0);
        this.binding(py, binding, (routing_key, arguments), Frame::QueueUnbindOk, callback)
    }
}
