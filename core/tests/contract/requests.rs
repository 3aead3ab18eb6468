//! `Client::request`: request and reply over direct reply-to.

use std::time::Duration;

use murano_messaging::{Client, ErrorKind, Message};
use tokio::task::JoinSet;

use crate::env::{Env, next, text};

contract!(
    a_request_gets_its_reply,
    many_requests_at_a_time_each_get_their_own_reply,
    a_request_without_a_reply_times_out_and_a_late_reply_is_nobodys,
    a_request_that_no_queue_takes_fails_at_once,
    requests_leave_other_direct_replies_alone,
    a_correlation_id_is_kept_and_is_used_once_at_a_time,
);

/// Replies to every request with its text in upper case.
async fn server(env: &Env, client: &Client) -> String {
    let queue = env.queue(client).await;
    let requests = client.consume(queue.as_str()).start().await.unwrap();
    let client = client.clone();
    tokio::spawn(async move {
        while let Some(Ok(request)) = requests.next().await {
            let to = request.properties().reply_to().clone().unwrap();
            let id = request.properties().correlation_id().clone().unwrap();
            let reply = Message::text(text(&request).to_uppercase()).correlation_id(id.as_str());
            client.publish("", to.as_str(), reply).await.unwrap();
            request.ack().unwrap();
        }
    });
    queue
}

async fn a_request_gets_its_reply(env: &Env) {
    let (serving, client) = (env.client().await, env.client().await);
    let queue = server(env, &serving).await;
    for word in ["first", "second"] {
        let reply = client.request("", &queue, Message::text(word)).await.unwrap();
        assert_eq!(text(&reply), word.to_uppercase());
    }
    // A client may ask itself.
    let reply = serving.request("", &queue, Message::text("own")).await.unwrap();
    assert_eq!(text(&reply), "OWN");
}

async fn many_requests_at_a_time_each_get_their_own_reply(env: &Env) {
    let (serving, client) = (env.client().await, env.client().await);
    let queue = server(env, &serving).await;
    let mut asking = JoinSet::new();
    for number in 0..500 {
        let (client, queue) = (client.clone(), queue.clone());
        asking.spawn(async move {
            let reply = client.request("", &queue, Message::text(format!("q{number}"))).await.unwrap();
            assert_eq!(text(&reply), format!("Q{number}"));
        });
    }
    asking.join_all().await;
    assert_eq!(client.stats().delivered, 500, "over one consumer, each reply once");
}

async fn a_request_without_a_reply_times_out_and_a_late_reply_is_nobodys(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let short = Duration::from_millis(300);
    let error = client.with_timeout(short).request("", &queue, Message::text("late")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.outcome_unknown(), "the request may have been carried out");
    assert!(error.to_string().contains(&queue), "{error}");
    let request = client.get_no_ack(&queue).await.unwrap().unwrap();
    let (to, id) = (request.properties().reply_to().clone(), request.properties().correlation_id().clone());
    let late = Message::text("late").correlation_id(id.unwrap().as_str());
    client.publish("", to.unwrap().as_str(), late).await.unwrap();
    // The next gets its own.
    let serving = env.client().await;
    let queue = server(env, &serving).await;
    let reply = client.request("", &queue, Message::text("next")).await.unwrap();
    assert_eq!(text(&reply), "NEXT");
}

async fn a_request_that_no_queue_takes_fails_at_once(env: &Env) {
    let client = env.client().await;
    let missing = env.unique("missing");
    let error = client.request("", &missing, Message::text("x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unroutable, "{error}");
    let error = client.request(&missing, "", Message::text("x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let serving = env.client().await;
    let queue = server(env, &serving).await;
    let reply = client.request("", &queue, Message::text("after")).await.unwrap();
    assert_eq!(text(&reply), "AFTER");
}

async fn requests_leave_other_direct_replies_alone(env: &Env) {
    let (serving, client) = (env.client().await, env.client().await);
    let queue = server(env, &serving).await;
    let replies = client.consume("amq.rabbitmq.reply-to").no_ack(true).start().await.unwrap();
    let own = |word: &str| Message::text(word).reply_to("amq.rabbitmq.reply-to").correlation_id(word);
    for word in ["one", "two"] {
        client.publish("", &queue, own(word)).await.unwrap();
        let reply = client.request("", &queue, Message::text("asked")).await.unwrap();
        assert_eq!(text(&reply), "ASKED");
        assert_eq!(text(&next(&replies).await), word.to_uppercase());
    }
}

async fn a_correlation_id_is_kept_and_is_used_once_at_a_time(env: &Env) {
    let client = env.client().await;
    let queue = env.queue(&client).await;
    let asked = || Message::text("x").correlation_id("mine");
    let waiting = {
        let (client, queue) = (client.clone(), queue.clone());
        tokio::spawn(async move { client.request("", &queue, asked()).await })
    };
    let request = loop {
        if let Some(request) = client.get_no_ack(&queue).await.unwrap() {
            break request;
        }
    };
    assert_eq!(request.properties().correlation_id().as_ref().unwrap().as_str(), "mine");
    let error = client.request("", &queue, asked()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    let to = request.properties().reply_to().clone().unwrap();
    client.publish("", to.as_str(), Message::text("reply").correlation_id("mine")).await.unwrap();
    assert_eq!(text(&waiting.await.unwrap().unwrap()), "reply");
}
