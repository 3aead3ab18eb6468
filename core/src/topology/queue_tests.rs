use super::*;
use crate::{ErrorKind, message::MAX_TTL_MS};

const SECOND: Duration = Duration::from_secs(1);
const HALF: Duration = Duration::from_micros(500);

fn of(kind: QueueType) -> Queue {
    Queue::new("q").queue_type(kind)
}

fn raw(kind: &str) -> Queue {
    Queue::new("q").argument("x-queue-type", kind)
}

#[track_caller]
fn refused(queue: &Queue) {
    assert_eq!(queue.check().unwrap_err().kind(), ErrorKind::InvalidArgument, "{queue:?}");
}

#[track_caller]
fn accepted(queue: &Queue) {
    queue.check().unwrap_or_else(|error| panic!("{queue:?}: {error}"));
}

#[track_caller]
fn argument(queue: &Queue, key: &str) -> Value {
    accepted(queue);
    queue.declare().arguments.inner()[key].clone()
}

#[test]
fn a_plain_queue_is_durable_and_nothing_else() {
    let declare = Queue::new("q").declare();
    assert_eq!(declare.queue.as_str(), "q");
    assert!(declare.durable);
    assert!(!declare.exclusive && !declare.auto_delete && !declare.passive && !declare.nowait);
    assert_eq!(declare.arguments, FieldTable::default());
}

#[test]
fn flags_reach_the_declare() {
    let queue = Queue::server_named().durable(false).exclusive(true).auto_delete(true);
    accepted(&queue);
    let declare = queue.declare();
    assert_eq!(declare.queue.as_str(), "");
    assert!(!declare.durable && declare.exclusive && declare.auto_delete);
    assert!(queue.is_server_named() && queue.declare().exclusive && queue.declare().auto_delete);
}

#[test]
fn arguments_have_the_names_and_types_the_broker_wants() {
    let long = Value::LongLongInt;
    let text = |text: &str| Value::LongString(text.into());
    let queue = Queue::new("q");
    let quorum = of(QueueType::Quorum);
    for (queue, key, value) in [
        (queue.clone().expires(SECOND), "x-expires", long(1000)),
        (queue.clone().expires(HALF), "x-expires", long(1)),
        (queue.clone().message_ttl(SECOND + HALF), "x-message-ttl", long(1001)),
        (queue.clone().message_ttl(Duration::ZERO), "x-message-ttl", long(0)),
        (queue.clone().max_length(7), "x-max-length", long(7)),
        (queue.clone().max_length_bytes(8), "x-max-length-bytes", long(8)),
        (queue.clone().overflow(Overflow::DropHead), "x-overflow", text("drop-head")),
        (queue.clone().overflow(Overflow::RejectPublish), "x-overflow", text("reject-publish")),
        (queue.clone().overflow(Overflow::RejectPublishDlx), "x-overflow", text("reject-publish-dlx")),
        (queue.clone().dead_letter_exchange("dlx"), "x-dead-letter-exchange", text("dlx")),
        (
            queue.clone().dead_letter_exchange("").dead_letter_routing_key("k"),
            "x-dead-letter-routing-key",
            text("k"),
        ),
        (queue.clone().max_priority(9), "x-max-priority", Value::ShortShortUInt(9)),
        (of(QueueType::Classic), "x-queue-type", text("classic")),
        (quorum.clone(), "x-queue-type", text("quorum")),
        (of(QueueType::Stream), "x-queue-type", text("stream")),
        (quorum.delivery_limit(3), "x-delivery-limit", Value::LongUInt(3)),
        (queue.clone().single_active_consumer(true), "x-single-active-consumer", Value::Boolean(true)),
        (of(QueueType::Stream).max_age(SECOND + HALF), "x-max-age", text("2s")),
        (queue.argument("x-anything", 1i32), "x-anything", Value::LongInt(1)),
    ] {
        assert_eq!(argument(&queue, key), value, "{key}");
    }
}

#[test]
fn quorum_queues_accept_what_rabbitmq_3_10_does() {
    let quorum = of(QueueType::Quorum)
        .expires(SECOND)
        .message_ttl(SECOND)
        .max_length(0)
        .max_length_bytes(1)
        .dead_letter_exchange("dlx")
        .dead_letter_routing_key("k")
        .delivery_limit(0)
        .single_active_consumer(true)
        .argument("x-quorum-initial-group-size", 3)
        .argument("x-dead-letter-strategy", "at-least-once");
    accepted(&quorum.clone().overflow(Overflow::DropHead));
    accepted(&quorum.overflow(Overflow::RejectPublish));
    accepted(&of(QueueType::Quorum).argument("x-delivery-limit", -1));
}

#[test]
fn streams_accept_what_rabbitmq_3_10_does() {
    accepted(
        &of(QueueType::Stream)
            .max_age(SECOND)
            .max_length_bytes(1 << 40)
            .argument("x-stream-max-segment-size-bytes", 1_000_000)
            .argument("x-initial-cluster-size", 1),
    );
    for age in ["1Y", "12M", "7D", "24h", "5m", "60s", "99999999999s"] {
        accepted(&raw("stream").argument("x-max-age", age));
    }
}

#[test]
fn classic_queues_accept_what_rabbitmq_3_10_does() {
    for queue in [Queue::new("q"), of(QueueType::Classic)] {
        accepted(
            &queue
                .durable(false)
                .exclusive(true)
                .auto_delete(true)
                .expires(Duration::from_millis(MAX_TTL_MS))
                .message_ttl(Duration::from_millis(MAX_TTL_MS))
                .max_length(i64::MAX.unsigned_abs())
                .max_priority(255)
                .single_active_consumer(false)
                .argument("x-queue-mode", "lazy"),
        );
    }
    accepted(&Queue::new("q").argument("x-max-priority", 10i64).argument("x-expires", 5u16));
    accepted(&Queue::new("amqp").max_priority(0));
    accepted(&Queue::new("AMQ.q"));
    accepted(&Queue::new("q".repeat(255)));
}

#[test]
fn classic_queues_have_no_delivery_limit_and_no_age() {
    for queue in [of(QueueType::Classic), raw("classic")] {
        refused(&queue.clone().delivery_limit(3));
        refused(&queue.clone().max_age(SECOND));
        refused(&queue.argument("x-delivery-limit", 3));
    }
}

/// A virtual host may have any of the types for its default.
#[test]
fn a_queue_without_a_type_is_refused_only_what_no_type_has() {
    let queue = Queue::new("q");
    accepted(&queue.clone().delivery_limit(5));
    accepted(&queue.clone().max_age(SECOND));
    accepted(&queue.clone().max_priority(5).auto_delete(true));
    accepted(&queue.clone().overflow(Overflow::RejectPublishDlx));
    refused(&queue.clone().delivery_limit(5).max_age(SECOND));
    refused(&queue.clone().delivery_limit(5).max_priority(5));
    refused(&queue.clone().delivery_limit(5).exclusive(true));
    refused(&queue.clone().max_age(SECOND).durable(false));
    // It can only be a quorum queue, which would drop confirmed messages.
    refused(&queue.delivery_limit(5).overflow(Overflow::RejectPublishDlx));
}

#[test]
fn the_types_of_plugins_are_the_brokers_to_judge() {
    accepted(&raw("x-local-random").durable(false).max_priority(5).argument("x-anything", 1));
    accepted(&raw("x-jms").delivery_limit(5).max_age(SECOND));
    refused(&raw("x-local-random").argument("x-max-priority", 256));
}

#[test]
fn quorum_queues_are_refused_what_they_have_not_got() {
    for queue in [of(QueueType::Quorum), raw("quorum")] {
        refused(&queue.clone().max_priority(5));
        refused(&queue.clone().argument("x-max-priority", 5));
        refused(&queue.clone().max_age(SECOND));
        refused(&queue.clone().durable(false));
        refused(&queue.clone().exclusive(true));
        refused(&queue.clone().auto_delete(true));
        refused(&queue.overflow(Overflow::RejectPublishDlx));
    }
    refused(&Queue::server_named().queue_type(QueueType::Quorum));
}

#[test]
fn streams_are_refused_what_they_have_not_got() {
    for queue in [of(QueueType::Stream), raw("stream")] {
        refused(&queue.clone().expires(SECOND));
        refused(&queue.clone().argument("x-expires", 1000));
        refused(&queue.clone().message_ttl(SECOND));
        refused(&queue.clone().max_length(1));
        refused(&queue.clone().overflow(Overflow::DropHead));
        refused(&queue.clone().overflow(Overflow::RejectPublish));
        refused(&queue.clone().overflow(Overflow::RejectPublishDlx));
        refused(&queue.clone().dead_letter_exchange("dlx"));
        refused(&queue.clone().dead_letter_exchange("dlx").dead_letter_routing_key("k"));
        refused(&queue.clone().max_priority(5));
        refused(&queue.clone().delivery_limit(5));
        refused(&queue.clone().single_active_consumer(true));
        refused(&queue.clone().single_active_consumer(false));
        refused(&queue.clone().durable(false));
        refused(&queue.clone().exclusive(true));
        refused(&queue.auto_delete(true));
    }
    refused(&Queue::server_named().queue_type(QueueType::Stream));
}

#[test]
fn durations_that_do_not_fit_are_refused() {
    let too_long = Duration::from_millis(MAX_TTL_MS + 1);
    for duration in [too_long, Duration::MAX] {
        refused(&Queue::new("q").expires(duration));
        refused(&Queue::new("q").message_ttl(duration));
    }
    refused(&Queue::new("q").expires(Duration::ZERO));
    refused(&of(QueueType::Stream).max_age(Duration::ZERO));
    accepted(&of(QueueType::Stream).max_age(Duration::MAX));
}

#[test]
fn raw_arguments_of_the_wrong_kind_are_refused() {
    let queue = Queue::new("q");
    for (key, text) in [
        ("x-expires", "1000"),
        ("x-message-ttl", "1000"),
        ("x-max-length", "10"),
        ("x-max-length-bytes", "10"),
        ("x-max-priority", "5"),
        ("x-single-active-consumer", "true"),
        ("x-overflow", "nope"),
    ] {
        refused(&queue.clone().argument(key, text));
    }
    for key in ["x-expires", "x-message-ttl", "x-max-length", "x-max-length-bytes", "x-max-priority"] {
        refused(&queue.clone().argument(key, -1));
        refused(&queue.clone().argument(key, None::<i32>));
    }
    for key in ["x-dead-letter-exchange", "x-overflow", "x-queue-type"] {
        refused(&queue.clone().argument(key, 1));
        refused(&queue.clone().argument(key, b"quorum"));
    }
    refused(&queue.clone().argument("x-expires", 0));
    refused(&queue.argument("x-max-priority", 256));
    for age in ["", "s", "60", "0s", "500ms", "-1s", "1 s"] {
        refused(&raw("stream").argument("x-max-age", age));
    }
    refused(&raw("stream").argument("x-max-age", 60));
}

#[test]
fn names_and_numbers_the_broker_cannot_take_are_refused() {
    let long = || "x".repeat(256);
    refused(&Queue::new(long()));
    refused(&Queue::new("amq.q"));
    refused(&Queue::new("q").max_length(u64::MAX));
    refused(&Queue::new("q").max_length_bytes(u64::MAX));
    refused(&Queue::new("q").dead_letter_exchange(long()));
    refused(&Queue::new("q").dead_letter_exchange("dlx").dead_letter_routing_key(long()));
    refused(&Queue::new("q").dead_letter_routing_key("k"));
    refused(&Queue::new("q").argument(long(), 1));
    refused(&Queue::new("q").argument("x", u64::MAX));
    refused(&Queue::new("q").argument("x", Value::ShortString("s".into())));
    refused(&Queue::new("q").argument("x", f64::NAN));
}

#[test]
fn a_duration_and_its_raw_argument_exclude_each_other() {
    refused(&Queue::new("q").expires(SECOND).argument("x-expires", 2000));
    refused(&Queue::new("q").message_ttl(SECOND).argument("x-message-ttl", 2000));
    refused(&of(QueueType::Stream).max_age(SECOND).argument("x-max-age", "2s"));
}

#[test]
fn the_type_is_seen_through_raw_arguments() {
    assert_eq!(Queue::new("q").kind(), None);
    assert_eq!(raw("x-local-random").kind(), None);
    assert_eq!(raw("quorum").kind(), Some(QueueType::Quorum));
    assert_eq!(of(QueueType::Stream).kind(), Some(QueueType::Stream));
}

#[test]
fn queues_that_go_by_themselves_are_known_as_such() {
    assert!(!Queue::new("q").is_transient_record());
    assert!(!Queue::new("q").exclusive(true).is_transient_record());
    assert!(Queue::new("q").auto_delete(true).is_transient_record());
    assert!(Queue::new("q").expires(SECOND).is_transient_record());
    assert!(Queue::new("q").argument("x-expires", 1000).is_transient_record());
}
