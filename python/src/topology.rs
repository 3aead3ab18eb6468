//! Queues, exchanges and bindings from Python's arguments.

use std::time::Duration;

use murano_messaging::{
    Binding, Client, ConsumeBuilder, Delivery, Exchange, OnDrop, Overflow, Queue, QueueType, Value,
};
use pyo3::{
    prelude::*,
    types::{PyBool, PyDict, PyInt, PyString},
};

use crate::{
    arguments::{flag, given, number, one_of, text, unexpected},
    errors, time, value,
};

/// Raw arguments, in the order of the dict.
fn arguments(given: &Bound<'_, PyAny>) -> PyResult<Vec<(String, Value)>> {
    let table = value::table("arguments", given)?;
    Ok((&table).into_iter().map(|(key, value)| (key.as_str().to_owned(), value.clone())).collect())
}

/// Deletes a queue with Python's flags.
pub async fn delete_queue(
    core: &Client,
    name: &str,
    if_unused: bool,
    if_empty: bool,
) -> murano_messaging::Result<u32> {
    match (if_unused, if_empty) {
        (false, false) => core.delete_queue(name).await,
        (true, false) => core.delete_queue_if_unused(name).await,
        (false, true) => core.delete_queue_if_empty(name).await.map(|()| 0),
        (true, true) => core.delete_queue_if_unused_and_empty(name).await.map(|()| 0),
    }
}

/// Deletes an exchange with Python's flag.
pub async fn delete_exchange(core: &Client, name: &str, if_unused: bool) -> murano_messaging::Result<()> {
    if if_unused { core.delete_exchange_if_unused(name).await } else { core.delete_exchange(name).await }
}

/// Takes a message off a queue with Python's flag.
pub async fn get(core: &Client, queue: &str, no_ack: bool) -> murano_messaging::Result<Option<Delivery>> {
    if no_ack { core.get_no_ack(queue).await } else { core.get_with_ack(queue).await }
}

/// A duration that the broker takes in whole milliseconds, and not 0 of them.
fn more_than_nothing(what: &str, given: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let duration = time::duration(what, given)?;
    if duration.as_millis() == 0 {
        return Err(errors::invalid(format!("{what} is {given} in seconds; it must be 0.001 or more")));
    }
    Ok(duration)
}

/// A queue with the options of `declare_queue`.
pub fn queue(name: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Queue> {
    const TYPES: [(&str, QueueType); 3] =
        [("classic", QueueType::Classic), ("quorum", QueueType::Quorum), ("stream", QueueType::Stream)];
    const OVERFLOWS: [(&str, Overflow); 3] = [
        ("drop-head", Overflow::DropHead),
        ("reject-publish", Overflow::RejectPublish),
        ("reject-publish-dlx", Overflow::RejectPublishDlx),
    ];
    let mut queue = Queue::new(name);
    for option in given(options) {
        let (key, given) = option?;
        queue = match key.as_str() {
            "durable" => queue.durable(flag(&key, &given)?),
            "exclusive" => queue.exclusive(flag(&key, &given)?),
            "auto_delete" => queue.auto_delete(flag(&key, &given)?),
            "expires" => queue.expires(more_than_nothing(&key, &given)?),
            "message_ttl" => queue.message_ttl(time::duration(&key, &given)?),
            "max_length" => queue.max_length(number(&key, &given)?),
            "max_length_bytes" => queue.max_length_bytes(number(&key, &given)?),
            "overflow" => queue.overflow(one_of(&key, &given, &OVERFLOWS)?),
            "dead_letter_exchange" => queue.dead_letter_exchange(text(&key, &given)?),
            "dead_letter_routing_key" => queue.dead_letter_routing_key(text(&key, &given)?),
            "max_priority" => queue.max_priority(number(&key, &given)?),
            "type" => queue.queue_type(one_of(&key, &given, &TYPES)?),
            "delivery_limit" => queue.delivery_limit(number(&key, &given)?),
            "single_active_consumer" => queue.single_active_consumer(flag(&key, &given)?),
            "max_age" => queue.max_age(time::duration(&key, &given)?),
            "arguments" => {
                arguments(&given)?.into_iter().fold(queue, |queue, (key, value)| queue.argument(key, value))
            }
            _ => return Err(unexpected("declare_queue", &key)),
        };
    }
    Ok(queue)
}

/// An exchange with the options of `declare_exchange`.
pub fn exchange(name: &str, kind: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Exchange> {
    let mut exchange = Exchange::new(name, kind);
    for option in given(options) {
        let (key, given) = option?;
        exchange = match key.as_str() {
            "durable" => exchange.durable(flag(&key, &given)?),
            "auto_delete" => exchange.auto_delete(flag(&key, &given)?),
            "internal" => exchange.internal(flag(&key, &given)?),
            "alternate_exchange" => exchange.alternate_exchange(text(&key, &given)?),
            "arguments" => arguments(&given)?
                .into_iter()
                .fold(exchange, |exchange, (key, value)| exchange.argument(key, value)),
            _ => return Err(unexpected("declare_exchange", &key)),
        };
    }
    Ok(exchange)
}

/// `binding` with its routing key and raw arguments.
pub fn binding(binding: Binding, routing_key: &str, raw: Option<&Bound<'_, PyAny>>) -> PyResult<Binding> {
    let binding = binding.routing_key(routing_key);
    let raw = raw.map(arguments).transpose()?.unwrap_or_default();
    Ok(raw.into_iter().fold(binding, |binding, (key, value)| binding.argument(key, value)))
}

/// Where to start in a stream; a `timedelta` is how long ago, which RabbitMQ takes as text.
fn stream_offset(what: &str, given: &Bound<'_, PyAny>) -> PyResult<Value> {
    let py = given.py();
    if !given.is_instance(time::timedelta(py)?)? {
        let number = given.is_instance_of::<PyInt>() && !given.is_instance_of::<PyBool>();
        if !number && !given.is_instance_of::<PyString>() && !given.is_instance(time::datetime(py)?)? {
            return Err(errors::wrong_type(what, "a str, an int, a datetime or a timedelta", given));
        }
        return value::from_python(what, given);
    }
    // A moment too early is better than one message too few; and RabbitMQ does not take 0.
    let seconds = time::duration(what, given)?.as_secs_f64().ceil().max(1.0) as u64;
    Ok(Value::LongString(format!("{seconds}s").into_bytes().into()))
}

/// A consumer of `queue` with the options of `consume`.
pub fn consume(
    client: &Client,
    queue: &str,
    options: Option<&Bound<'_, PyDict>>,
) -> PyResult<ConsumeBuilder> {
    const ON_DROP: [(&str, OnDrop); 2] = [("keep", OnDrop::Keep), ("requeue", OnDrop::Requeue)];
    let timeout = options.map(|options| options.get_item("timeout")).transpose()?.flatten();
    let timeout = timeout.filter(|timeout| !timeout.is_none());
    let mut builder = match time::optional_duration("timeout", timeout.as_ref())? {
        Some(timeout) => client.with_timeout(timeout).consume(queue),
        None => client.consume(queue),
    };
    for option in given(options) {
        let (key, given) = option?;
        builder = match key.as_str() {
            "prefetch" => builder.prefetch(number(&key, &given)?),
            "no_ack" => builder.no_ack(flag(&key, &given)?),
            "exclusive" => builder.exclusive(flag(&key, &given)?),
            "tag" => builder.tag(text(&key, &given)?),
            "priority" => builder.priority(number(&key, &given)?),
            "stream_offset" => builder.stream_offset(stream_offset(&key, &given)?),
            "resume" => builder.resume(flag(&key, &given)?),
            "on_drop" => builder.on_drop(one_of(&key, &given, &ON_DROP)?),
            "arguments" => arguments(&given)?
                .into_iter()
                .fold(builder, |builder, (key, value)| builder.argument(&key, value)),
            "timeout" => builder,
            _ => return Err(unexpected("consume", &key)),
        };
    }
    Ok(builder)
}
