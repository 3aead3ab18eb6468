//! Contents that `RabbitMQ` would not relay, but another broker may: properties that cannot be read are a publisher's
//! fault, so the message is delivered and the connection lives.

use murano_testkit::within;

use crate::{
    bytes::*,
    script::{LONG, Server},
};

/// Flags and list of properties, and what is said of them.
fn poison() -> Vec<(Vec<u8>, &'static str)> {
    let headers = |table: &[u8]| [&[0x20, 0][..], table].concat();
    let entry = |value: &[u8]| headers(&long([&short("k")[..], value].concat()));
    vec![
        (headers(&[]), "a length passes the end"),
        (headers(&[0, 0, 0]), "a length passes the end"),
        (headers(&[0, 0, 0, 1]), "a length passes the end"),
        (headers(&[0xFF; 8]), "a length passes the end"),
        (headers(&[0, 0, 0, 1, 0]), "a table key passes the end"),
        (headers(&[0, 0, 0, 3, 255, b'k', b't']), "a table key passes the end"),
        (entry(b""), "a table key passes the end"),
        (entry(b"?"), "unknown type"),
        (entry(b"\0\x01"), "unknown type"),
        (entry(b"I\0\0\0"), "a field passes the end"),
        (entry(b"t"), "a field passes the end"),
        (entry(b"S\0\0\0\x01"), "a length passes the end"),
        (entry(b"S\xFF\xFF\xFF\xFF"), "a length passes the end"),
        (entry(b"A\0\0\0\x01"), "a length passes the end"),
        (entry(b"A\0\0\0\x01?"), "unknown type"),
        (entry(b"F\0\0\0\x01\0"), "a table key passes the end"),
        (headers(&nested_table(33)), "deeper than 32"),
        (headers(&nested_table(5000)), "deeper than 32"),
        // A short string, a number, or all of them are missing.
        (vec![0x80, 0], "cannot be parsed"),
        (vec![0xA0, 0], "a property passes the end"),
        (vec![0xA0, 0, 200, b'x'], "a property passes the end"),
        (vec![0x10, 0], "cannot be parsed"),
        (vec![0, 0x40, 0, 0, 0], "cannot be parsed"),
        (vec![0xFF, 0xFC], "a property passes the end"),
        // More than there should be.
        (vec![0, 0, 1], "left over"),
        (vec![0, 1, 0, 0], "left over"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_that_cannot_be_read() {
    let server = Server::start(async move |mut peer| {
        let (channel, tag) = peer.consumed().await;
        for (number, (properties, _)) in (1..).zip(poison()) {
            let bytes =
                [deliver(channel, &tag, number), header(channel, 4, &properties), body(channel, b"body")];
            peer.send(bytes.concat()).await;
        }
        peer.send(message(channel, &tag, poison().len() as u64 + 1, b"good")).await;
        peer.until(CLOSE).await;
    })
    .await;
    let client = server.client().await;
    let consumer = within("consuming", LONG, client.consume("q").start()).await.unwrap();
    for (properties, reason) in poison() {
        let delivery = within("a message", LONG, consumer.next()).await.unwrap().unwrap();
        let defect = delivery.headers_error().unwrap_or_else(|| panic!("no error for {properties:x?}"));
        assert!(defect.reason.contains(reason), "{properties:x?}: {}", defect.reason);
        assert_eq!(defect.raw, properties);
        assert_eq!(delivery.body().as_ref(), b"body");
        delivery.ack().unwrap();
    }
    let delivery = within("a message", LONG, consumer.next()).await.unwrap().unwrap();
    assert!(delivery.headers_error().is_none());
    assert_eq!(delivery.body().as_ref(), b"good");
    drop((delivery, consumer, client));
    server.end().await;
}
