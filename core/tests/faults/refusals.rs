//! Publishes that the broker refuses while others are in flight: each is told what is known of it.

use murano_messaging::{Binding, ErrorKind, Exchange, Options, Queue};
use murano_testkit::{Node, unique, within};

use crate::load::{LONG, client_with_queue};

/// RabbitMQ, topic authorisation: the routing keys that a user may publish with.
#[tokio::test(flavor = "multi_thread")]
async fn one_forbidden_routing_key_among_many_in_flight_fails_alone_and_for_certain() {
    let node = Node::start().await;
    let (queue, exchange) = (unique("q"), unique("topic"));
    let client = client_with_queue(&node.uri(), &Queue::new(queue.as_str())).await;
    client.declare_exchange(&Exchange::topic(exchange.as_str())).await.unwrap();
    client.bind(&Binding::queue(queue.as_str(), exchange.as_str()).routing_key("#")).await.unwrap();
    node.ctl(&["set_topic_permissions", "guest", &exchange, "^ok", ".*"]).await.unwrap();
    // The permissions of a connection are looked up again for a new channel.
    let client = Options::from_uri(&node.uri()).unwrap().connect().await.unwrap();
    let mut pending = Vec::new();
    for number in 0..200 {
        let key = if number == 100 { "forbidden".to_owned() } else { format!("ok.{number}") };
        pending.push((number, client.publish_deferred(&exchange, &key, number.to_string()).await.unwrap()));
    }
    for (number, confirmation) in pending {
        let result = within("the result", LONG, confirmation).await;
        if number == 100 {
            let error = result.unwrap_err();
            assert_eq!((error.kind(), error.outcome_unknown()), (ErrorKind::AccessRefused, false), "{error}");
            assert!(error.to_string().contains("'forbidden'"), "{error}");
        } else {
            result.unwrap_or_else(|error| panic!("{number}: {error}"));
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    while let Some(delivery) = client.get_no_ack(&queue).await.unwrap() {
        seen.insert(String::from_utf8(delivery.body().to_vec()).unwrap());
    }
    assert_eq!((seen.len(), seen.contains("100")), (199, false));
    assert_eq!(client.stats().reconnects, 0);
}
