//! Direct reply-to: answers without a queue (`RabbitMQ`, direct reply-to).

use std::{
    collections::BTreeSet,
    future::{Future, poll_fn},
    task::Poll,
};

use murano_messaging::{Client, ErrorKind, Message};

use crate::env::{Env, all, next, numbers, text};

contract!(
    answers_come_back_to_who_asked,
    many_requests_in_flight_each_get_their_answer,
    requests_fail_on_their_own,
    a_second_consumer_of_answers_that_ends_leaves_the_first,
    a_large_request_is_not_interrupted,
    direct_reply_to_is_refused_locally_when_it_cannot_work,
    a_passive_declare_of_direct_reply_to_is_answered,
);

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Answers every request with its text in upper case, until the consumer ends.
async fn serve(client: Client, requests: murano_messaging::Consumer) {
    while let Some(Ok(request)) = requests.next().await {
        let reply_to = request.properties().reply_to().clone().unwrap();
        let id = request.properties().correlation_id().clone().unwrap();
        let answer = Message::text(text(&request).to_uppercase()).correlation_id(id.as_str());
        client.publish("", reply_to.as_str(), answer).await.unwrap();
        request.ack().unwrap();
    }
}

fn request(text: impl Into<String>) -> Message {
    let text = text.into();
    Message::text(text.as_str()).reply_to(REPLY_TO).correlation_id(format!("id-{text}"))
}

async fn answers_come_back_to_who_asked(env: &Env) {
    let (asking, other, serving) = (env.client().await, env.client().await, env.client().await);
    let queue = env.queue(&serving).await;
    tokio::spawn(serve(serving.clone(), serving.consume(queue.as_str()).start().await.unwrap()));
    let answers = asking.consume(REPLY_TO).no_ack(true).start().await.unwrap();
    let others = other.consume(REPLY_TO).no_ack(true).start().await.unwrap();
    asking.publish("", &queue, request("first")).await.unwrap();
    other.publish("", &queue, request("second")).await.unwrap();
    for (answers, expected) in [(&answers, "first"), (&others, "second")] {
        let answer = next(answers).await;
        assert_eq!(text(&answer), expected.to_uppercase());
        assert_eq!(answer.properties().correlation_id().as_ref().unwrap().as_str(), format!("id-{expected}"));
    }
    assert!(answers.try_recv().is_pending() && others.try_recv().is_pending());
}

async fn a_second_consumer_of_answers_that_ends_leaves_the_first(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    tokio::spawn(serve(client.clone(), client.consume(queue.as_str()).start().await.unwrap()));
    let first = client.consume(REPLY_TO).no_ack(true).start().await.unwrap();
    let second = client.consume(REPLY_TO).no_ack(true).start().await.unwrap();
    client.publish("", &queue, request("to the latest")).await.unwrap();
    assert_eq!(text(&next(&second).await), "TO THE LATEST");
    second.cancel().await.unwrap();
    client.publish("", &queue, request("to the first")).await.unwrap();
    assert_eq!(text(&next(&first).await), "TO THE FIRST");
    first.cancel().await.unwrap();
    let error = client.publish("", &queue, request("to nobody")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}

async fn many_requests_in_flight_each_get_their_answer(env: &Env) {
    let (asking, serving) = (env.client().await, env.client().await);
    let queue = env.queue(&serving).await;
    for _ in 0..3 {
        let requests = serving.consume(queue.as_str()).prefetch(20).start().await.unwrap();
        tokio::spawn(serve(serving.clone(), requests));
    }
    let answers = asking.consume(REPLY_TO).no_ack(true).start().await.unwrap();
    all((0..10).map(|task| {
        let (asking, queue) = (&asking, &queue);
        async move {
            for number in numbers(0..50) {
                asking.publish("", queue, request(format!("q{task}-{number}"))).await.unwrap();
            }
        }
    }))
    .await;
    let mut seen = BTreeSet::new();
    for _ in 0..500 {
        let answer = next(&answers).await;
        let id = answer.properties().correlation_id().clone().unwrap();
        assert_eq!(text(&answer), id.as_str()["id-".len()..].to_uppercase());
        assert!(seen.insert(text(&answer)), "{} twice", text(&answer));
    }
}

async fn requests_fail_on_their_own(env: &Env) {
    let client = env.client().await;
    let (queue, missing) = (env.queue(&client).await, env.unique("missing"));
    let answers = client.consume(REPLY_TO).no_ack(true).start().await.unwrap();
    let error = client.publish("", &missing, request("nobody")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unroutable, "{error}");
    let error = client.publish(&missing, "", request("nowhere")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    // The consumer of the answers lives through it.
    let serving = env.client().await;
    tokio::spawn(serve(serving.clone(), serving.consume(queue.as_str()).start().await.unwrap()));
    client.publish("", &queue, request("after")).await.unwrap();
    assert_eq!(text(&next(&answers).await), "AFTER");
    // A client that asked and left gets no answer; the responder is not held up.
    let gone = env.client().await;
    let _answers = gone.consume(REPLY_TO).no_ack(true).start().await.unwrap();
    let quiet = env.queue(&client).await;
    gone.publish("", &quiet, request("gone")).await.unwrap();
    let asked = client.get_no_ack(&quiet).await.unwrap().unwrap();
    gone.close().await.unwrap();
    let reply_to = asked.properties().reply_to().clone().unwrap();
    client.publish("", reply_to.as_str(), Message::text("too late")).await.unwrap();
}

/// How libraries for RPC find out whether the client that asked is still connected.
async fn a_passive_declare_of_direct_reply_to_is_answered(env: &Env) {
    let (client, gone) = (env.client().await, env.client().await);
    let queue = env.queue(&client).await;
    let info = client.queue_info(REPLY_TO).await.unwrap();
    assert_eq!((info.name.as_str(), info.message_count, info.consumer_count), (REPLY_TO, 0, 1));
    let _answers = gone.consume(REPLY_TO).no_ack(true).start().await.unwrap();
    gone.publish("", &queue, request("?")).await.unwrap();
    let asked = client.get_no_ack(&queue).await.unwrap().unwrap();
    let address = asked.properties().reply_to().clone().unwrap();
    let info = client.queue_info(address.as_str()).await.unwrap();
    assert_eq!((info.message_count, info.consumer_count), (0, 1));
    gone.close().await.unwrap();
    murano_testkit::eventually("the address is gone", crate::env::STEP, || async {
        client.queue_info(address.as_str()).await.is_err_and(|error| error.kind() == ErrorKind::NotFound)
    })
    .await;
}

async fn a_large_request_is_not_interrupted(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    for _ in 0..10 {
        let answers = client.consume(REPLY_TO).no_ack(true).start().await.unwrap();
        let mut large =
            Box::pin(client.publish("", &queue, Message::new(vec![0; 4 << 20]).reply_to(REPLY_TO)));
        let sent = poll_fn(|cx| Poll::Ready(large.as_mut().poll(cx))).await;
        // The cancel goes through the same channel as the request.
        answers.cancel().await.unwrap();
        let outcome = if let Poll::Ready(outcome) = sent { outcome } else { large.await };
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        }
        assert_eq!(client.stats().reconnects, 0, "the connection lives");
    }
}

async fn direct_reply_to_is_refused_locally_when_it_cannot_work(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let error = client.publish("", &queue, request("too early")).await.unwrap_err();
    assert_eq!((error.kind(), error.reply_code()), (ErrorKind::InvalidArgument, None), "{error}");
    let error = client.consume(REPLY_TO).start().await.unwrap_err();
    assert_eq!((error.kind(), error.reply_code()), (ErrorKind::InvalidArgument, None), "{error}");
    let answers = client.consume(REPLY_TO).no_ack(true).start().await.unwrap();
    client.publish("", &queue, request("now")).await.unwrap();
    answers.cancel().await.unwrap();
    let error = client.publish("", &queue, request("too late")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert_eq!(client.queue_info(&queue).await.unwrap().message_count, 1);
}
