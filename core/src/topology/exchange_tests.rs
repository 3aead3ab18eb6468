use super::*;
use crate::{ErrorKind, Result};

fn refused(checked: Result<()>) {
    assert_eq!(checked.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn exchanges_are_durable_and_have_their_type() {
    for (exchange, kind) in [
        (Exchange::direct("e"), "direct"),
        (Exchange::topic("e"), "topic"),
        (Exchange::fanout("e"), "fanout"),
        (Exchange::headers("e"), "headers"),
        (Exchange::new("e", "x-delayed-message"), "x-delayed-message"),
    ] {
        exchange.check().unwrap();
        let declare = exchange.declare();
        assert_eq!((declare.exchange.as_str(), declare.kind.as_str()), ("e", kind));
        assert!(declare.durable);
        assert!(!declare.passive && !declare.auto_delete && !declare.internal && !declare.nowait);
    }
}

#[test]
fn exchange_flags_and_arguments_reach_the_declare() {
    let exchange = Exchange::direct("e").durable(false).auto_delete(true).internal(true);
    let exchange = exchange.alternate_exchange("other").argument("x-more", true);
    exchange.check().unwrap();
    let declare = exchange.declare();
    assert!(!declare.durable && declare.auto_delete && declare.internal);
    assert_eq!(declare.arguments.inner()["alternate-exchange"], Value::LongString("other".into()));
    assert_eq!(declare.arguments.inner()["x-more"], Value::Boolean(true));
}

#[test]
fn exchanges_the_broker_cannot_take_are_refused() {
    let long = || "x".repeat(256);
    refused(Exchange::direct(long()).check());
    refused(Exchange::new("e", long()).check());
    refused(Exchange::new("e", "").check());
    refused(Exchange::direct("").check());
    refused(Exchange::direct("e").alternate_exchange(long()).check());
    refused(Exchange::direct("e").argument("alternate-exchange", 1).check());
    refused(Exchange::direct("e").argument("x", u64::MAX).check());
    // Allowed where it exists already.
    Exchange::direct("amq.direct").check().unwrap();
}

#[test]
fn a_refusal_has_the_code_of_the_brokers() {
    let code = |checked: Result<()>| checked.unwrap_err().implied_reply_code();
    assert_eq!(code(Exchange::direct("").check()), Some(403));
    assert_eq!(code(Exchange::new("e", "").check()), Some(503));
    assert_eq!(code(Binding::queue("q", "").check()), Some(403));
    assert_eq!(code(Binding::exchange("", "e").check()), Some(403));
    assert_eq!(code(Binding::queue("", "e").check()), Some(404));
    assert_eq!(code(crate::Queue::new("amq.mine").check()), Some(403));
    // No broker can be asked.
    assert_eq!(code(Exchange::direct("x".repeat(256)).check()), None);
}

#[test]
fn a_queue_binding_is_queue_bind() {
    let binding = Binding::queue("q", "e").routing_key("k").argument("x-match", "any");
    binding.check().unwrap();
    assert!(binding.destination_is_queue());
    assert_eq!((binding.destination(), binding.source()), ("q", "e"));
    let AMQPClass::Queue(queue::AMQPMethod::Bind(bind)) = binding.bind_method() else {
        panic!("{:?}", binding.bind_method())
    };
    assert_eq!((bind.queue.as_str(), bind.exchange.as_str(), bind.routing_key.as_str()), ("q", "e", "k"));
    assert!(!bind.nowait);
    let AMQPClass::Queue(queue::AMQPMethod::Unbind(unbind)) = binding.unbind_method() else {
        panic!("{:?}", binding.unbind_method())
    };
    assert_eq!((unbind.queue, unbind.exchange), (bind.queue, bind.exchange));
    assert_eq!((unbind.routing_key, unbind.arguments), (bind.routing_key, bind.arguments));
}

#[test]
fn an_exchange_binding_is_exchange_bind() {
    let binding = Binding::exchange("to", "from").routing_key("k");
    binding.check().unwrap();
    assert!(!binding.destination_is_queue());
    let AMQPClass::Exchange(exchange::AMQPMethod::Bind(bind)) = binding.bind_method() else {
        panic!("{:?}", binding.bind_method())
    };
    assert_eq!((bind.destination.as_str(), bind.source.as_str()), ("to", "from"));
    let AMQPClass::Exchange(exchange::AMQPMethod::Unbind(unbind)) = binding.unbind_method() else {
        panic!("{:?}", binding.unbind_method())
    };
    assert_eq!((unbind.destination, unbind.source), (bind.destination, bind.source));
    assert_eq!(unbind.routing_key, bind.routing_key);
}

#[test]
fn bindings_the_broker_cannot_take_are_refused() {
    let long = || "x".repeat(256);
    refused(Binding::queue("q", "").check());
    refused(Binding::queue("", "e").check());
    refused(Binding::exchange("", "e").check());
    refused(Binding::exchange("e", "").check());
    refused(Binding::queue(long(), "e").check());
    refused(Binding::queue("q", long()).check());
    refused(Binding::queue("q", "e").routing_key(long()).check());
    refused(Binding::queue("q", "e").argument("x", u64::MAX).check());
    refused(Binding::queue("q", "e").argument(long(), 1).check());
}

#[test]
fn only_bindings_of_the_renamed_queue_follow_it() {
    let renamed = |binding: Binding| binding.with_queue_renamed("old", "new");
    assert_eq!(renamed(Binding::queue("old", "e")), Binding::queue("new", "e"));
    assert_eq!(renamed(Binding::queue("other", "e")), Binding::queue("other", "e"));
    assert_eq!(renamed(Binding::exchange("old", "e")), Binding::exchange("old", "e"));
}
