//! What a hostile peer can make this process keep: nothing for each connection it made, and a bounded amount while it is
//! there. `MURANO_TEST_HOSTILE` is how many connections the loops make (`make hostile`: 10,000).
//!
//! A file of its own, one test at a time: memory is that of the process.

#[path = "hostile_server/bytes.rs"]
#[allow(dead_code, reason = "shared with the hostile server")]
mod bytes;
#[path = "arbitrary_bytes/mutate.rs"]
#[allow(dead_code, reason = "shared with the arbitrary servers")]
mod mutate;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fastrand::Rng;
use murano_messaging::{
    Broker, Client, Connecting, Connector, Consumer, ErrorKind, Host, Message, Options, Queue, Recovery,
    Stream, TlsOptions,
};
use murano_testkit::within;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::{TcpListener, TcpStream},
    sync::{Mutex, mpsc},
};

use bytes::*;

/// Far longer than anything takes here.
const LONG: Duration = Duration::from_secs(120);

/// For what the allocator keeps.
const SLACK: u64 = 16 << 20;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Memory of this process in bytes, without the files it has mapped.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn connections() -> usize {
    std::env::var("MURANO_TEST_HOSTILE").map_or(320, |text| text.parse().expect("a number of connections"))
}

/// Calls `attack` with each number, some at a time, and compares the memory after the first quarter with that at the end.
async fn leaves_nothing_behind<F: Future<Output = ()>>(what: &str, attack: impl Fn(u64) -> F) {
    const AT_ONCE: usize = 16;
    let count = connections() / AT_ONCE * AT_ONCE;
    let mut before = 0;
    for first in (0..count).step_by(AT_ONCE) {
        if before == 0 && first >= count / 4 {
            before = resident();
        }
        let batch = (first..first + AT_ONCE).map(|number| attack(number as u64));
        within(what, LONG, futures::future::join_all(batch)).await;
    }
    let after = resident();
    println!("{what}: {count} connections, {} KiB before, {} KiB after", before / 1024, after / 1024);
    assert!(after < before + SLACK, "{what}: {} KiB more", (after - before) / 1024);
}

/// What a hostile server says once it has a connection, by number.
fn hostile_bytes(number: u64) -> Vec<u8> {
    let mut rng = Rng::with_seed(number);
    let opened = [start(&[0; 4], "PLAIN"), tune(0, 0, 0), method(0, OPEN_OK, &[0])].concat();
    let consumed = [
        opened.clone(),
        method(1, CHANNEL_OPEN_OK, &[0; 4]),
        method(2, CHANNEL_OPEN_OK, &[0; 4]),
        method(1, CONSUME_OK, &short("c")),
    ]
    .concat();
    match number % 10 {
        0 => mutate::random_bytes(&mut rng, 100_000),
        1 => [opened, sized_frame(BODY, 1, u32::MAX, &[])].concat(),
        // A frame that never ends, as large as may be.
        2 => [opened, sized_frame(METHOD, 1, 130_000, &vec![0; 100_000])].concat(),
        3 => start(&nested_table(20_000), "PLAIN"),
        4 => [consumed, deliver(1, "c", 1), header(1, u64::MAX, BARE), body(1, &vec![7; 100_000])].concat(),
        5 => [consumed, deliver(1, "c", 1), header(1, 1, &[&[0x20, 0][..], &nested_table(100_000)].concat())]
            .concat(),
        6 => [consumed, vec![[8, 0, 0, 0, 0, 0, 0, 0xCE]; 10_000].concat()].concat(),
        7 => [opened, vec![method(1, FLOW, &[0]); 2_000].concat()].concat(),
        8 => [opened, vec![method(0, BLOCKED, &short("low on everything")); 2_000].concat()].concat(),
        _ => [consumed, (0..200).flat_map(|_| mutate::random_frame(&mut rng)).collect()].concat(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_servers_in_a_row_leave_no_memory_behind() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.into_split();
                // The client may be gone, and is not listened to.
                let _ = write.write_all(&hostile_bytes(number)).await;
                let mut heard = [0; 4096];
                while matches!(read.read(&mut heard).await, Ok(1..)) {}
            });
        }
    });
    leaves_nothing_behind("a client of a hostile server", |_| async move {
        let options = Options::new()
            .host("127.0.0.1", port)
            .connect_timeout(Duration::from_millis(500))
            .operation_timeout(Duration::from_millis(50))
            .delivery_buffer(1 << 20)
            .separate_publish_connection(false)
            .recovery(Recovery { enabled: false, ..Recovery::default() });
        let Ok(client) = options.connect().await else { return };
        let _ = client.consume("q").start().await;
        let _ = client.publish("", "q", Message::text("x")).await;
        let _ = client.close().await;
    })
    .await;
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_clients_in_a_row_leave_nothing_in_the_embedded_broker() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let broker = Broker::new();
    let listening = broker.listen("127.0.0.1:0").await.unwrap();
    let login = [&[0; 4][..], &short("PLAIN"), &long("\0guest\0guest"), &short("en_US")].concat();
    let address = listening.address();
    let opening: &'static [u8] = [
        b"AMQP\0\0\x09\x01".to_vec(),
        method(0, START_OK, &login),
        method(0, TUNE_OK, &[0, 0, 0, 2, 0, 0, 0, 0]),
        method(0, OPEN, &[&short("/")[..], &[0, 0]].concat()),
        method(1, CHANNEL_OPEN, &[0]),
    ]
    .concat()
    .leak();
    leaves_nothing_behind("a hostile client of the broker", |number| async move {
        let mut rng = Rng::with_seed(number);
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        let publish = method(1, PUBLISH, &[&[0, 0][..], &short(""), &short("nowhere"), &[1]].concat());
        let bytes = match number % 7 {
            0 => mutate::random_bytes(&mut rng, 100_000),
            1 => [opening, &publish, &header(1, u64::MAX, BARE)].concat(),
            2 => [opening, &publish, &header(1, 100_000_000, BARE), &body(1, &vec![7; 100_000])].concat(),
            // Returned messages that nobody reads.
            3 => [
                opening.to_vec(),
                vec![[&publish[..], &header(1, 1000, BARE), &body(1, &[7; 1000])].concat(); 500].concat(),
            ]
            .concat(),
            4 => [
                opening.to_vec(),
                method(1, DECLARE, &[&[0, 0][..], &short(""), &[4], &nested_table(20_000)].concat()),
            ]
            .concat(),
            5 => (1..2000).fold(opening.to_vec(), |mut bytes, channel| {
                bytes.extend(method(channel, CHANNEL_OPEN, &[0]));
                bytes
            }),
            _ => [opening.to_vec(), (0..300).flat_map(|_| mutate::random_frame(&mut rng)).collect()].concat(),
        };
        let _ = tokio::time::timeout(Duration::from_millis(200), write.write_all(&bytes)).await;
        let mut heard = [0; 4096];
        let _ = tokio::time::timeout(Duration::from_millis(20), read.read(&mut heard)).await;
    })
    .await;
    murano_testkit::eventually("the broker has forgotten them", LONG, || async { broker.connections() == 0 })
        .await;
    let client = Options::new().connector(Arc::new(broker)).connect().await.unwrap();
    client.declare_queue(&Queue::new("still here")).await.unwrap();
    client.close().await.unwrap();
}

/// Hands out one connection to a server that the test is.
struct Once(std::sync::Mutex<Option<DuplexStream>>);

impl Connector for Once {
    fn connect<'a>(&'a self, _: &'a Host, _: Option<&'a TlsOptions>) -> Connecting<'a> {
        Box::pin(async move {
            let stream = self.0.lock().unwrap().take();
            let refused = || murano_messaging::Error::new(ErrorKind::ConnectFailed, "once is enough");
            Ok(Stream::new(stream.ok_or_else(refused)?, "once"))
        })
    }
}

/// A client, and the end of its one connection that the test serves.
fn served(options: impl FnOnce(Options) -> Options) -> (tokio::task::JoinHandle<Client>, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let options = options(
        Options::new()
            .connector(Arc::new(Once(std::sync::Mutex::new(Some(ours)))))
            .heartbeat(Duration::ZERO)
            .separate_publish_connection(false)
            .recovery(Recovery { enabled: false, ..Recovery::default() }),
    );
    (tokio::spawn(async move { options.connect().await.unwrap() }), theirs)
}

/// Reads the client's methods up to this one, answering the others as a broker would.
async fn until(server: &mut DuplexStream, wanted: Id) -> (u16, Vec<u8>) {
    loop {
        let mut head = [0; 7];
        server.read_exact(&mut head).await.unwrap();
        if head.starts_with(b"AMQP") {
            let mut rest = [0; 1];
            server.read_exact(&mut rest).await.unwrap();
            server.write_all(&start(&[0; 4], "PLAIN")).await.unwrap();
            continue;
        }
        let mut payload = vec![0; u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize + 1];
        server.read_exact(&mut payload).await.unwrap();
        let channel = u16::from_be_bytes([head[1], head[2]]);
        let id = (u16::from_be_bytes([payload[0], payload[1]]), u16::from_be_bytes([payload[2], payload[3]]));
        if head[0] != METHOD {
            continue;
        }
        if id == wanted {
            return (channel, payload[4..].to_vec());
        }
        let answer = match id {
            START_OK => tune(0, 131_072, 0),
            OPEN => method(0, OPEN_OK, &[0]),
            CHANNEL_OPEN => method(channel, CHANNEL_OPEN_OK, &[0; 4]),
            QOS => method(channel, QOS_OK, &[]),
            SELECT => method(channel, SELECT_OK, &[]),
            TUNE_OK => continue,
            other => panic!("no answer is known for {other:?}"),
        };
        server.write_all(&answer).await.unwrap();
    }
}

/// A client that consumes from the test.
async fn consuming(
    options: impl FnOnce(Options) -> Options,
) -> (Client, Consumer, DuplexStream, u16, String) {
    let (connecting, mut server) = served(options);
    let (open, _) = until(&mut server, OPEN).await;
    server.write_all(&method(open, OPEN_OK, &[0])).await.unwrap();
    let client = connecting.await.unwrap();
    let start = tokio::spawn({
        let client = client.clone();
        async move { client.consume("q").prefetch(0).start().await.unwrap() }
    });
    let (channel, consume) = until(&mut server, CONSUME).await;
    let tag = 3 + usize::from(consume[2]);
    let tag = String::from_utf8(consume[tag + 1..=tag + usize::from(consume[tag])].to_vec()).unwrap();
    server.write_all(&method(channel, CONSUME_OK, &short(&tag))).await.unwrap();
    (client, start.await.unwrap(), server, channel, tag)
}

/// Publishes wait in the window, which is bounded; what is behind it is not admitted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_to_a_server_that_never_reads_take_no_more_than_the_window() {
    const WINDOW: usize = 4 << 20;
    const SIZE: usize = 16 * 1024;
    let _alone = ONE_AT_A_TIME.lock().await;
    let (connecting, mut server) =
        served(|options| options.window(1_000_000, WINDOW).operation_timeout(2 * LONG));
    let (open, _) = until(&mut server, OPEN).await;
    server.write_all(&method(open, OPEN_OK, &[0])).await.unwrap();
    let client = connecting.await.unwrap();
    let before = resident();
    let mut refused = 0;
    let mut kept = Vec::new();
    let text = Message::new(vec![7; SIZE]);
    while refused < 20 {
        // A place in the window is there at once, or never.
        match tokio::time::timeout(Duration::from_millis(20), client.publish_deferred("", "q", text.clone()))
            .await
        {
            Ok(confirmation) => kept.push(confirmation.unwrap()),
            Err(_) => refused += 1,
        }
        assert!(kept.len() * SIZE <= WINDOW, "more than the window");
    }
    assert!(kept.len() * SIZE > WINDOW / 2, "{} were admitted", kept.len());
    let grown = resident().saturating_sub(before);
    assert!(grown < 2 * WINDOW as u64 + SLACK, "{} KiB more", grown / 1024);
    drop((server, kept));
}

/// A server delivers without end, whatever is acked, and reads none of the acks. The application keeps the first delivery, so
/// that each ack is a frame of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_for_a_server_that_never_reads_are_bounded() {
    /// Acks of more than the bound, at 21 bytes.
    const ENOUGH: u64 = 450_000;
    let _alone = ONE_AT_A_TIME.lock().await;
    let (client, consumer, mut server, channel, tag) = consuming(|options| options).await;
    let serving = tokio::spawn(async move {
        for first in (1..ENOUGH).step_by(500) {
            let bytes: Vec<u8> =
                (first..first + 500).flat_map(|number| message(channel, &tag, number, b"")).collect();
            if server.write_all(&bytes).await.is_err() {
                return false;
            }
        }
        true
    });
    let first = within("a delivery", LONG, consumer.next()).await.unwrap().unwrap();
    let before = resident();
    let mut acked = 0_u64;
    let error = within("the end of the connection", LONG, async {
        loop {
            match consumer.next().await {
                Some(Ok(delivery)) => {
                    // An error once the connection is gone.
                    let _ = delivery.ack();
                    acked += 1;
                }
                Some(Err(error)) => return error,
                None => panic!("nobody cancelled the consumer"),
            }
        }
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
    assert!(error.to_string().contains("acks"), "{error}");
    assert!(!serving.await.unwrap(), "the client took everything");
    let grown = resident().saturating_sub(before);
    println!("{acked} acked, {} KiB more", grown / 1024);
    assert!(grown < 3 * (8 << 20) + SLACK, "{} KiB more", grown / 1024);
    drop((first, client));
}

/// An entry of seven bytes becomes a map of some 600: what a publisher may send in one header is bounded by its size, and
/// what waits to be handed out by the delivery buffer, which counts memory and not bytes on the wire.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_tiny_header_tables_stay_within_the_delivery_buffer() {
    const BUFFER: u64 = 32 << 20;
    const TABLES: usize = 100_000;
    let _alone = ONE_AT_A_TIME.lock().await;
    let (client, consumer, mut server, channel, tag) =
        consuming(|options| options.delivery_buffer(BUFFER as usize)).await;
    // An array of tables with one entry each.
    let tiny = [&b"F"[..], &long(b"\x01kV")].concat();
    let array = [&b"\x01aA"[..], &long(tiny.repeat(TABLES))].concat();
    let properties = [&[0x20, 0][..], &long(array)].concat();
    let before = resident();
    let (sent, mut progress) = mpsc::unbounded_channel();
    let serving = tokio::spawn(async move {
        for number in 1..=10 {
            let bytes = [deliver(channel, &tag, number), header(channel, 0, &properties)].concat();
            if server.write_all(&bytes).await.is_err() {
                return server;
            }
            sent.send(number).unwrap();
        }
        server
    });
    // Nobody takes them: the client reads one, which is more than the buffer, and no further.
    let one = TABLES as u64 * 800;
    murano_testkit::eventually("the client has stopped reading", LONG, || async {
        client.stats().undelivered_bytes > BUFFER
    })
    .await;
    let peak = resident().saturating_sub(before);
    println!("{} KiB for what waits", peak / 1024);
    assert!(peak < BUFFER + 2 * one + SLACK, "{} KiB more", peak / 1024);
    // Taken one by one, they all arrive, and nothing stays.
    let began = Instant::now();
    for _ in 0..10 {
        let delivery = within("a delivery", LONG, consumer.next()).await.unwrap().unwrap();
        assert!(delivery.headers_error().is_none());
        assert!(resident().saturating_sub(before) < BUFFER + 3 * one + SLACK);
    }
    println!("a million tables in {:?}", began.elapsed());
    while progress.recv().await.is_some_and(|number| number < 10) {}
    drop((serving.await.unwrap(), client));
}
