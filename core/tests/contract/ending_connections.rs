//! Operations over which a broker ends the connection, or which it never answers: they fail alone.

use std::time::Duration;

use murano_messaging::{Binding, ErrorKind, Exchange, Message, Queue};
use murano_testkit::within;

use crate::env::{Env, STEP, next_text};

contract!(arguments_over_frame_max_are_refused_before_they_are_sent);

rabbitmq_only!(
    an_operation_over_which_rabbitmq_ends_the_connection_fails_once_with_its_text,
    a_call_that_rabbitmq_never_answers_holds_up_no_later_one,
);

async fn arguments_over_frame_max_are_refused_before_they_are_sent(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let large = "x".repeat(200_000);
    let (name, exchange) = (env.unique("large"), env.unique("large"));
    let declared = client.declare_queue(&Queue::new(name).argument("x-large", large.as_str())).await;
    let exchanged =
        client.declare_exchange(&Exchange::direct(exchange).argument("large", large.as_str())).await;
    let bound =
        client.bind(&Binding::queue(queue.as_str(), "amq.headers").argument("large", large.as_str())).await;
    let consumed = client.consume(queue.as_str()).argument("large", large.as_str()).start().await;
    for refused in [declared.map(drop), exchanged, bound, consumed.map(drop)] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(!error.outcome_unknown());
        assert!(error.to_string().contains("frame_max"), "{error}");
    }
    // As much as fits is for the broker to judge.
    let fits = Binding::queue(queue.as_str(), "amq.headers").argument("large", "x".repeat(100_000));
    client.bind(&fits).await.unwrap();
    assert_eq!(client.stats().reconnects, 0);
}

/// An argument of a kind that `RabbitMQ` 3.10 does not check.
async fn an_operation_over_which_rabbitmq_ends_the_connection_fails_once_with_its_text(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let consumer = client.consume(queue.as_str()).start().await.unwrap();
    let ending = Queue::new(env.unique("ending")).argument("x-queue-master-locator", "no");
    let (ended, declared) = tokio::join!(client.declare_queue(&ending), env.queue(&client));
    match ended {
        // Later versions ignore the argument.
        Ok(_) => assert_eq!(client.stats().reconnects, 0),
        Err(error) => {
            assert!(error.reply_code().is_some(), "{error}");
            assert!(client.stats().reconnects <= 2, "{}", client.stats().reconnects);
        }
    }
    client.publish("", &queue, Message::text("x")).await.unwrap();
    assert_eq!(next_text(&consumer).await, "x");
    client.queue_info(&declared).await.unwrap();
    assert!(client.stats().reconnects <= 2, "{}", client.stats().reconnects);
}

async fn a_call_that_rabbitmq_never_answers_holds_up_no_later_one(env: &Env) {
    let options = env.options().operation_timeout(Duration::from_secs(3));
    let client = within("connecting", STEP, options.connect()).await.unwrap();
    let unanswered = Queue::new(env.unique("unanswered")).argument("x-queue-master-locator", 1.5);
    let result = client.declare_queue(&unanswered).await;
    env.queue(&client).await;
    env.queue(&client).await;
    match result {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::Timeout => assert_eq!(client.stats().reconnects, 0),
        Err(error) => assert!(error.reply_code().is_some(), "{error}"),
    }
}
