//! The embedded broker and a client that sends the bytes. The first byte: whether a login comes before them.

use std::{sync::Arc, time::Duration};

use murano_messaging::{Broker, Message, Options, Queue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    bytes::{CHANNEL_OPEN, OPEN, START_OK, TUNE_OK, long, method, short},
    converse,
};

pub fn run(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let bytes = match first % 3 {
        0 => rest.to_vec(),
        1 => [login(4096), rest.to_vec()].concat(),
        _ => [login(0), method(1, CHANNEL_OPEN, &[0]), rest.to_vec()].concat(),
    };
    converse(async move {
        let broker = Broker::seeded(1);
        say(&broker, &bytes).await;
        is_alive(&broker).await;
    });
}

/// What a client sends up to the opened connection.
pub fn login(frame_max: u32) -> Vec<u8> {
    let answer = [&[0; 4][..], &short("PLAIN"), &long("\0guest\0guest"), &short("en_US")].concat();
    let tuned = [&[0, 0][..], &frame_max.to_be_bytes(), &[0, 0]].concat();
    let open = [short("/"), vec![0, 0]].concat();
    [
        b"AMQP\0\0\x09\x01".to_vec(),
        method(0, START_OK, &answer),
        method(0, TUNE_OK, &tuned),
        method(0, OPEN, &open),
    ]
    .concat()
}

/// Sends the bytes to the broker, and listens until it falls silent.
pub async fn say(broker: &Broker, bytes: &[u8]) {
    let Ok(mut stream) = broker.connect() else { return };
    let mut heard = vec![0; 65_536];
    let mut left = bytes;
    let (mut read, mut write) = tokio::io::split(&mut stream);
    loop {
        tokio::select! {
            biased;
            count = read.read(&mut heard) => if !matches!(count, Ok(1..)) { return },
            count = write.write(left), if !left.is_empty() => match count {
                Ok(count) => left = &left[count..],
                Err(_) => return,
            },
            // Longer than any timer of the broker's that a deadline of 10 s does not end.
            () = tokio::time::sleep(Duration::from_secs(30)) => return,
        }
    }
}

const QUEUE: &str = "a queue of somebody else";

/// Whatever it has heard, the broker serves others, and forgets who is gone.
pub async fn is_alive(broker: &Broker) {
    let client = Options::new().connector(Arc::new(broker.clone())).seed(2).connect().await;
    let client = client.expect("the broker takes connections");
    client.declare_queue(&Queue::new(QUEUE).exclusive(true)).await.expect("the broker declares");
    client.publish("", QUEUE, Message::text("x")).await.expect("the broker confirms");
    let got = client.get_no_ack(QUEUE).await.expect("the broker answers");
    assert_eq!(got.expect("a message is there").body(), "x");
    client.close().await.expect("the broker closes");
    // The clock that jumps lets every task take its turn.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(broker.connections(), 0, "the broker remembers connections that are gone");
}
