use std::time::Duration;

use super::*;

const TTL: Duration = Duration::from_secs(60);

fn exchanges(record: &RecordedTopology) -> Vec<&str> {
    record.exchanges().map(Exchange::name).collect()
}

fn queues(record: &RecordedTopology) -> Vec<&str> {
    record.queues().map(|(name, _)| name.as_str()).collect()
}

fn destinations(record: &RecordedTopology) -> Vec<&str> {
    record.bindings().map(Binding::destination).collect()
}

fn with_queue(queue: Queue) -> RecordedTopology {
    let mut record = RecordedTopology::default();
    let name = queue.name().to_owned();
    record.declare_queue(&name, queue);
    record
}

#[test]
fn what_is_declared_is_brought_back_until_it_is_deleted() {
    let mut record = with_queue(Queue::new("q"));
    record.declare_exchange(Exchange::direct("e"));
    record.bind(Binding::queue("q", "e"));
    record.bind(Binding::queue("q", "e"));
    record.bind(Binding::queue("q", "e").routing_key("k"));
    record.bind(Binding::exchange("e", "amq.topic"));
    assert_eq!((exchanges(&record), queues(&record)), (vec!["e"], vec!["q"]));
    assert_eq!(destinations(&record), ["e", "q", "q"]);
    record.unbind(&Binding::queue("q", "e"));
    assert_eq!(destinations(&record), ["e", "q"]);
    record.delete_exchange("e");
    assert!(destinations(&record).is_empty());
    record.delete_queue("q");
    assert_eq!(record.len(), 0);
}

#[test]
fn a_queue_that_expires_is_brought_back_while_it_is_consumed_and_only_then() {
    let mut record = with_queue(Queue::new("q").expires(TTL));
    record.bind(Binding::queue("q", "e"));
    assert!(queues(&record).is_empty() && destinations(&record).is_empty());
    record.consume("q");
    record.consume("q");
    assert_eq!((queues(&record), destinations(&record)), (vec!["q"], vec!["q"]));
    record.stop_consuming("q");
    assert_eq!(queues(&record), ["q"]);
    record.stop_consuming("q");
    assert!(queues(&record).is_empty() && destinations(&record).is_empty());
    // Consumed again while it is remembered, it has its bindings.
    record.consume("q");
    assert_eq!(destinations(&record), ["q"]);
}

#[test]
fn an_auto_delete_queue_is_brought_back_before_its_first_consumer_and_not_after_its_last() {
    for queue in [
        Queue::new("q").auto_delete(true),
        Queue::new("q").auto_delete(true).exclusive(true),
        Queue::new("q").auto_delete(true).exclusive(true).expires(TTL),
    ] {
        let mut record = with_queue(queue.clone());
        record.bind(Binding::queue("q", "e"));
        assert_eq!((queues(&record), destinations(&record)), (vec!["q"], vec!["q"]), "{queue:?}");
        record.consume("q");
        assert_eq!(queues(&record), ["q"], "{queue:?}");
        record.stop_consuming("q");
        assert!(queues(&record).is_empty() && destinations(&record).is_empty(), "{queue:?}");
        // The broker has made another one.
        record.declare_queue("q", queue);
        assert_eq!(queues(&record), ["q"]);
    }
}

#[test]
fn a_queue_that_expires_unused_is_not_brought_back_before_its_first_consumer() {
    assert!(queues(&with_queue(Queue::new("q").expires(TTL))).is_empty());
    assert!(queues(&with_queue(Queue::new("q").expires(TTL).auto_delete(true))).is_empty());
}

#[test]
fn a_server_named_queue_is_renamed_with_its_bindings_and_consumers() {
    for queue in
        [Queue::server_named().exclusive(true), Queue::server_named().exclusive(true).auto_delete(true)]
    {
        let mut record = RecordedTopology::default();
        record.declare_queue("amq.gen-1", queue);
        record.bind(Binding::queue("amq.gen-1", "e"));
        record.rename("amq.gen-1", "amq.gen-2");
        assert_eq!((queues(&record), destinations(&record)), (vec!["amq.gen-2"], vec!["amq.gen-2"]));
        record.consume("amq.gen-2");
        record.rename("amq.gen-2", "amq.gen-3");
        assert_eq!((queues(&record), destinations(&record)), (vec!["amq.gen-3"], vec!["amq.gen-3"]));
        record.stop_consuming("amq.gen-3");
        record.delete_queue("amq.gen-3");
        assert_eq!(record.len(), 0);
    }
}

#[test]
fn an_auto_delete_exchange_leaves_with_its_last_binding() {
    let auto_delete = || {
        let mut record = with_queue(Queue::new("q"));
        record.declare_queue("r", Queue::new("r"));
        record.declare_exchange(Exchange::direct("e").auto_delete(true));
        // Never bound, it stays at the broker.
        assert_eq!(exchanges(&record), ["e"]);
        record.bind(Binding::queue("q", "e"));
        record.bind(Binding::queue("r", "e"));
        record
    };
    let mut record = auto_delete();
    record.unbind(&Binding::queue("q", "e"));
    assert_eq!(exchanges(&record), ["e"]);
    record.unbind(&Binding::queue("r", "e"));
    assert!(exchanges(&record).is_empty());
    assert_eq!(record.len(), 2);

    let mut record = auto_delete();
    record.delete_queue("q");
    assert_eq!(exchanges(&record), ["e"]);
    record.delete_queue("r");
    assert_eq!(record.len(), 0);
}

#[test]
fn auto_delete_exchanges_leave_one_after_the_other() {
    let mut record = with_queue(Queue::new("q"));
    for name in ["first", "second"] {
        record.declare_exchange(Exchange::direct(name).auto_delete(true));
    }
    record.declare_exchange(Exchange::direct("kept"));
    record.bind(Binding::exchange("second", "first"));
    record.bind(Binding::exchange("second", "kept"));
    record.bind(Binding::queue("q", "second"));
    record.delete_queue("q");
    assert_eq!(exchanges(&record), ["kept"]);
    assert_eq!(record.len(), 1);
}

#[test]
fn an_auto_delete_exchange_is_brought_back_with_the_queue_it_is_bound_to() {
    let mut record = with_queue(Queue::new("q").expires(TTL));
    record.declare_exchange(Exchange::direct("e").auto_delete(true));
    record.bind(Binding::queue("q", "e"));
    // Nothing says that the queue is still there, and the exchange goes with it.
    assert!(exchanges(&record).is_empty());
    record.consume("q");
    assert_eq!(exchanges(&record), ["e"]);
    record.stop_consuming("q");
    assert!(exchanges(&record).is_empty());
    record.delete_queue("q");
    assert_eq!(record.len(), 0);
}

#[test]
fn the_record_of_what_goes_by_itself_is_bounded() {
    let mut record = RecordedTopology::default();
    for number in 0..10_000 {
        let (queue, exchange) = (format!("q{number}"), format!("e{number}"));
        record.declare_queue(&queue, Queue::new(queue.as_str()).expires(TTL));
        record.declare_exchange(Exchange::fanout(exchange.as_str()).auto_delete(true));
        record.bind(Binding::queue(queue, exchange));
        record.declare_exchange(Exchange::fanout(format!("unbound{number}")).auto_delete(true));
    }
    assert!(record.len() <= 3 * RECENT, "{}", record.len());
}

#[test]
fn bindings_of_queues_that_others_declared_go_with_their_queue() {
    let mut record = RecordedTopology::default();
    let binding = Binding::queue("theirs", "e");
    record.bind(binding.clone());
    assert!(record.is_foreign(&binding));
    record.delete_queue("theirs");
    assert_eq!(record.len(), 0);
    record.bind(binding.clone());
    record.forget_item(&Item::Binding(binding));
    assert_eq!(record.len(), 0);
}
