//! The connection, and messages: published, consumed, settled.
//!
//! The file is long because these methods are those of one class, each with Puka's signature and its checks.

use std::sync::{Arc, PoisonError, atomic::Ordering};

use murano_messaging::{ConsumeBuilder, Consumer, Delivery, Error, ErrorKind, Message};
use pyo3::{
    exceptions::{PyAssertionError, PyKeyError, PyValueError},
    prelude::*,
    types::{PyDict, PyString, PyTuple},
};

use super::{
    arguments::{self, Flag, Text, callback},
    client::{self, LastRoute, PukaBase, no_connection},
    fields,
    frames::Given,
    promises::{Done, Operation, Promise, Started, Unsettled, Work},
    topology::PukaTopology,
};
use tokio::{sync::watch, task::JoinHandle};

use crate::{errors::OrPyErr, runtime, service};

/// The numbers of the methods that settle a delivery.
const BASIC_ACK: u16 = 80;
const BASIC_REJECT: u16 = 90;

impl PukaBase {
    fn route(
        &self,
        py: Python<'_>,
        exchange: &Bound<'_, PyAny>,
        routing_key: &Bound<'_, PyAny>,
    ) -> PyResult<murano_messaging::Publisher> {
        if let Some(last) = &*self.last.lock().unwrap_or_else(PoisonError::into_inner)
            && last.exchange.is(exchange)
            && last.routing_key.is(routing_key)
        {
            return Ok(last.publisher.clone());
        }
        // With the deadline of every operation, far away: the engine looks at publishes without one at every turn.
        let publisher =
            self.core(py)?.publisher(exchange.extract::<Text>()?.0, routing_key.extract::<Text>()?.0);
        let (exchange, routing_key) = (exchange.clone().unbind(), routing_key.clone().unbind());
        let last = LastRoute { exchange, routing_key, publisher: publisher.clone() };
        // Dropped without the lock.
        let before = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(last);
        drop(before);
        Ok(publisher)
    }

    fn settle(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyAny>,
        method: u16,
        how: impl FnOnce(&Delivery) -> Result<(), murano_messaging::Error>,
    ) -> PyResult<()> {
        let number = message.get_item(pyo3::intern!(py, "promise_number"))?.extract::<u64>()?;
        let tag = message.get_item(pyo3::intern!(py, "delivery_tag"))?.extract::<u64>()?;
        match self.promises()?.settle(number, tag, method, how) {
            Ok(()) => {
                runtime::call_back(py);
                Ok(())
            }
            Err(Unsettled::UnknownPromise) => Err(PyKeyError::new_err(number)),
            Err(Unsettled::NoAck) => Err(PyAssertionError::new_err("the message was consumed without acks")),
            Err(Unsettled::Settled) => Err(PyAssertionError::new_err(format!(
                "delivery {tag} of promise {number} was settled before, or never handed out"
            ))),
            Err(Unsettled::Failed(error)) => Err(error).or_py(py),
        }
    }

    fn consume(
        &self,
        consumers: Vec<(ConsumeBuilder, String)>,
        prefetch: u16,
        no_ack: bool,
        callback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        let promises = self.promises()?;
        // Puka's tags begin with the promise's number.
        let number = promises.next_number();
        let several = consumers.len() > 1;
        let consumers: Vec<_> = consumers
            .into_iter()
            .enumerate()
            .map(|(place, (consumer, tag))| {
                consumer.prefetch(prefetch).no_ack(no_ack).tag(format!("{number}.{place}.{tag}"))
            })
            .collect();
        let work: Operation = Box::pin(async move {
            let mut started = Vec::new();
            for consumer in consumers {
                match consumer.start().await {
                    Ok(consumer) => started.push(consumer),
                    Err(error) => {
                        cancel_all(&started).await;
                        return Err(error);
                    }
                }
            }
            Ok(Done::Consuming(started))
        });
        let mut promise = Promise::new(Work::Operation(work), self::callback(callback));
        promise.started = Some(watch::Sender::new(None));
        promise.no_ack = no_ack;
        // The broker sends as much for each of several queues.
        promise.limit = if several { usize::from(prefetch) } else { 0 };
        Ok(promises.insert(promise))
    }

    /// The consumers of a promise, which may still be starting.
    fn started(&self, number: u64) -> PyResult<Started> {
        self.promises()?.consumers(number).ok_or_else(|| {
            PyKeyError::new_err(format!(
                "promise {number} has no consumer: give the number that basic_consume has returned, before its consumer \
                 has ended"
            ))
        })
    }
}

/// Waits until the consumers have started; `None` if they never do, which the promise that asked for them tells.
async fn running(mut started: Started) -> Option<Arc<Vec<Consumer>>> {
    started.wait_for(Option::is_some).await.ok()?.clone()
}

/// A task that ends when nobody waits for it any more.
struct AbortOnDrop(JoinHandle<Result<murano_messaging::Client, Error>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Takes consumers back whose promise has failed.
async fn cancel_all(started: &[Consumer]) {
    for consumer in started {
        // What fails here ended the consumer as well.
        let _ = consumer.cancel().await;
    }
}

fn with_arguments(
    consumer: ConsumeBuilder,
    arguments: Option<&Bound<'_, PyAny>>,
) -> PyResult<ConsumeBuilder> {
    let table = fields::arguments(arguments)?;
    Ok((&table)
        .into_iter()
        .fold(consumer, |consumer, (key, value)| consumer.argument(key.as_str(), value.clone())))
}

/// What `puka.Client` is made of. It has Puka's methods but for `connect`, which is in Python.
#[pyclass(frozen, subclass, extends = PukaTopology, module = "murano_messaging.compat.puka")]
pub struct PukaClient;

#[pymethods]
impl PukaClient {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyClassInitializer<Self> {
        PyClassInitializer::from(PukaBase::new()).add_subclass(PukaTopology).add_subclass(Self)
    }

    // ---- the connection --------------------------------------------------------------------------------------

    /// Starts to connect.
    fn _connect(slf: &Bound<'_, Self>, given: &Bound<'_, PyDict>) -> PyResult<u64> {
        let callback = callback(given.get_item("callback")?);
        let options = client::options(given)?;
        // What cannot be then is mostly a file that is no certificate; it is no answer of the broker's.
        let unfit = if options.tls_options().is_some() { ErrorKind::Tls } else { ErrorKind::ConnectFailed };
        service::renew(slf.py())?;
        let mut connecting = AbortOnDrop(runtime::handle(slf.py())?.spawn(options.connect()));
        let work: Operation = Box::pin(async move {
            match (&mut connecting.0).await {
                Ok(Ok(client)) => Ok(Done::Connected(Box::new(client))),
                Ok(Err(error)) if error.kind() == ErrorKind::InvalidArgument => {
                    Err(Error::new(unfit, error.to_string()))
                }
                Ok(Err(error)) => Err(error),
                Err(_) => Err(Error::new(ErrorKind::Closed, "the interpreter ends")),
            }
        });
        let this = slf.as_super().as_super().get();
        // It belongs to the connection before this one.
        let last = this.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(last);
        Ok(this.promises()?.connect(work, callback))
    }

    /// Closes the connection. The promise is that of `connect()`; what else is outstanding fails.
    #[pyo3(
        signature = (*, callback=None),
        text_signature = "($self, *, callback=None)"
    )]
    fn close(slf: &Bound<'_, Self>, callback: Option<Bound<'_, PyAny>>) -> PyResult<u64> {
        let (py, this) = (slf.py(), slf.as_super().as_super().get());
        this.flush(py, false)?;
        let promises = this.promises()?;
        promises.drain();
        let core = promises.client();
        let work: Operation = Box::pin(async move {
            // Without one, the attempt to connect is given up.
            if let Some(core) = core {
                core.close().await?;
            }
            Ok(Done::Closed)
        });
        promises.close(work, self::callback(callback)).ok_or_else(|| no_connection(py))
    }

    // ---- messages --------------------------------------------------------------------------------------------

    /// Queues a message for `wait`, `loop` or `on_write` to send. The promise is kept when the broker has confirmed it.
    #[pyo3(
        signature = (exchange, routing_key=arguments::Given(None), mandatory=Flag(false), headers=None, body=arguments::Given(None), *, callback=None),
        text_signature = "($self, exchange, routing_key='', mandatory=False, headers=None, body='', *, callback=None)"
    )]
    fn basic_publish(
        slf: &Bound<'_, Self>,
        exchange: &Bound<'_, PyAny>,
        routing_key: arguments::Given<'_>,
        mandatory: Flag,
        headers: Option<&Bound<'_, PyAny>>,
        body: arguments::Given<'_>,
        callback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        let (py, this) = (slf.py(), slf.as_super().as_super().get());
        let promises = this.promises()?;
        let empty = pyo3::intern!(py, "").as_any();
        let publisher = this.route(py, exchange, routing_key.0.as_ref().unwrap_or(empty))?;
        let message: Message =
            fields::message(body.0.as_ref().unwrap_or(empty), headers)?.mandatory(mandatory.0);
        let size = client::AROUND_A_BODY + message.body().len();
        let confirmation = match publisher.enqueue(message) {
            Ok(confirmation) => confirmation,
            // As if the broker had been asked.
            Err(error) if error.implied_reply_code().is_some() => {
                return Ok(promises.add_finished(Given::Failed(error), self::callback(callback)));
            }
            Err(error) if error.kind() == ErrorKind::InvalidArgument => return Err(error).or_py(py),
            Err(_) => return Err(no_connection(py)),
        };
        this.unsent.fetch_add(size, Ordering::Relaxed);
        Ok(promises.add(Work::Publish(confirmation), self::callback(callback)))
    }

    /// Takes one message off a queue.
    #[pyo3(
        signature = (queue, no_ack=Flag(false), *, callback=None),
        text_signature = "($self, queue, no_ack=False, *, callback=None)"
    )]
    fn basic_get(
        slf: &Bound<'_, Self>,
        queue: Text,
        no_ack: Flag,
        callback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        let (py, this) = (slf.py(), slf.as_super().as_super().get());
        let core = this.ready(py)?;
        let work: Operation = Box::pin(async move {
            Ok(Done::Got(crate::topology::get(&core, &queue.0, no_ack.0).await?.map(Box::new)))
        });
        let mut promise = Promise::new(Work::Operation(work), self::callback(callback));
        promise.no_ack = no_ack.0;
        Ok(this.promises()?.insert(promise))
    }

    /// Consumes a queue: the promise has a result for each message.
    #[pyo3(
        signature = (queue, prefetch_count=0, no_local=Flag(false), no_ack=Flag(false), exclusive=Flag(false), arguments=None, *, callback=None),
        text_signature = "($self, queue, prefetch_count=0, no_local=False, no_ack=False, exclusive=False, arguments=None, *, callback=None)"
    )]
    fn basic_consume(
        slf: &Bound<'_, Self>,
        queue: Text,
        prefetch_count: u16,
        // RabbitMQ does not have it either.
        #[allow(unused_variables)] no_local: Flag,
        no_ack: Flag,
        exclusive: Flag,
        arguments: Option<Bound<'_, PyAny>>,
        callback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        let (py, this) = (slf.py(), slf.as_super().as_super().get());
        let consumer = this.ready(py)?.consume(queue.0).exclusive(exclusive.0);
        let consumer = with_arguments(consumer, arguments.as_ref())?;
        this.consume(vec![(consumer, String::new())], prefetch_count, no_ack.0, callback)
    }

    /// Consumes several queues by one promise. Each is a name, or a dict with `queue` and what `basic_consume` takes. They
    /// share the prefetch.
    #[pyo3(
        signature = (queues, prefetch_count=0, no_ack=Flag(false), *, callback=None),
        text_signature = "($self, queues, prefetch_count=0, no_ack=False, *, callback=None)"
    )]
    fn basic_consume_multi(
        slf: &Bound<'_, Self>,
        queues: &Bound<'_, PyAny>,
        prefetch_count: u16,
        no_ack: Flag,
        callback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        let (py, this) = (slf.py(), slf.as_super().as_super().get());
        let core = this.ready(py)?;
        let mut consumers = Vec::new();
        for item in queues.try_iter()? {
            let item = item?;
            if item.is_instance_of::<PyString>() {
                consumers.push((core.consume(item.extract::<Text>()?.0), String::new()));
                continue;
            }
            let optional = |name: &str| -> PyResult<Option<Bound<'_, PyAny>>> {
                let value = item.call_method1("get", (name,))?;
                Ok((!value.is_none()).then_some(value))
            };
            let queue = item.get_item("queue")?.extract::<Text>()?;
            let exclusive = optional("exclusive")?.map_or(Ok(false), |flag| flag.is_truthy())?;
            let tag = optional("consumer_tag")?
                .map_or(Ok(String::new()), |tag| tag.extract::<Text>().map(|tag| tag.0))?;
            let consumer = core.consume(queue.0).exclusive(exclusive);
            consumers.push((with_arguments(consumer, optional("arguments")?.as_ref())?, tag));
        }
        if consumers.is_empty() {
            return Err(PyValueError::new_err("there is nothing to consume: give at least one queue"));
        }
        this.consume(consumers, prefetch_count, no_ack.0, callback)
    }

    /// Changes the prefetch of consumers, which may still be starting.
    #[pyo3(
        signature = (consume_promise, prefetch_count=0, *, callback=None),
        text_signature = "($self, consume_promise, prefetch_count=0, *, callback=None)"
    )]
    fn basic_qos(
        slf: &Bound<'_, Self>,
        consume_promise: u64,
        prefetch_count: u16,
        callback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        let (py, this) = (slf.py(), slf.as_super().as_super().get());
        this.ready(py)?;
        let started = this.started(consume_promise)?;
        let work = Box::pin(async move {
            let Some(consumers) = running(started).await else {
                let text = format!("the consumer of promise {consume_promise} has not started");
                return Err(Error::new(ErrorKind::ConsumerCancelled, text));
            };
            for consumer in consumers.iter() {
                match consumer.set_prefetch(prefetch_count).await {
                    // No broker's limit can take the place of this one. That of the promise holds, up to the broker's.
                    Err(error) if error.kind() == ErrorKind::InvalidArgument => {
                        tracing::warn!(queue = consumer.queue(), "basic_qos: {error}");
                    }
                    result => result?,
                }
            }
            Ok(Done::Limited { target: consume_promise, limit: usize::from(prefetch_count) })
        });
        this.promise(work, callback)
    }

    /// Stops consuming. What was not handed out goes back to its queue, unless it came without acks.
    #[pyo3(
        signature = (consume_promise, *, callback=None),
        text_signature = "($self, consume_promise, *, callback=None)"
    )]
    fn basic_cancel(
        slf: &Bound<'_, Self>,
        consume_promise: u64,
        callback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        let (py, this) = (slf.py(), slf.as_super().as_super().get());
        this.ready(py)?;
        let started = this.started(consume_promise)?;
        let work = Box::pin(async move {
            let mut tag = String::new();
            if let Some(consumers) = running(started).await {
                for consumer in consumers.iter() {
                    tag = consumer.tag().to_string();
                    consumer.cancel().await?;
                }
            }
            Ok(Done::Cancelled { target: consume_promise, tag })
        });
        this.promise(work, callback)
    }

    /// Tells the broker that the message is done.
    ///
    /// Of a delivery tag that the broker has not given, the promise that consumes ends with `PreconditionFailed`.
    fn basic_ack(slf: &Bound<'_, Self>, msg_result: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.as_super().as_super().get());
        this.settle(py, msg_result, BASIC_ACK, Delivery::ack)
    }

    /// Refuses the message: back to its queue, or dropped.
    #[pyo3(
        signature = (msg_result, requeue=Flag(true)),
        text_signature = "($self, msg_result, requeue=True)"
    )]
    fn basic_reject(slf: &Bound<'_, Self>, msg_result: &Bound<'_, PyAny>, requeue: Flag) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.as_super().as_super().get());
        this.settle(py, msg_result, BASIC_REJECT, |delivery| delivery.nack(requeue.0))
    }
}
