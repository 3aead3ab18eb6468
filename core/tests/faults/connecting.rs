//! Faults 16 to 19 of `docs/faults.md`: a broker that refuses the connection, or does not answer.

use std::time::{Duration, Instant};

use murano_messaging::{Client, ErrorKind, Options};
use murano_testkit::{Node, Proxy, free_port, shared_node, unique, within};

use crate::load::LONG;

fn shared_port(uri: &str) -> u16 {
    uri.rsplit_once(':').unwrap().1.trim_end_matches('/').parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_16_wrong_password() {
    let port = shared_port(shared_node().await);
    let proxy = Proxy::start(port).await;
    let uri = format!("amqp://guest:hunter2@127.0.0.1:{}", proxy.port());
    let error = within("the refusal", LONG, Client::connect(&uri)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    assert_eq!(error.reply_code(), Some(403));
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    assert_eq!(proxy.connections(), 1, "no retry");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_17_missing_vhost_and_connection_limit() {
    let node = Node::start().await;
    let uri = format!("{}/nowhere", node.uri());
    let error = within("the refusal", LONG, Client::connect(&uri)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::VhostRefused, "{error}");
    assert!(error.reply_text().unwrap().contains("nowhere"), "{error}");

    let user = unique("user");
    node.ctl(&["add_user", &user, "pass"]).await.unwrap();
    node.ctl(&["set_permissions", &user, ".*", ".*", ".*"]).await.unwrap();
    node.ctl(&["set_user_limits", &user, r#"{"max-connections": 1}"#]).await.unwrap();
    let uri = format!("amqp://{user}:pass@127.0.0.1:{}", node.port());
    let first = Client::connect(&uri).await.unwrap();
    let error = within("the refusal", LONG, Client::connect(&uri)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
    // The publishing connection is over the limit too: the publish says so, and the client lives on.
    let publish = first.publish("", "x", murano_messaging::Message::text("x"));
    let error = within("the refusal of the second connection", LONG, publish).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
    first.queue_info("x").await.unwrap_err();
    assert!(!first.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_18_port_refuses_or_stays_silent() {
    let started = Instant::now();
    let uri = format!("amqp://127.0.0.1:{}", free_port());
    let error = within("the refusal", LONG, Client::connect(&uri)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectFailed, "{error}");
    assert!(started.elapsed() < Duration::from_secs(2));

    let proxy = Proxy::start(free_port()).await;
    proxy.swallow(true);
    let options = Options::from_uri(&proxy.uri()).unwrap().connect_timeout(Duration::from_secs(1));
    let error = within("the deadline", Duration::from_secs(10), options.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectFailed, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_19_first_of_several_hosts_is_dead() {
    let port = shared_port(shared_node().await);
    let silent = Proxy::start(free_port()).await;
    silent.swallow(true);
    for dead in [free_port(), silent.port()] {
        let client = Options::new()
            .host("127.0.0.1", dead)
            .host("127.0.0.1", port)
            .connect_timeout(Duration::from_secs(4))
            .connect();
        let client = within("the second host", LONG, client).await.unwrap();
        client.close().await.unwrap();
    }
    let error = Client::connect(&format!("amqp://127.0.0.1:{},127.0.0.1:{}", free_port(), free_port()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectFailed, "{error}");
}
