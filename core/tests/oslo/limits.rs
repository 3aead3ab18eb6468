//! Messages over the broker's size limit: whose they are, that one fails, at once and with the reason.

use murano_messaging::{
    ErrorKind,
    oslo::{
        Context, Error, Failure,
        rpc::{Client, Endpoint},
    },
};
use murano_testkit::within;
use serde_json::{Value, json};

use crate::{
    Broker, LONG,
    peers::{client, server, sums},
};

/// The limit of the brokers in these tests, in bytes.
pub(crate) const LIMIT: usize = 65_536;

fn says_size_and_limit(error: &Error, what: &str) {
    let text = error.to_string();
    // Some 200,000 bytes, or a traceback's worth more.
    let size =
        text.split("message size ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
    assert!(size.is_some_and(|size| size > 200_000), "{what}: {text}");
    assert!(text.contains("larger than configured max size 65536"), "{what}: {text}");
}

/// A request over the limit fails at the caller; the calls beside it go on.
pub(crate) async fn problem_15_a_request_over_the_limit_says_size_and_limit(broker: &Broker) {
    let transport = broker.transport(&[]).await;
    let server = server(&transport, &broker.topic, "one", sums()).await;
    let client = client(&transport, &broker.topic);
    let text = "x".repeat(200_000);
    let context = Context::new();
    let good = beside(&client);
    let call = client.call::<Value>(&context, "echo", json!({"text": text}));
    let error = within("the refusal", LONG, call).await.unwrap_err();
    assert!(
        matches!(&error, Error::Messaging(error) if error.kind() == ErrorKind::PreconditionFailed),
        "{error}"
    );
    says_size_and_limit(&error, "a call");
    let cast = client.cast(&context, "echo", json!({"text": text}));
    says_size_and_limit(&within("the refusal", LONG, cast).await.unwrap_err(), "a cast");
    good.await.unwrap();
    server.stop().await;
    transport.close().await.unwrap();
}

/// A reply over the limit is a failure, at once; the replies beside it arrive.
pub(crate) async fn problem_16_a_reply_over_the_limit_is_a_failure(broker: &Broker) {
    let transport = broker.transport(&[]).await;
    let large = Endpoint::new()
        .method("large", |_: Context, _: Value| async { Ok::<_, Failure>("x".repeat(200_000)) })
        .method("raise", |_: Context, _: Value| async {
            Err::<(), _>(Failure::new("ValueError", "x".repeat(200_000)))
        });
    let server = crate::peers::server(&transport, &broker.topic, "one", large).await;
    let others = crate::peers::server(&transport, &format!("{}-2", broker.topic), "two", sums()).await;
    let good = beside(&client(&transport, &format!("{}-2", broker.topic)));
    for method in ["large", "raise"] {
        let client = client(&transport, &broker.topic);
        let context = Context::new();
        let call = client.call::<Value>(&context, method, ());
        let error = within("the failure", LONG, call).await.unwrap_err();
        let failure = error.failure().unwrap_or_else(|| panic!("{error}"));
        assert_eq!(failure.class, "MessageDeliveryFailure");
        says_size_and_limit(&error, method);
    }
    good.await.unwrap();
    server.stop().await;
    others.stop().await;
    transport.close().await.unwrap();
}

/// Ordinary calls at the same time.
fn beside(client: &Client) -> tokio::task::JoinHandle<()> {
    let client = client.clone();
    tokio::spawn(async move {
        for number in 0..50 {
            let echoed: Value = client.call(&Context::new(), "echo", json!({"n": number})).await.unwrap();
            assert_eq!(echoed["args"]["n"], number);
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_embedded_broker() {
    for test in [15, 16] {
        let broker = Broker::embedded();
        broker.as_embedded().unwrap().max_message_size(LIMIT as u64);
        if test == 15 {
            problem_15_a_request_over_the_limit_says_size_and_limit(&broker).await;
        } else {
            problem_16_a_reply_over_the_limit_is_a_failure(&broker).await;
        }
    }
}
