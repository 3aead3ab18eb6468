//! Queues and exchanges: declared, looked at, deleted, and what each refusal says.

use murano_messaging::{Binding, Client, Error, ErrorKind, Exchange, Queue, Result};

use crate::env::{Env, all, exists, send, take_all, text, until_ready};

contract!(
    a_declare_answers_with_name_and_counts,
    a_redeclare_with_the_same_properties_is_the_same_queue,
    looking_up_what_is_not_there_is_404,
    a_redeclare_with_other_properties_is_406,
    reserved_names_are_403,
    an_exclusive_queue_of_another_connection_is_405,
    an_exclusive_queue_goes_with_its_connection,
    a_server_named_queue_has_the_brokers_name,
    a_queue_in_use_or_with_messages_is_deleted_only_unconditionally,
    a_purge_counts_what_it_dropped,
    deleting_what_is_not_there_is_no_error,
    an_exchange_is_declared_looked_up_and_deleted,
    an_exchange_in_use_is_deleted_only_unconditionally,
    an_auto_delete_exchange_goes_with_its_last_binding,
    an_internal_exchange_takes_no_publish,
    a_binding_to_what_is_not_there_is_404,
    unbinding_what_is_not_there_is_no_error,
    what_only_another_type_of_queue_has_is_the_brokers_to_refuse,
    fault_10_refused_operations_fail_alone_among_hundreds_of_others,
);

/// The refusal has the broker's code and its text.
fn assert_refused<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind, code: u16, texts: &[&str]) {
    let error: Error = result.expect_err("the broker refuses");
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!(error.reply_code(), Some(code), "{error}");
    let reply = error.reply_text().unwrap();
    for text in texts {
        assert!(reply.contains(text), "{reply:?} has no {text:?}");
        assert!(error.to_string().contains(text), "{error} has no {text:?}");
    }
}

async fn a_declare_answers_with_name_and_counts(env: &Env) {
    let client = env.client().await;
    let name = env.unique("q");
    let queue = Queue::new(name.as_str());
    let info = client.declare_queue(&queue).await.unwrap();
    assert_eq!((info.name.as_str(), info.message_count, info.consumer_count), (name.as_str(), 0, 0));
    send(&client, &name, ["a", "b", "c"]).await;
    let info = client.queue_info(&name).await.unwrap();
    assert_eq!((info.name.as_str(), info.message_count, info.consumer_count), (name.as_str(), 3, 0));
    let _first = client.consume(name.as_str()).prefetch(1).start().await.unwrap();
    let _second = client.consume(name.as_str()).prefetch(1).start().await.unwrap();
    // What is delivered and not acked is not counted.
    until_ready(&client, &name, 1).await;
    let info = client.declare_queue(&queue).await.unwrap();
    assert_eq!((info.message_count, info.consumer_count), (1, 2));
}

async fn a_redeclare_with_the_same_properties_is_the_same_queue(env: &Env) {
    let client = env.client().await;
    let queue = Queue::new(env.unique("q")).max_length(10).auto_delete(true).durable(false);
    let name = client.declare_queue(&queue).await.unwrap().name;
    send(&client, &name, ["kept"]).await;
    assert_eq!(client.declare_queue(&queue).await.unwrap().message_count, 1);
    // Another width of the same number is the same argument.
    let same = Queue::new(name.as_str()).argument("x-max-length", 10_i32).auto_delete(true).durable(false);
    assert_eq!(client.declare_queue(&same).await.unwrap().message_count, 1);
}

async fn looking_up_what_is_not_there_is_404(env: &Env) {
    let client = env.client().await;
    let name = env.unique("missing");
    let queue = format!("NOT_FOUND - no queue '{name}' in vhost '/'");
    let exchange = format!("NOT_FOUND - no exchange '{name}' in vhost '/'");
    let not_found = ErrorKind::NotFound;
    assert_refused(client.queue_info(&name).await, not_found, 404, &[&queue]);
    assert_refused(client.purge_queue(&name).await, not_found, 404, &[&queue]);
    assert_refused(client.get_with_ack(&name).await, not_found, 404, &[&queue]);
    let consumed = client.consume(name.as_str()).start().await.map(drop).unwrap_err();
    let said = format!("consume queue '{name}': the broker answered 404 {queue}; ");
    assert!(consumed.to_string().starts_with(&said), "{consumed}");
    assert_refused(Err::<(), _>(consumed), not_found, 404, &[&queue]);
    assert_refused(client.check_exchange(&name).await, not_found, 404, &[&exchange]);
    // The client stays usable.
    client.declare_queue(&Queue::new(name.as_str())).await.unwrap();
    assert_eq!(client.queue_info(&name).await.unwrap().message_count, 0);
}

async fn a_redeclare_with_other_properties_is_406(env: &Env) {
    let client = env.client().await;
    let name = env.unique("q");
    let queue = || Queue::new(name.as_str());
    client.declare_queue(&queue().max_length(5)).await.unwrap();
    let differing = [
        (queue(), "x-max-length"),
        (queue().max_length(6), "x-max-length"),
        (queue().max_length(5).durable(false), "durable"),
        (queue().max_length(5).auto_delete(true), "auto_delete"),
        (queue().max_length(5).message_ttl(std::time::Duration::from_secs(1)), "x-message-ttl"),
    ];
    for (other, argument) in differing {
        let text =
            format!("PRECONDITION_FAILED - inequivalent arg '{argument}' for queue '{name}' in vhost '/'");
        let answer = client.declare_queue(&other).await;
        assert_refused(answer, ErrorKind::PreconditionFailed, 406, &[&text]);
    }
    let name = env.unique("x");
    client.declare_exchange(&Exchange::direct(name.as_str())).await.unwrap();
    for (other, argument) in [
        (Exchange::fanout(name.as_str()), "type"),
        (Exchange::direct(name.as_str()).durable(false), "durable"),
        (Exchange::direct(name.as_str()).alternate_exchange("amq.fanout"), "alternate-exchange"),
    ] {
        let text =
            format!("PRECONDITION_FAILED - inequivalent arg '{argument}' for exchange '{name}' in vhost '/'");
        let answer = client.declare_exchange(&other).await;
        assert_refused(answer, ErrorKind::PreconditionFailed, 406, &[&text]);
    }
}

async fn reserved_names_are_403(env: &Env) {
    let client = env.client().await;
    let name = format!("amq.{}", env.unique("x"));
    let text = format!("ACCESS_REFUSED - exchange name '{name}' contains reserved prefix 'amq.*'");
    let answer = client.declare_exchange(&Exchange::direct(name.as_str())).await;
    assert_refused(answer, ErrorKind::AccessRefused, 403, &[&text]);
    let answer = client.delete_exchange("amq.direct").await;
    assert_refused(answer, ErrorKind::AccessRefused, 403, &["ACCESS_REFUSED", "amq.direct"]);
    // Those that are there may be declared as they are.
    client.declare_exchange(&Exchange::topic("amq.topic")).await.unwrap();
    for name in ["amq.direct", "amq.topic", "amq.fanout", "amq.headers", "amq.match"] {
        client.check_exchange(name).await.unwrap();
    }
    // Of queues this is known without asking.
    let answer = client.declare_queue(&Queue::new(name.as_str())).await;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

async fn an_exclusive_queue_of_another_connection_is_405(env: &Env) {
    let (owner, other) = (env.client().await, env.client().await);
    let name = env.queue_with(&owner, |queue| queue.exclusive(true)).await;
    let text =
        format!("RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost '/'");
    let queue = Queue::new(name.as_str()).exclusive(true);
    let locked = ErrorKind::ResourceLocked;
    assert_refused(other.declare_queue(&queue).await, locked, 405, &[&text]);
    assert_refused(other.queue_info(&name).await, locked, 405, &[&text]);
    assert_refused(other.purge_queue(&name).await, locked, 405, &[&text]);
    assert_refused(other.delete_queue(&name).await, locked, 405, &[&text]);
    assert_refused(other.get_with_ack(&name).await, locked, 405, &[&text]);
    assert_refused(other.consume(name.as_str()).start().await, locked, 405, &[&text]);
    let binding = Binding::queue(name.as_str(), "amq.direct").routing_key("k");
    assert_refused(other.bind(&binding).await, locked, 405, &[&text]);
    // Anybody may send to it.
    send(&other, &name, ["for the owner"]).await;
    assert_eq!(take_all(&owner, &name).await, ["for the owner"]);
}

async fn an_exclusive_queue_goes_with_its_connection(env: &Env) {
    let (owner, other) = (env.client().await, env.client().await);
    let name = env.queue_with(&owner, |queue| queue.exclusive(true)).await;
    assert!(exists(&other, &name).await);
    owner.close().await.unwrap();
    crate::env::until_gone(&other, &name).await;
}

async fn a_server_named_queue_has_the_brokers_name(env: &Env) {
    let client = env.client().await;
    let queue = Queue::server_named().exclusive(true);
    let first = client.declare_queue(&queue).await.unwrap().name;
    let second = client.declare_queue(&queue).await.unwrap().name;
    assert!(first.starts_with("amq.gen-") && second.starts_with("amq.gen-"), "{first} {second}");
    assert_ne!(first, second);
    send(&client, &first, ["x"]).await;
    assert_eq!(text(&client.get_no_ack(&first).await.unwrap().unwrap()), "x");
    assert!(client.get_no_ack(&second).await.unwrap().is_none());
}

async fn a_queue_in_use_or_with_messages_is_deleted_only_unconditionally(env: &Env) {
    let client = env.client().await;
    let name = env.queue(&client).await;
    send(&client, &name, ["1", "2"]).await;
    let failed = ErrorKind::PreconditionFailed;
    let refused = client.delete_queue_if_empty(&name).await;
    assert_refused(refused, failed, 406, &["PRECONDITION_FAILED", &name, "not empty"]);
    let consumer = client.consume(name.as_str()).prefetch(1).start().await.unwrap();
    let refused = client.delete_queue_if_unused(&name).await;
    assert_refused(refused, failed, 406, &["PRECONDITION_FAILED", &name, "in use"]);
    consumer.cancel().await.unwrap();
    until_ready(&client, &name, 2).await;
    assert_eq!(client.delete_queue_if_unused(&name).await.unwrap(), 2);
    assert!(!exists(&client, &name).await);
    client.declare_queue(&Queue::new(name.as_str())).await.unwrap();
    client.delete_queue_if_unused_and_empty(&name).await.unwrap();
}

async fn a_purge_counts_what_it_dropped(env: &Env) {
    let client = env.client().await;
    let name = env.queue(&client).await;
    assert_eq!(client.purge_queue(&name).await.unwrap(), 0);
    send(&client, &name, ["1", "2", "3", "4"]).await;
    let held = client.get_with_ack(&name).await.unwrap().unwrap();
    assert_eq!(client.purge_queue(&name).await.unwrap(), 3);
    assert_eq!(client.queue_info(&name).await.unwrap().message_count, 0);
    // Unacked deliveries are not purged.
    held.requeue().unwrap();
    until_ready(&client, &name, 1).await;
    assert_eq!(take_all(&client, &name).await, ["1"]);
}

async fn deleting_what_is_not_there_is_no_error(env: &Env) {
    let client = env.client().await;
    let name = env.unique("missing");
    assert_eq!(client.delete_queue(&name).await.unwrap(), 0);
    client.delete_exchange(&name).await.unwrap();
}

async fn an_exchange_is_declared_looked_up_and_deleted(env: &Env) {
    let client = env.client().await;
    for kind in ["direct", "topic", "fanout", "headers"] {
        let name = env.unique(kind);
        let exchange = Exchange::new(name.as_str(), kind);
        client.declare_exchange(&exchange).await.unwrap();
        client.declare_exchange(&exchange).await.unwrap();
        client.check_exchange(&name).await.unwrap();
        client.delete_exchange(&name).await.unwrap();
        assert_refused(client.check_exchange(&name).await, ErrorKind::NotFound, 404, &[&name]);
    }
}

async fn an_exchange_in_use_is_deleted_only_unconditionally(env: &Env) {
    let client = env.client().await;
    let (exchange, queue) = (env.unique("x"), env.queue(&client).await);
    client.declare_exchange(&Exchange::direct(exchange.as_str())).await.unwrap();
    let binding = Binding::queue(queue.as_str(), exchange.as_str()).routing_key("k");
    client.bind(&binding).await.unwrap();
    let refused = client.delete_exchange_if_unused(&exchange).await;
    assert_refused(
        refused,
        ErrorKind::PreconditionFailed,
        406,
        &["PRECONDITION_FAILED", &exchange, "in use"],
    );
    client.unbind(&binding).await.unwrap();
    client.delete_exchange_if_unused(&exchange).await.unwrap();
    assert_refused(client.check_exchange(&exchange).await, ErrorKind::NotFound, 404, &[&exchange]);
}

async fn an_auto_delete_exchange_goes_with_its_last_binding(env: &Env) {
    let client = env.client().await;
    let (exchange, queue) = (env.unique("x"), env.queue(&client).await);
    client.declare_exchange(&Exchange::direct(exchange.as_str()).auto_delete(true)).await.unwrap();
    let (first, second) = (
        Binding::queue(queue.as_str(), exchange.as_str()).routing_key("1"),
        Binding::queue(queue.as_str(), exchange.as_str()).routing_key("2"),
    );
    client.bind(&first).await.unwrap();
    client.bind(&second).await.unwrap();
    client.unbind(&first).await.unwrap();
    client.check_exchange(&exchange).await.unwrap();
    client.unbind(&second).await.unwrap();
    assert_refused(client.check_exchange(&exchange).await, ErrorKind::NotFound, 404, &[&exchange]);
}

async fn an_internal_exchange_takes_no_publish(env: &Env) {
    let client = env.client().await;
    let (outer, inner) = (env.unique("outer"), env.unique("inner"));
    let queue = env.queue(&client).await;
    client.declare_exchange(&Exchange::fanout(outer.as_str())).await.unwrap();
    client.declare_exchange(&Exchange::fanout(inner.as_str()).internal(true)).await.unwrap();
    client.bind(&Binding::exchange(inner.as_str(), outer.as_str())).await.unwrap();
    client.bind(&Binding::queue(queue.as_str(), inner.as_str())).await.unwrap();
    let message = || murano_messaging::Message::text("x").mandatory(true);
    let refused = client.publish(&inner, "", message()).await;
    assert_refused(refused, ErrorKind::AccessRefused, 403, &["ACCESS_REFUSED", &inner, "internal"]);
    client.publish(&outer, "", message()).await.unwrap();
    assert_eq!(take_all(&client, &queue).await, ["x"]);
}

async fn a_binding_to_what_is_not_there_is_404(env: &Env) {
    let client = env.client().await;
    let (missing, queue) = (env.unique("missing"), env.queue(&client).await);
    let no_exchange = format!("NOT_FOUND - no exchange '{missing}' in vhost '/'");
    let no_queue = format!("NOT_FOUND - no queue '{missing}' in vhost '/'");
    let not_found = ErrorKind::NotFound;
    let to_exchange = Binding::queue(queue.as_str(), missing.as_str());
    assert_refused(client.bind(&to_exchange).await, not_found, 404, &[&no_exchange]);
    let to_queue = Binding::queue(missing.as_str(), "amq.direct");
    assert_refused(client.bind(&to_queue).await, not_found, 404, &[&no_queue]);
    let between = Binding::exchange(missing.as_str(), "amq.direct");
    assert_refused(client.bind(&between).await, not_found, 404, &[&no_exchange]);
    // Like deleting, unbinding what is not bound is no error.
    client.unbind(&Binding::queue(queue.as_str(), "amq.direct").routing_key("never")).await.unwrap();
}

async fn unbinding_what_is_not_there_is_no_error(env: &Env) {
    let (client, other) = (env.client().await, env.client().await);
    let (missing, queue) = (env.unique("missing"), env.queue(&client).await);
    let locked = env.queue_with(&other, |queue| queue.exclusive(true)).await;
    for binding in [
        Binding::queue(missing.as_str(), "amq.direct"),
        Binding::queue(queue.as_str(), missing.as_str()),
        Binding::queue(missing.as_str(), missing.as_str()),
        Binding::queue(locked.as_str(), "amq.direct"),
        Binding::exchange(missing.as_str(), "amq.direct"),
        Binding::exchange("amq.direct", missing.as_str()),
        Binding::exchange("amq.direct", "amq.topic").routing_key("never"),
    ] {
        client.unbind(&binding).await.unwrap_or_else(|error| panic!("{binding:?}: {error}"));
    }
    assert_eq!(client.stats().reconnects, 0);
}

async fn what_only_another_type_of_queue_has_is_the_brokers_to_refuse(env: &Env) {
    let client = env.client().await;
    let name = env.unique("q");
    let (kind, queue) = (ErrorKind::PreconditionFailed, || Queue::new(name.as_str()));
    // The virtual host's default is classic here.
    let limited = client.declare_queue(&queue().delivery_limit(5)).await;
    assert_refused(
        limited,
        kind,
        406,
        &["invalid arg 'x-delivery-limit'", "of queue type rabbit_classic_queue"],
    );
    let aged = client.declare_queue(&queue().max_age(std::time::Duration::from_secs(5))).await;
    assert_refused(aged, kind, 406, &["invalid arg 'x-max-age'", "of queue type rabbit_classic_queue"]);
    let of_a_plugin = client.declare_queue(&queue().argument("x-queue-type", "x-nope")).await;
    assert_refused(of_a_plugin, kind, 406, &["x-queue-type"]);
    client.declare_queue(&queue()).await.unwrap();
}

/// One task of many: operations that succeed, each of which must have taken effect.
async fn work(env: &Env, client: Client, rounds: u32) {
    for _ in 0..rounds {
        let name = env.queue_with(&client, |queue| queue.durable(false)).await;
        let binding = Binding::queue(name.as_str(), "amq.direct").routing_key(name.as_str());
        client.bind(&binding).await.unwrap();
        client.publish("amq.direct", &name, murano_messaging::Message::text("x")).await.unwrap();
        assert_eq!(client.queue_info(&name).await.unwrap().message_count, 1);
        client.unbind(&binding).await.unwrap();
        assert_eq!(client.delete_queue(&name).await.unwrap(), 1);
    }
}

async fn fault_10_refused_operations_fail_alone_among_hundreds_of_others(env: &Env) {
    let (client, other) = (env.client().await, env.client().await);
    let (missing, kept) = (env.unique("missing"), env.queue(&client).await);
    let locked = env.queue_with(&other, |queue| queue.exclusive(true)).await;
    let reserved = format!("amq.{missing}");
    let working = all((0..40).map(|_| work(env, client.clone(), 5)));
    let refused = all((0..10).map(|_| async {
        for _ in 0..5 {
            let answer = client.declare_exchange(&Exchange::direct(reserved.as_str())).await;
            assert_refused(answer, ErrorKind::AccessRefused, 403, &[&reserved]);
            let answer = client.purge_queue(&missing).await;
            assert_refused(answer, ErrorKind::NotFound, 404, &[&missing]);
            let answer = client.purge_queue(&locked).await;
            assert_refused(answer, ErrorKind::ResourceLocked, 405, &[&locked]);
            let answer = client.declare_queue(&Queue::new(kept.as_str()).durable(false)).await;
            assert_refused(answer, ErrorKind::PreconditionFailed, 406, &[&kept, "durable"]);
        }
    }));
    tokio::join!(working, refused);
    assert_eq!(client.stats().reconnects, 0, "no refusal costs the connection");
}
