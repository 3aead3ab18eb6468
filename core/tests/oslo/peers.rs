//! Servers and clients that most tests need.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use murano_messaging::{
    Delivery,
    oslo::{
        Context, Failure, Target, Transport,
        rpc::{Client, Endpoint, RunningServer, Server},
    },
};
use murano_testkit::eventually;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::LONG;

#[derive(Deserialize, Serialize)]
pub(crate) struct Add {
    pub(crate) a: i64,
    pub(crate) b: i64,
}

pub(crate) fn sums() -> Endpoint {
    Endpoint::new()
        .version("1.2")
        .method("add", |_: Context, args: Add| async move { Ok::<_, Failure>(args.a + args.b) })
        .method("echo", |context: Context, args: Value| async move {
            Ok::<_, Failure>(json!({"args": args, "context": context}))
        })
        .method("raise", |_: Context, _: Value| async {
            Err::<(), _>(
                Failure::new("InstanceNotFound", "no instance 7")
                    .module("nova.exception")
                    .args([json!("no instance 7")])
                    .kwarg("instance_id", 7),
            )
        })
        .method("panic", |_: Context, _: Value| async {
            assert!(std::hint::black_box(false), "this method panics");
            Ok::<_, Failure>(())
        })
}

pub(crate) async fn server(
    transport: &Transport,
    topic: &str,
    name: &str,
    endpoint: Endpoint,
) -> RunningServer {
    Server::new(transport, Target::topic(topic).server(name)).endpoint(endpoint).start().await.unwrap()
}

pub(crate) fn client(transport: &Transport, topic: &str) -> Client {
    Client::new(transport, Target::topic(topic).version("1.0")).timeout(LONG)
}

/// A method that counts its calls, and each waits until it may return.
pub(crate) fn slow(calls: &Arc<AtomicU32>, go: &Arc<Semaphore>) -> Endpoint {
    let (calls, go) = (calls.clone(), go.clone());
    Endpoint::new().method("work", move |_: Context, _: Value| {
        let (calls, go) = (calls.clone(), go.clone());
        async move {
            calls.fetch_add(1, Ordering::SeqCst);
            go.acquire().await.unwrap().forget();
            Ok::<_, Failure>("done")
        }
    })
}

/// Takes the next message off a queue that nobody consumes, when both are there.
pub(crate) async fn taken(client: &murano_messaging::Client, queue: &str) -> Delivery {
    let found = Mutex::new(None);
    eventually("a message", LONG, || async {
        let message = client.get_no_ack(queue).await.ok().flatten();
        let came = message.is_some();
        *found.lock().unwrap() = message;
        came
    })
    .await;
    found.into_inner().unwrap().unwrap()
}

/// What is in the envelope.
pub(crate) fn request(message: &Delivery) -> Value {
    let outer: Value = message.json().unwrap();
    serde_json::from_str(outer["oslo.message"].as_str().unwrap()).unwrap()
}
