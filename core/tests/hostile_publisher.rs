//! Fault 23 of `docs/faults.md`: messages that no correct client sends, published raw through `RabbitMQ`, which relays them. The good ones around
//! them arrive, the bad ones are delivered with what is wrong with them, and the connection lives.

#[path = "hostile_server/bytes.rs"]
#[allow(dead_code)] // Shared with the hostile server.
mod bytes;

use std::{collections::BTreeMap, time::Duration};

use amq_protocol::types::{AMQPValue, ShortString};
use murano_messaging::{
    Binding, Client, Consumer, Delivery, Event, Events, Exchange, Message, Options, Queue,
};
use murano_testkit::{eventually, shared_node, unique, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use bytes::*;

const LONG: Duration = Duration::from_secs(60);

/// A connection that publishes bytes, with confirms.
struct Raw {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Raw {
    async fn connect() -> Self {
        let address = shared_node().await.rsplit_once('@').unwrap().1.trim_end_matches('/');
        let mut raw = Self { stream: TcpStream::connect(address).await.unwrap(), heard: Vec::new() };
        raw.send(b"AMQP\0\0\x09\x01").await;
        raw.expect(START).await;
        let login = [&[0; 4], &short("PLAIN")[..], &long("\0guest\0guest"), &short("en_US")].concat();
        raw.send(method(0, START_OK, &login)).await;
        raw.expect(TUNE).await;
        raw.send(method(0, TUNE_OK, &[7, 255, 0, 2, 0, 0, 0, 0])).await;
        raw.send(method(0, OPEN, &[&short("/")[..], &[0, 0]].concat())).await;
        raw.expect(OPEN_OK).await;
        raw.send(method(1, CHANNEL_OPEN, &[0])).await;
        raw.expect(CHANNEL_OPEN_OK).await;
        raw.send(method(1, SELECT, &[0])).await;
        raw.expect(SELECT_OK).await;
        raw
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next method of the broker's.
    async fn method(&mut self) -> Id {
        within("the broker's answer", LONG, async {
            loop {
                if let Some(head) = self.heard.first_chunk::<7>() {
                    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
                    if self.heard.len() >= size + 8 {
                        let frame: Vec<u8> = self.heard.drain(..size + 8).collect();
                        let number = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
                        return (number(7), number(9));
                    }
                }
                assert!(self.stream.read_buf(&mut self.heard).await.unwrap() > 0, "the broker is gone");
            }
        })
        .await
    }

    async fn expect(&mut self, id: Id) {
        assert_eq!(self.method().await, id);
    }

    /// Publishes a message whose properties are these bytes.
    async fn publish(&mut self, exchange: &str, routing_key: &[u8], properties: &[u8], text: &[u8]) {
        let fields = [&[0, 0][..], &short(exchange), &short(routing_key), &[0]].concat();
        let mut content = [method(1, PUBLISH, &fields), header(1, text.len() as u64, properties)].concat();
        for chunk in text.chunks(131_064) {
            content.extend(body(1, chunk));
        }
        self.send(content).await;
    }
}

/// Arrays nested to `levels` levels, as the value of one header.
fn nested_array(levels: usize) -> Vec<u8> {
    let (mut reversed, mut length) = (Vec::new(), 0u32);
    for _ in 0..levels {
        reversed.extend(length.to_le_bytes());
        reversed.push(b'A');
        length += 5;
    }
    reversed.reverse();
    long([&short("k")[..], &reversed].concat())
}

/// Flags and list of properties that `RabbitMQ` relays and that cannot be read, with what is said of them.
fn poison() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let headers = |table: Vec<u8>| [vec![0x20, 0], table].concat();
    vec![
        ("tables nested 5000 deep", headers(nested_table(5000)), "deeper than 32"),
        ("tables nested 33 deep", headers(nested_table(33)), "deeper than 32"),
        ("arrays nested 5000 deep", headers(nested_array(5000)), "deeper than 32"),
        ("message_id not UTF-8", [&[0, 0x80][..], &short(b"\xFF\xFE")].concat(), "not UTF-8"),
        ("header key not UTF-8", headers(long([&short(b"k\xFF")[..], b"t\x01"].concat())), "not UTF-8"),
        ("content type not UTF-8", [&[0x90, 0][..], &short(b"\xC3"), &[2]].concat(), "not UTF-8"),
    ]
}

async fn client(options: impl FnOnce(Options) -> Options) -> Client {
    let options = options(Options::from_uri(shared_node().await).unwrap());
    within("connecting", LONG, options.connect()).await.unwrap()
}

async fn next(consumer: &Consumer) -> Delivery {
    within("a message", LONG, consumer.next()).await.unwrap().unwrap()
}

async fn expect_event<T>(events: &mut Events, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    within("the event", LONG, async {
        loop {
            if let Some(found) = wanted(events.next().await.unwrap()) {
                return found;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_23_poison_among_a_hundred_good_messages() {
    let client = client(|options| options.max_body_size(1024 * 1024).discard_oversize(true)).await;
    let mut events = client.events();
    let (queue, rejected) = (unique("poison"), unique("rejected"));
    client.declare_queue(&Queue::new(rejected.as_str())).await.unwrap();
    let dead_letters =
        Queue::new(queue.as_str()).dead_letter_exchange("").dead_letter_routing_key(rejected.as_str());
    client.declare_queue(&dead_letters).await.unwrap();

    // Good ones before, between and after.
    let mut raw = Raw::connect().await;
    let poison = poison();
    let mut good = 0;
    for (name, properties, _) in &poison {
        for _ in 0..14 {
            client.publish("", &queue, Message::text(format!("good {good}"))).await.unwrap();
            good += 1;
        }
        raw.publish("", queue.as_bytes(), properties, name.as_bytes()).await;
        raw.expect(ACK).await;
    }
    raw.publish("", queue.as_bytes(), BARE, &vec![7; 3 * 1024 * 1024]).await;
    raw.expect(ACK).await;
    while good < 100 {
        client.publish("", &queue, Message::text(format!("good {good}"))).await.unwrap();
        good += 1;
    }

    let consumer = client.consume(queue.as_str()).start().await.unwrap();
    let mut seen = BTreeMap::new();
    let mut arrived = 0;
    while arrived + seen.len() < 100 + poison.len() {
        let delivery = next(&consumer).await;
        let text = String::from_utf8(delivery.body().to_vec()).unwrap();
        match delivery.headers_error() {
            None => {
                assert_eq!(text, format!("good {arrived}"));
                arrived += 1;
            }
            Some(defect) => {
                seen.insert(text, defect.clone());
            }
        }
        delivery.ack().unwrap();
    }
    assert_eq!(arrived, 100);
    for (name, properties, reason) in &poison {
        let defect = &seen[*name];
        assert!(defect.reason.contains(reason), "{name}: {}", defect.reason);
        assert_eq!(defect.raw, properties, "{name}");
    }

    let told = expect_event(&mut events, |event| match event {
        Event::HeadersDefect { queue, defect } => Some((queue, defect)),
        _ => None,
    })
    .await;
    assert_eq!(told, (queue.clone(), seen[poison[0].0].clone()));
    let told = expect_event(&mut events, |event| match event {
        Event::OversizeRejected { queue, size, limit } => Some((queue, size, limit)),
        _ => None,
    })
    .await;
    assert_eq!(told, (queue.clone(), 3 * 1024 * 1024, 1024 * 1024));

    // Nothing is left or comes again: all was acked, and the oversize one is where rejected ones go.
    consumer.cancel().await.unwrap();
    eventually("the oversize message is a dead letter", LONG, || async {
        client.queue_info(&rejected).await.unwrap().message_count == 1
    })
    .await;
    assert_eq!(client.queue_info(&queue).await.unwrap().message_count, 0);
    assert_eq!(client.stats().reconnects, 0);
    client.delete_queue(&queue).await.unwrap();
    client.delete_queue(&rejected).await.unwrap();
}

/// What can be read of bad properties is there; what is odd but sound has no error.
#[tokio::test(flavor = "multi_thread")]
async fn fault_23_what_can_be_read_is_read() {
    let client = client(|options| options).await;
    let queue = unique("poison");
    client.declare_queue(&Queue::new(queue.as_str())).await.unwrap();
    let mut raw = Raw::connect().await;
    // Content type, headers, delivery mode, message id (broken), app id.
    let table = long([&short("k")[..], b"I\0\0\0\x07"].concat());
    let list = [&short("text/plain")[..], &table, &[2], &short(b"\xFF"), &short("app")];
    raw.publish("", queue.as_bytes(), &[&[0xB0, 0x88][..], &list.concat()].concat(), b"x").await;
    raw.expect(ACK).await;
    // A value that is not UTF-8 is a value.
    let table = long([&short("k")[..], b"S", &long(b"\xFF")].concat());
    raw.publish("", queue.as_bytes(), &[&[0x20, 0][..], &table].concat(), b"y").await;
    raw.expect(ACK).await;

    let consumer = client.consume(queue.as_str()).start().await.unwrap();
    let broken = next(&consumer).await;
    assert!(broken.headers_error().is_some());
    assert_eq!((broken.message_id(), broken.body().as_ref()), (None, &b"x"[..]));
    let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
    assert_eq!(text(broken.properties().content_type()).as_deref(), Some("text/plain"));
    assert_eq!(text(broken.properties().app_id()).as_deref(), Some("app"));
    assert_eq!(broken.properties().delivery_mode(), &Some(2));
    let headers = broken.properties().headers().as_ref().unwrap();
    assert_eq!(headers.inner().get("k"), Some(&AMQPValue::LongInt(7)));
    let odd = next(&consumer).await;
    assert_eq!(odd.headers_error(), None);
    let headers = odd.properties().headers().as_ref().unwrap();
    assert_eq!(headers.inner()["k"].as_long_string().unwrap().as_bytes(), b"\xFF");
    drop((broken, odd, consumer));
    client.delete_queue(&queue).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_23_routing_key_that_is_not_utf_8() {
    let client = client(|options| options).await;
    let (queue, exchange) = (unique("poison"), unique("fanout"));
    client.declare_queue(&Queue::new(queue.as_str())).await.unwrap();
    client.declare_exchange(&Exchange::fanout(exchange.as_str())).await.unwrap();
    client.bind(&Binding::queue(queue.as_str(), exchange.as_str())).await.unwrap();
    let mut raw = Raw::connect().await;
    raw.publish(&exchange, b"key-\xFF", BARE, b"x").await;
    raw.expect(ACK).await;
    let consumer = client.consume(queue.as_str()).start().await.unwrap();
    let delivery = next(&consumer).await;
    assert_eq!((delivery.routing_key(), delivery.body().as_ref()), ("key-\u{FFFD}", &b"x"[..]));
    assert!(delivery.headers_error().unwrap().reason.contains("routing key"));
    delivery.ack().unwrap();
    assert_eq!(client.stats().reconnects, 0);
    drop(consumer);
    client.delete_queue(&queue).await.unwrap();
    client.delete_exchange(&exchange).await.unwrap();
}

/// The same through `basic.get`, which has an answer of its own for a message that is too large.
#[tokio::test(flavor = "multi_thread")]
async fn fault_23_poison_that_is_got() {
    let client = client(|options| options.max_body_size(1000).discard_oversize(true)).await;
    let queue = unique("poison");
    client.declare_queue(&Queue::new(queue.as_str())).await.unwrap();
    let mut raw = Raw::connect().await;
    let poison = poison();
    for (name, properties, _) in &poison {
        raw.publish("", queue.as_bytes(), properties, name.as_bytes()).await;
        raw.expect(ACK).await;
    }
    raw.publish("", queue.as_bytes(), BARE, &[7; 1001]).await;
    raw.expect(ACK).await;
    raw.publish("", queue.as_bytes(), BARE, b"the last").await;
    raw.expect(ACK).await;
    for (name, properties, reason) in &poison {
        let delivery = client.get_with_ack(&queue).await.unwrap().unwrap();
        assert_eq!(delivery.body().as_ref(), name.as_bytes());
        let defect = delivery.headers_error().unwrap();
        assert!(defect.reason.contains(reason), "{name}: {}", defect.reason);
        assert_eq!(defect.raw, properties);
        delivery.ack().unwrap();
    }
    let error = client.get_with_ack(&queue).await.unwrap_err();
    assert!(error.to_string().contains("1001 bytes"), "{error}");
    let delivery = client.get_with_ack(&queue).await.unwrap().unwrap();
    assert_eq!(delivery.body().as_ref(), b"the last");
    delivery.ack().unwrap();
    assert!(client.get_with_ack(&queue).await.unwrap().is_none());
    assert_eq!(client.stats().reconnects, 0);
    client.delete_queue(&queue).await.unwrap();
}

/// What `RabbitMQ` itself cannot read ends the connection of its publisher, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn fault_23_what_the_broker_refuses_never_arrives() {
    let client = client(|options| options).await;
    let queue = unique("poison");
    client.declare_queue(&Queue::new(queue.as_str())).await.unwrap();
    let consumer = client.consume(queue.as_str()).start().await.unwrap();
    for properties in [
        // A field of an unknown type, a table that passes its frame, bytes behind the last property.
        [&[0x20, 0][..], &long([&short("k")[..], b"?"].concat())].concat(),
        vec![0x20, 0, 0, 0, 0xFF, 0],
        vec![0, 0, 1, 2, 3],
    ] {
        let mut raw = Raw::connect().await;
        raw.publish("", queue.as_bytes(), &properties, b"x").await;
        raw.expect(CLOSE).await;
    }
    client.publish("", &queue, Message::text("good")).await.unwrap();
    let delivery = next(&consumer).await;
    assert_eq!(delivery.body().as_ref(), b"good");
    delivery.ack().unwrap();
    assert_eq!(client.stats().reconnects, 0);
    drop(consumer);
    client.delete_queue(&queue).await.unwrap();
}

/// `RabbitMQ` cuts the text of a refusal at 255 bytes, here in the middle of a character. The refusal is one all the same.
#[tokio::test(flavor = "multi_thread")]
async fn long_names_in_refusals() {
    let client = client(|options| options).await;
    for name in
        [format!("a{}", "é".repeat(127)), "é".repeat(127), "漢".repeat(85), format!("ab{}", "漢".repeat(84))]
    {
        let error = within("the refusal", LONG, client.queue_info(&name)).await.unwrap_err();
        assert_eq!(error.reply_code(), Some(404), "{error}");
    }
    assert_eq!(client.stats().reconnects, 0);
}
