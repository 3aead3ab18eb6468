//! Methods that the embedded broker does not have are refused with a text that says so.

use std::time::Duration;

use murano_messaging::{Broker, Client, ErrorKind, Message, Queue, QueueType};
use murano_testkit::{unique, within};

const STEP: Duration = Duration::from_secs(20);

async fn client() -> Client {
    within("connecting", STEP, Client::connect(&format!("memory://{}", unique("refusals")))).await.unwrap()
}

#[tokio::test]
async fn stream_queues_are_refused_in_plain_words() {
    let client = client().await;
    let error = client.declare_queue(&Queue::new("s").queue_type(QueueType::Stream)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
    assert!(error.to_string().contains("the embedded broker has no stream queues"), "{error}");
    client.declare_queue(&Queue::new("c")).await.unwrap();
}

#[tokio::test]
async fn transactions_are_refused_with_540() {
    let listening = Broker::new().listen(("127.0.0.1", 0)).await.unwrap();
    let uri = format!("amqp://guest:guest@{}", listening.address());
    let connection = lapin::Connection::connect(&uri, lapin::ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let error = within("the refusal", STEP, channel.tx_select()).await.unwrap_err();
    assert!(error.to_string().contains("no transactions"), "{error}");
}

#[tokio::test]
async fn a_body_over_the_limit_fails_its_own_publish() {
    let name = unique("limit");
    Broker::named(&name).max_message_size(1000);
    let client = Client::connect(&format!("memory://{name}")).await.unwrap();
    client.declare_queue(&Queue::new("q")).await.unwrap();
    let good = client.publish("", "q", Message::new(vec![0; 1000]));
    let bad = client.publish("", "q", Message::new(vec![0; 1001]));
    let (good, bad) = within("both", STEP, async { tokio::join!(good, bad) }).await;
    good.unwrap();
    let error = bad.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error}");
    assert!(error.to_string().contains("larger than configured max size 1000"), "{error}");
    assert_eq!(client.queue_info("q").await.unwrap().message_count, 1);
}

#[tokio::test]
async fn what_rabbitmq_4_deprecates_can_be_denied() {
    let name = unique("denied");
    let broker = Broker::named(&name);
    let uri = format!("memory://{name}");
    let client = Client::connect(&uri).await.unwrap();
    let transient = |name: &str| Queue::new(name).durable(false);
    client.declare_queue(&transient("before")).await.unwrap();
    broker.deny_deprecated(true);
    client.declare_queue(&transient("mine").exclusive(true)).await.unwrap();
    client.declare_queue(&Queue::new("durable")).await.unwrap();
    let options = murano_messaging::Options::from_uri(&uri).unwrap();
    let error = within("the refusal", STEP, options.clone().frame_max(4096).connect()).await.unwrap_err();
    assert!(error.to_string().contains("8192"), "{error}");
    options.frame_max(8192).connect().await.unwrap();

    // Of a client that does not reconnect the connection is seen to end.
    let recovery = murano_messaging::Recovery { enabled: false, ..murano_messaging::Recovery::default() };
    let options = murano_messaging::Options::from_uri(&uri).unwrap().recovery(recovery);
    let once = options.connect().await.unwrap();
    let error = within("the refusal", STEP, once.declare_queue(&transient("other"))).await.unwrap_err();
    assert!(error.to_string().contains("transient_nonexcl_queues"), "{error}");
    assert!(once.is_closed());
}

/// A limit of the channel is one for each consumer then.
#[tokio::test]
async fn a_global_prefetch_is_per_consumer_where_it_is_denied() {
    for deny in [false, true] {
        let broker = Broker::new();
        broker.deny_deprecated(deny);
        let listening = broker.listen(("127.0.0.1", 0)).await.unwrap();
        let uri = format!("amqp://guest:guest@{}", listening.address());
        let client = Client::connect(&uri).await.unwrap();
        client.declare_queue(&Queue::new("q")).await.unwrap();
        for _ in 0..20 {
            client.publish("", "q", Message::text("x")).await.unwrap();
        }
        let connection =
            lapin::Connection::connect(&uri, lapin::ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.basic_qos(5, lapin::options::BasicQosOptions { global: true }).await.unwrap();
        let mut consumers = Vec::new();
        for _ in 0..2 {
            let (options, arguments) =
                (lapin::options::BasicConsumeOptions::default(), lapin::types::FieldTable::default());
            consumers.push(channel.basic_consume("q".into(), "".into(), options, arguments).await.unwrap());
        }
        let expected = if deny { 10 } else { 5 };
        murano_testkit::eventually("the limit is reached", STEP, || async {
            broker.queue_depth("q").unwrap().unacked == expected
        })
        .await;
        // Behind everything that was to be delivered.
        channel.basic_qos(5, lapin::options::BasicQosOptions::default()).await.unwrap();
        assert_eq!(broker.queue_depth("q").unwrap().unacked, expected);
    }
}

#[tokio::test]
async fn a_forgotten_name_is_a_new_broker() {
    let name = unique("forgotten");
    let uri = format!("memory://{name}");
    let client = Client::connect(&uri).await.unwrap();
    client.declare_queue(&Queue::new("q")).await.unwrap();
    client.close().await.unwrap();
    // It outlives its clients ...
    let client = Client::connect(&uri).await.unwrap();
    client.queue_info("q").await.unwrap();
    // ... until it is forgotten.
    Broker::forget(&name);
    let other = Client::connect(&uri).await.unwrap();
    assert_eq!(other.queue_info("q").await.unwrap_err().kind(), ErrorKind::NotFound);
    client.queue_info("q").await.unwrap();
}
