//! Notifications: sent before anybody listens, shared out in pools, put back.

use std::collections::BTreeSet;

use murano_messaging::oslo::{
    Context,
    notify::{Listener, Notification, Notifier, Priority},
};
use murano_testkit::within;
use serde_json::{Value, json};

use crate::{Broker, LONG, on_both_brokers};

async fn next(listener: &mut Listener) -> Notification {
    within("a notification", LONG, listener.next()).await.expect("the listener goes on")
}

async fn a_notification_waits_for_its_listener(broker: Broker) {
    let transport = broker.transport(&[]).await;
    let notifier = Notifier::new(&transport, "compute.host-1").topics([broker.topic.as_str()]);
    let context = Context::new().with("request_id", "req-1");
    notifier.notify(&context, Priority::Info, "instance.create", json!({"id": 7})).await.unwrap();
    let bare = notifier.clone().envelope(false);
    bare.notify(&context, Priority::Error, "instance.fail", json!({"id": 8})).await.unwrap();
    let mut listener = Listener::of(&transport, [broker.topic.as_str()]).start().await.unwrap();
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let notification = next(&mut listener).await;
        assert_eq!(notification.publisher_id, "compute.host-1");
        assert_eq!(notification.context, context);
        assert_eq!(notification.message_id.len(), 36);
        let payload: Value = notification.payload().unwrap();
        seen.insert((
            notification.event_type.clone(),
            notification.priority.unwrap().name(),
            payload.to_string(),
        ));
        notification.ack().unwrap();
    }
    let expected = [("instance.create", "info", r#"{"id":7}"#), ("instance.fail", "error", r#"{"id":8}"#)];
    assert_eq!(
        seen,
        expected.map(|(event, name, payload)| (event.to_owned(), name, payload.to_owned())).into()
    );
    transport.close().await.unwrap();
}

async fn what_is_put_back_comes_again(broker: Broker) {
    let transport = broker.transport(&[]).await;
    let notifier = Notifier::new(&transport, "p").topics([broker.topic.as_str()]);
    notifier.notify(&Context::new(), Priority::Sample, "cpu", 0.5).await.unwrap();
    let mut listener = Listener::of(&transport, [broker.topic.as_str()])
        .priorities([Priority::Sample])
        .start()
        .await
        .unwrap();
    let first = next(&mut listener).await;
    first.requeue().unwrap();
    let again = next(&mut listener).await;
    assert!(again.redelivered());
    assert_eq!(again.message_id, first.message_id);
    again.ack().unwrap();
    transport.close().await.unwrap();
}

async fn each_pool_gets_a_copy_and_its_members_share_it(broker: Broker) {
    let transport = broker.transport(&[]).await;
    let topic = broker.topic.as_str();
    let pool = |name: &'static str| {
        let name = format!("{topic}-{name}");
        Listener::of(&transport, [topic])
            .priorities([Priority::Info, Priority::Warn])
            .pool(name)
            .prefetch(1)
            .start()
    };
    let (mut a1, mut a2, mut b) =
        (pool("a").await.unwrap(), pool("a").await.unwrap(), pool("b").await.unwrap());
    let notifier = Notifier::new(&transport, "p").topics([topic]);
    for number in 0..10 {
        let priority = if number % 2 == 0 { Priority::Info } else { Priority::Warn };
        notifier.notify(&Context::new(), priority, "e", number).await.unwrap();
    }
    let mut of_a = BTreeSet::new();
    let mut of_b = BTreeSet::new();
    while of_a.len() < 10 || of_b.len() < 10 {
        let (seen, notification) = tokio::select! {
            notification = a1.next() => (&mut of_a, notification),
            notification = a2.next() => (&mut of_a, notification),
            notification = b.next() => (&mut of_b, notification),
            () = tokio::time::sleep(LONG) => panic!("{of_a:?} {of_b:?}"),
        };
        let notification = notification.unwrap();
        assert!(seen.insert(notification.payload.as_u64().unwrap()), "one copy for each pool");
        notification.ack().unwrap();
    }
    transport.close().await.unwrap();
}

/// What a listener has taken and not handed out is put back when it ends, at once.
async fn a_listener_that_ends_puts_back_what_it_has(broker: Broker) {
    let transport = broker.transport(&[]).await;
    let topic = broker.topic.as_str();
    let notifier = Notifier::new(&transport, "p").topics([topic]);
    for number in 0..20 {
        notifier.notify(&Context::new(), Priority::Info, "e", number).await.unwrap();
    }
    for _ in 0..3 {
        let mut listener = Listener::of(&transport, [topic]).start().await.unwrap();
        let first = next(&mut listener).await;
        drop(listener);
        first.requeue().unwrap();
        let queue = format!("{topic}.info");
        murano_testkit::eventually("all are back", LONG, || async {
            transport.client().queue_info(&queue).await.unwrap().message_count == 20
        })
        .await;
    }
    transport.close().await.unwrap();
}

on_both_brokers!(
    a_listener_that_ends_puts_back_what_it_has,
    a_notification_waits_for_its_listener,
    what_is_put_back_comes_again,
    each_pool_gets_a_copy_and_its_members_share_it,
);
