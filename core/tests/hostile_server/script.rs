//! A server that does what a test's script says: it speaks raw bytes, and is polite only where it is told to be.

use std::{
    future::Future,
    sync::{Mutex, Once, PoisonError},
    time::Duration,
};

use murano_messaging::{Client, Consumer, Error, Options, Recovery};
use murano_testkit::within;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::bytes::*;

/// Longer than anything takes here, deadlines of the client included.
pub const LONG: Duration = Duration::from_secs(30);

/// The deadline the clients of these tests have for connecting and for every operation.
pub const DEADLINE: Duration = Duration::from_secs(3);

static PANICKED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Remembers panics that are not a test's own: one in the engine's task would otherwise only look like a closed client.
fn watch_for_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let of_a_test = info
                .location()
                .is_some_and(|at| at.file().contains("tests/") || at.file().contains("testkit/"));
            if !of_a_test {
                PANICKED.lock().unwrap_or_else(PoisonError::into_inner).push(info.to_string());
            }
            report(info);
        }));
    });
}

fn assert_no_panic() {
    let panicked = PANICKED.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(panicked.is_empty(), "the client panicked: {panicked:?}");
}

/// A server with one script for its first connection. A failed script fails the test at [`Server::end`].
pub struct Server<T> {
    port: u16,
    script: JoinHandle<T>,
}

impl<T: Send + 'static> Server<T> {
    pub async fn start<F, Fut>(script: F) -> Self
    where
        F: FnOnce(Peer) -> Fut + Send + 'static,
        Fut: Future<Output = T> + Send + 'static,
    {
        watch_for_panics();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = tokio::spawn(async move {
            let (stream, _) = within("a connection", LONG, listener.accept()).await.unwrap();
            stream.set_nodelay(true).unwrap();
            // The listener is closed: a second connection is refused.
            drop(listener);
            within("the script", LONG, script(Peer::new(stream))).await
        });
        Self { port, script }
    }

    /// Options for a client of this server that does not reconnect, so that the first error is the last.
    pub fn options(&self) -> Options {
        Options::new()
            .host("127.0.0.1", self.port)
            .connect_timeout(DEADLINE)
            .operation_timeout(DEADLINE)
            .recovery(Recovery { enabled: false, ..Recovery::default() })
    }

    /// A client of this server.
    pub async fn client(&self) -> Client {
        within("connecting", LONG, self.options().connect()).await.unwrap()
    }

    /// The error of a client that cannot connect to this server.
    pub async fn connect_error(&self) -> Error {
        within("connecting", DEADLINE * 2, self.options().connect()).await.unwrap_err()
    }

    /// The end of the script.
    pub async fn end(self) -> T {
        let result = within("the end of the script", LONG, self.script).await;
        assert_no_panic();
        result.unwrap()
    }
}

/// The error that a consumer ends with; what it gets before that is dropped.
pub async fn end_of(consumer: &Consumer) -> Error {
    within("the end of the consumer", LONG, async {
        loop {
            if let Err(error) = consumer.next().await.expect("an error before the end") {
                return error;
            }
        }
    })
    .await
}

/// A method of the client's.
#[derive(Debug)]
pub struct Heard {
    pub channel: u16,
    pub id: Id,
    pub fields: Vec<u8>,
}

/// The server's end of a connection.
pub struct Peer {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Peer {
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, heard: Vec::new() }
    }

    /// Sends bytes. A client that has closed the connection already is for what follows to notice.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Sends as much as the client takes, until it has taken nothing for half a second; the rest is returned.
    pub async fn stalled<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        while !bytes.is_empty() {
            let write = tokio::time::timeout(Duration::from_millis(500), self.stream.write(bytes));
            match write.await {
                Ok(count) => bytes = &bytes[count.expect("the client is there")..],
                Err(_) => return bytes,
            }
        }
        bytes
    }

    async fn read(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.heard).await, Ok(count) if count > 0)
    }

    /// The protocol header, which the client sends first.
    pub async fn protocol_header(&mut self) {
        while self.heard.len() < 8 {
            assert!(self.read().await, "the client is gone before its protocol header");
        }
        assert_eq!(self.heard.drain(..8).as_slice(), b"AMQP\0\0\x09\x01");
    }

    /// The next frame: type, channel, payload. `None` when the client has closed the connection.
    pub async fn frame(&mut self) -> Option<(u8, u16, Vec<u8>)> {
        loop {
            if let Some(head) = self.heard.first_chunk::<7>() {
                let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
                let (kind, channel) = (head[0], u16::from_be_bytes([head[1], head[2]]));
                if self.heard.len() >= size + 8 {
                    let frame: Vec<u8> = self.heard.drain(..size + 8).collect();
                    assert_eq!(frame[size + 7], 0xCE, "the client's frames end with the frame-end octet");
                    return Some((kind, channel, frame[7..size + 7].to_vec()));
                }
            }
            if !self.read().await {
                return None;
            }
        }
    }

    /// The next method; heartbeats and contents are passed over.
    pub async fn method(&mut self) -> Option<Heard> {
        loop {
            let (kind, channel, payload) = self.frame().await?;
            if kind == METHOD {
                let id = (
                    u16::from_be_bytes([payload[0], payload[1]]),
                    u16::from_be_bytes([payload[2], payload[3]]),
                );
                return Some(Heard { channel, id, fields: payload[4..].to_vec() });
            }
        }
    }

    /// Answers everything as a good broker would, up to a method of this kind, which is left to the script.
    pub async fn until(&mut self, id: Id) -> Heard {
        loop {
            let heard = self.method().await.unwrap_or_else(|| panic!("the client is gone before {id:?}"));
            if heard.id == id {
                return heard;
            }
            self.answer(&heard).await;
        }
    }

    /// The next method of this kind; of all others only those listed may come before it, and are answered.
    pub async fn method_but(&mut self, others: &[Id], id: Id) -> Heard {
        loop {
            let heard = self.method().await.unwrap_or_else(|| panic!("the client is gone before {id:?}"));
            if heard.id == id {
                return heard;
            }
            assert!(others.contains(&heard.id), "{heard:?} before {id:?}");
            self.answer(&heard).await;
        }
    }

    /// Answers a method as a good broker would.
    pub async fn answer(&mut self, heard: &Heard) {
        let (id, fields) = match heard.id {
            START_OK => {
                self.send(tune(2047, 131_072, 0)).await;
                return;
            }
            OPEN => (OPEN_OK, vec![0]),
            CLOSE => (CLOSE_OK, vec![]),
            CHANNEL_OPEN => (CHANNEL_OPEN_OK, vec![0, 0, 0, 0]),
            CHANNEL_CLOSE => (CHANNEL_CLOSE_OK, vec![]),
            DECLARE => (DECLARE_OK, [short("q"), vec![0; 8]].concat()),
            QOS => (QOS_OK, vec![]),
            CONSUME => (CONSUME_OK, short(consumer_tag(heard))),
            CANCEL => (CANCEL_OK, heard.fields[..heard.fields.len() - 1].to_vec()),
            SELECT => (SELECT_OK, vec![]),
            TUNE_OK | CLOSE_OK | CHANNEL_CLOSE_OK | PUBLISH | ACK | NACK => return,
            _ => panic!("no answer is known for {heard:?}"),
        };
        self.send(method(heard.channel, id, &fields)).await;
    }

    /// Lets the client connect.
    pub async fn open(&mut self) {
        self.protocol_header().await;
        self.send(start(&[0; 4], "PLAIN")).await;
        let open = self.until(OPEN).await;
        self.answer(&open).await;
    }

    /// Lets the client connect and consume; the channel and the tag of its consumer.
    pub async fn consumed(&mut self) -> (u16, String) {
        self.open().await;
        let consume = self.until(CONSUME).await;
        self.answer(&consume).await;
        (consume.channel, consumer_tag(&consume))
    }

    /// The `connection.close` of the client, which ends the connection after it without waiting: code and text.
    pub async fn closed(mut self) -> (u16, String) {
        let close = self.until(CLOSE).await;
        let code = u16::from_be_bytes([close.fields[0], close.fields[1]]);
        let text = String::from_utf8(close.fields[3..3 + usize::from(close.fields[2])].to_vec()).unwrap();
        self.gone().await;
        (code, text)
    }

    /// Takes what comes until the client closes the connection, and answers nothing.
    pub async fn stay(&mut self) {
        while self.frame().await.is_some() {}
    }

    /// The client closes the connection, with nothing more to say.
    pub async fn gone(mut self) {
        assert_eq!(self.frame().await, None);
        assert!(self.heard.is_empty(), "{:?}", self.heard);
    }
}

/// The tag in a `basic.consume`.
pub fn consumer_tag(consume: &Heard) -> String {
    let queue = 2;
    let tag = queue + 1 + usize::from(consume.fields[queue]);
    let length = usize::from(consume.fields[tag]);
    String::from_utf8(consume.fields[tag + 1..tag + 1 + length].to_vec()).unwrap()
}
