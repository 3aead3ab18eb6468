//! Publishes that are written from their callers' threads while the channel for them is being opened.

use std::{
    pin::pin,
    task::{Context, Waker},
};

use murano_messaging::{Client, Message};
use murano_testkit::shared_node;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_overtakes_the_opening_of_the_channel() {
    let uri = shared_node().await;
    for _ in 0..200 {
        let client = Client::connect(uri).await.unwrap();
        let hammering = tokio::task::spawn_blocking({
            let client = client.clone();
            move || {
                // Each tries to write at once; given up as soon as it has, it leaves the way to the next.
                while client.stats().confirmed == 0 {
                    let publish = client.publish("", "nowhere", Message::text("x").mandatory(false));
                    let _ = pin!(publish).poll(&mut Context::from_waker(Waker::noop()));
                }
            }
        });
        client.publish("", "nowhere", Message::text("x").mandatory(false)).await.unwrap();
        hammering.await.unwrap();
        assert_eq!(client.stats().reconnects, 0);
    }
}
