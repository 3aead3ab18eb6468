//! Queues, exchanges and bindings from Python's arguments.

use murano_messaging::{Binding, Exchange, Overflow, Queue, QueueType, Value};
use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    types::{PyDict, PyString},
};

use crate::{errors, time, value};

/// The keyword arguments that were given and are not `None`.
fn given<'a, 'py>(
    options: Option<&'a Bound<'py, PyDict>>,
) -> impl Iterator<Item = PyResult<(String, Bound<'py, PyAny>)>> + use<'a, 'py> {
    options
        .into_iter()
        .flat_map(PyDictMethods::iter)
        .filter(|(_, value)| !value.is_none())
        .map(|(key, value)| Ok((key.cast::<PyString>()?.to_cow()?.into_owned(), value)))
}

fn unexpected(method: &str, key: &str) -> PyErr {
    PyTypeError::new_err(format!("{method}() got an unexpected keyword argument '{key}'"))
}

/// Raw arguments, in the order of the dict.
fn arguments(given: &Bound<'_, PyAny>) -> PyResult<Vec<(String, Value)>> {
    let table = value::table("arguments", given)?;
    Ok((&table).into_iter().map(|(key, value)| (key.as_str().to_owned(), value.clone())).collect())
}

fn one_of<T: Copy>(what: &str, given: &Bound<'_, PyAny>, known: &[(&str, T)]) -> PyResult<T> {
    let Ok(text) = given.cast::<PyString>() else {
        return Err(errors::wrong_type(what, "a str", given));
    };
    let text = text.to_cow()?;
    known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|(name, _)| format!("'{name}'")).collect();
        errors::invalid(format!("{what} is '{text}'; it must be one of {}", names.join(", ")))
    })
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
            "durable" => queue.durable(given.extract()?),
            "exclusive" => queue.exclusive(given.extract()?),
            "auto_delete" => queue.auto_delete(given.extract()?),
            "expires" => queue.expires(time::duration(&key, &given)?),
            "message_ttl" => queue.message_ttl(time::duration(&key, &given)?),
            "max_length" => queue.max_length(number(&key, &given)?),
            "max_length_bytes" => queue.max_length_bytes(number(&key, &given)?),
            "overflow" => queue.overflow(one_of(&key, &given, &OVERFLOWS)?),
            "dead_letter_exchange" => queue.dead_letter_exchange(given.extract::<String>()?),
            "dead_letter_routing_key" => queue.dead_letter_routing_key(given.extract::<String>()?),
            "max_priority" => queue.max_priority(number(&key, &given)?),
            "type" => queue.queue_type(one_of(&key, &given, &TYPES)?),
            "delivery_limit" => queue.delivery_limit(number(&key, &given)?),
            "single_active_consumer" => queue.single_active_consumer(given.extract()?),
            "max_age" => queue.max_age(time::duration(&key, &given)?),
            "arguments" => {
                arguments(&given)?.into_iter().fold(queue, |queue, (key, value)| queue.argument(key, value))
            }
            _ => return Err(unexpected("declare_queue", &key)),
        };
    }
    Ok(queue)
}

/// A number that fits; that it does not is said in terms of the argument.
pub fn number<'py, T>(what: &str, given: &Bound<'py, PyAny>) -> PyResult<T>
where
    for<'a> T: FromPyObject<'a, 'py, Error = PyErr>,
{
    given.extract::<T>().map_err(|error| {
        if error.is_instance_of::<pyo3::exceptions::PyOverflowError>(given.py()) {
            errors::invalid(format!("{what} is {given}, which is out of range"))
        } else {
            error
        }
    })
}

/// An exchange with the options of `declare_exchange`.
pub fn exchange(name: &str, kind: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Exchange> {
    let mut exchange = Exchange::new(name, kind);
    for option in given(options) {
        let (key, given) = option?;
        exchange = match key.as_str() {
            "durable" => exchange.durable(given.extract()?),
            "auto_delete" => exchange.auto_delete(given.extract()?),
            "internal" => exchange.internal(given.extract()?),
            "alternate_exchange" => exchange.alternate_exchange(given.extract::<String>()?),
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

/// Applies the options of `consume`.
pub fn consume(
    mut builder: murano_messaging::ConsumeBuilder,
    options: Option<&Bound<'_, PyDict>>,
) -> PyResult<murano_messaging::ConsumeBuilder> {
    for option in given(options) {
        let (key, given) = option?;
        builder = match key.as_str() {
            "prefetch" => builder.prefetch(number(&key, &given)?),
            "no_ack" => builder.no_ack(given.extract()?),
            "exclusive" => builder.exclusive(given.extract()?),
            "tag" => builder.tag(given.extract::<String>()?),
            "priority" => builder.priority(number(&key, &given)?),
            "stream_offset" => builder.stream_offset(value::from_python(&key, &given)?),
            "resume" => builder.resume(given.extract()?),
            "arguments" => arguments(&given)?
                .into_iter()
                .fold(builder, |builder, (key, value)| builder.argument(&key, value)),
            _ => return Err(unexpected("consume", &key)),
        };
    }
    Ok(builder)
}
