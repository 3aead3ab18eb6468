//! Whatever a client sends, the embedded broker does not panic, does not hang, and serves the other clients.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use fastrand::Rng;
use murano_messaging::{
    Binding, Broker, Client, Connecting, Connector, Exchange, Host, Message, Options, Queue, Stream,
    TlsOptions,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

/// A stream that remembers what was written to it.
struct Recorded {
    inner: DuplexStream,
    written: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Recorded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = polled {
            self.written.lock().unwrap().extend_from_slice(&buf[..count]);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

struct Recorder {
    broker: Broker,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Connector for Recorder {
    fn connect<'a>(&'a self, _: &'a Host, _: Option<&'a TlsOptions>) -> Connecting<'a> {
        Box::pin(async move {
            let inner = self.broker.connect().unwrap();
            Ok(Stream::new(Recorded { inner, written: self.written.clone() }, "recorded"))
        })
    }
}

/// What a client that does a bit of everything writes.
async fn conversation() -> Vec<u8> {
    let written = Arc::new(Mutex::new(Vec::new()));
    let recorder = Recorder { broker: Broker::new(), written: written.clone() };
    let options = Options::new().connector(Arc::new(recorder)).separate_publish_connection(false);
    let client = options.connect().await.unwrap();
    let queue = Queue::new("q").max_length(5).dead_letter_exchange("x").message_ttl(Duration::from_secs(9));
    client.declare_exchange(&Exchange::topic("x")).await.unwrap();
    client.declare_queue(&queue).await.unwrap();
    client.declare_queue(&Queue::new("dead").expires(Duration::from_secs(60))).await.unwrap();
    client.bind(&Binding::queue("dead", "x").routing_key("#")).await.unwrap();
    for number in 0..10 {
        let message = Message::new(vec![b'x'; number * 50])
            .header("number", i32::try_from(number).unwrap())
            .priority(3);
        client.publish("", "q", message).await.unwrap();
    }
    let consumer = client.consume("q").prefetch(3).start().await.unwrap();
    consumer.next().await.unwrap().unwrap().ack().unwrap();
    consumer.next().await.unwrap().unwrap().requeue().unwrap();
    consumer.next().await.unwrap().unwrap().reject().unwrap();
    client.get_with_ack("dead").await.unwrap();
    consumer.cancel().await.unwrap();
    client.delete_queue("q").await.unwrap();
    client.close().await.unwrap();
    written.lock().unwrap().clone()
}

/// The conversation, spoilt here and there; sometimes nothing but noise behind the protocol header.
fn spoil(conversation: &[u8], rng: &mut Rng) -> Vec<u8> {
    if rng.u32(0..10) == 0 {
        let mut noise = conversation[..8].to_vec();
        noise.extend((0..rng.usize(0..500)).map(|_| rng.u8(..)));
        return noise;
    }
    let mut bytes = conversation.to_vec();
    // Behind the login, most of the time: otherwise little else would be reached.
    let from = if rng.u32(0..4) == 0 { 0 } else { (bytes.len() / 6).min(500) };
    for _ in 0..rng.usize(1..6) {
        let at = rng.usize(from..bytes.len());
        match rng.u32(0..6) {
            0 | 1 => bytes[at] = rng.u8(..),
            2 => bytes[at] ^= 1 << rng.u32(0..8),
            3 => bytes.truncate(at.max(from + 1)),
            4 => {
                let end = (at + rng.usize(0..80)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                let to = rng.usize(from..bytes.len());
                bytes.splice(to..to, part);
            }
            _ => {
                let end = (at + rng.usize(0..40)).min(bytes.len());
                bytes.drain(at..end);
                if bytes.len() <= from {
                    break;
                }
            }
        }
    }
    bytes
}

#[test]
fn no_bytes_of_a_client_harm_the_broker() {
    static PANICKED: AtomicBool = AtomicBool::new(false);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // Other tests of this program may fail in their own threads: only the broker's code counts here.
        if info.location().is_some_and(|location| location.file().contains("src/")) {
            PANICKED.store(true, Ordering::Relaxed);
        }
        usual(info);
    }));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let conversation = conversation().await;
        assert!(conversation.len() > 2000, "{} bytes say little", conversation.len());
        let broker = Broker::new();
        let control = Options::new().connector(Arc::new(broker.clone())).connect().await.unwrap();
        control.declare_queue(&Queue::new("mine")).await.unwrap();
        for seed in 0..3000 {
            let mut rng = Rng::with_seed(seed);
            let bytes = spoil(&conversation, &mut rng);
            let mut stream = broker.connect().unwrap();
            let mut answer = vec![0; 64 * 1024];
            for chunk in bytes.chunks(rng.usize(1..2000)) {
                // A client that does not read what it is told would be blocked by its own doing.
                while let Ok(Ok(count)) = tokio::time::timeout(Duration::ZERO, stream.read(&mut answer)).await
                    && count > 0
                {}
                let written = tokio::time::timeout(Duration::from_secs(60), stream.write_all(chunk)).await;
                // The broker may have had enough of it.
                if written.unwrap_or_else(|_| panic!("seed {seed}: the broker reads no more")).is_err() {
                    break;
                }
            }
            drop(stream);
            if seed % 50 == 0 {
                check(&broker, &control, seed).await;
            }
            assert!(!PANICKED.load(Ordering::Relaxed), "seed {seed} made something panic");
        }
        check(&broker, &control, 3000).await;
    });
}

/// The other clients are served, and closed connections leave nothing behind.
async fn check(broker: &Broker, control: &Client, seed: u64) {
    control.publish("", "mine", Message::text("still there")).await.unwrap();
    control.get_no_ack("mine").await.unwrap().unwrap();
    // The control has two connections of its own.
    let until = tokio::time::Instant::now() + Duration::from_secs(120);
    while broker.connections() > 2 {
        assert!(tokio::time::Instant::now() < until, "seed {seed}: {} connections", broker.connections());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
