//! Servers that do not let the client connect: the error says what they did, before the connect deadline. Nothing is
//! sent to them after it: errors before `connection.open-ok` close the socket (AMQP 0-9-1 section 2.2.4).

use std::time::{Duration, Instant};

use murano_messaging::{ErrorKind, Recovery};
use murano_testkit::within;

use crate::{
    bytes::*,
    script::{DEADLINE, LONG, Peer, Server},
};

/// How far the handshake gets before the server misbehaves.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The client has sent its protocol header.
    Start,
    /// It has sent `connection.start-ok`.
    Login,
    /// It has sent `connection.open`.
    Open,
}

async fn reach(peer: &mut Peer, stage: Stage) {
    peer.protocol_header().await;
    if !matches!(stage, Stage::Start) {
        peer.send(start(&[0; 4], "PLAIN")).await;
        peer.until(if matches!(stage, Stage::Login) { START_OK } else { OPEN }).await;
    }
}

/// The server sends `evil` at `stage` and waits for the client to go: it must, at once, with an error of `kind` that
/// says `text`.
async fn refused(stage: Stage, evil: Vec<u8>, kind: ErrorKind, text: &str) {
    let server = Server::start(async move |mut peer| {
        reach(&mut peer, stage).await;
        peer.send(evil).await;
        peer.gone().await;
    })
    .await;
    let started = Instant::now();
    let error = server.connect_error().await;
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(text), "'{text}' is not in: {error}");
    assert!(started.elapsed() < DEADLINE, "the deadline was waited for: {error}");
    server.end().await;
}

macro_rules! refused {
    ($($name:ident: $stage:ident, $evil:expr => $kind:ident, $text:literal;)+) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                refused(Stage::$stage, $evil, ErrorKind::$kind, $text).await;
            }
        )+
    };
}

/// The fields of a `connection.start` whose server properties are `table`.
fn start_with(table: &[u8]) -> Vec<u8> {
    start(table, "PLAIN")
}

refused! {
    protocol_header_of_amqp_0_8:
        Start, b"AMQP\x01\x01\x08\x00".to_vec() => Protocol, "protocol header";
    protocol_header_of_amqp_1_0:
        Start, b"AMQP\x00\x01\x00\x00".to_vec() => Protocol, "AMQP [0, 1, 0]";
    protocol_header_of_amqp_1_0_with_sasl:
        Start, b"AMQP\x03\x01\x00\x00".to_vec() => Protocol, "protocol header";
    http_on_the_port:
        Start, b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec() => Protocol, "does not speak AMQP";
    tls_alert_on_the_port:
        Start, b"\x15\x03\x01\x00\x02\x02\x46".to_vec() => ConnectFailed, "amqps://";
    tls_alert_on_the_port_cut_short:
        Start, b"\x15".to_vec() => ConnectFailed, "amqps://";
    ssh_on_the_port:
        Start, b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec() => Protocol, "does not speak AMQP";
    one_byte_of_garbage:
        Start, vec![0xFF] => Protocol, "unknown frame type 255";
    garbage_that_begins_like_a_protocol_header:
        Start, b"AMQQ\x00\x00\x09\x01".to_vec() => Protocol, "unknown frame type 65";

    frame_over_128_kib_before_tune:
        Start, sized_frame(METHOD, 0, 128 * 1024 - 7, &[]) => Protocol, "frame_max (131072)";
    frame_of_four_gibibytes_before_tune:
        Login, sized_frame(METHOD, 0, u32::MAX, &[]) => Protocol, "frame_max (131072)";
    frame_without_its_end: Start, {
        let mut bytes = start_with(&[0; 4]);
        *bytes.last_mut().unwrap() = 0;
        bytes
    } => Protocol, "frame-end";
    server_properties_nested_5000_deep:
        Start, start_with(&nested_table(5000)) => Protocol, "deeper than 32";
    server_properties_nested_33_deep:
        Start, start_with(&nested_table(33)) => Protocol, "deeper than 32";
    server_properties_longer_than_their_frame:
        Start, start_with(&[0, 1, 0, 0]) => Protocol, "passes the end of its frame";
    server_properties_with_a_key_that_is_not_utf_8:
        Start, start_with(&[0, 0, 0, 4, 1, 0xFF, b't', 1]) => Protocol, "do not parse";
    server_properties_of_an_unknown_type:
        Start, start_with(&[0, 0, 0, 4, 1, b'k', b'?', 1]) => Protocol, "unknown type";
    start_cut_short:
        Start, method(0, START, &[0]) => Protocol, "ends inside its fields";
    start_without_its_mechanisms:
        Start, method(0, START, &[0, 9, 0, 0, 0, 0]) => Protocol, "[10, 10]";

    tune_before_start:
        Start, tune(0, 0, 0) => Protocol, "connection.start";
    open_ok_before_start:
        Start, method(0, OPEN_OK, &[0]) => Protocol, "connection.start";
    a_delivery_before_start:
        Start, deliver(1, "t", 1) => Protocol, "does not belong";
    a_body_before_start:
        Start, body(1, b"x") => Protocol, "does not belong";
    start_on_channel_1:
        Start, method(1, START, &[&[0, 9, 0, 0, 0, 0][..], &long("PLAIN"), &long("en_US")].concat())
        => Protocol, "does not belong";
    start_twice:
        Login, start_with(&[0; 4]) => Protocol, "connection.tune";
    open_ok_without_tune:
        Login, method(0, OPEN_OK, &[0]) => Protocol, "connection.tune";
    tune_cut_short:
        Login, method(0, TUNE, &[0, 0, 0]) => Protocol, "[10, 30]";
    tune_with_frame_max_1:
        Login, tune(2047, 1, 60) => Protocol, "frame_max 1;";
    tune_with_frame_max_4095:
        Login, tune(2047, 4095, 60) => Protocol, "at least 4096";
    tune_twice:
        Open, tune(2047, 131_072, 60) => Protocol, "connection.open-ok";
    close_ok_for_open:
        Open, method(0, CLOSE_OK, &[]) => Protocol, "connection.open-ok";
    channel_open_ok_before_open_ok:
        Open, method(1, CHANNEL_OPEN_OK, &[0; 4]) => Protocol, "does not belong";
    frame_over_the_negotiated_frame_max_before_open_ok:
        Open, sized_frame(METHOD, 0, 131_072, &[]) => Protocol, "frame_max (131072)";

    no_mechanism_in_common:
        Start, start(&[0; 4], "GSSAPI RABBIT-CR-DEMO") => Authentication, "GSSAPI";
    no_mechanism_at_all:
        Start, start(&[0; 4], "") => Authentication, "mechanisms";
    a_challenge_that_plain_does_not_have:
        Login, method(0, (10, 20), &long("who?")) => Authentication, "challenge";
}

/// The client answers the close and says nothing more.
async fn closed_by_server(stage: Stage, code: u16, text: &'static str) -> murano_messaging::Error {
    let server = Server::start(async move |mut peer| {
        reach(&mut peer, stage).await;
        peer.send(close(0, CLOSE, code, text)).await;
        peer.until(CLOSE_OK).await;
        peer.gone().await;
    })
    .await;
    let error = server.connect_error().await;
    server.end().await;
    assert_eq!(error.reply_code(), Some(code), "{error}");
    assert_eq!(error.reply_text(), Some(text));
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn closes_with_odd_codes_are_refusals() {
    for code in [0, 1, 200, 299, 541, 999, u16::MAX] {
        for stage in [Stage::Login, Stage::Open] {
            let error = closed_by_server(stage, code, "because").await;
            assert_eq!(error.kind(), ErrorKind::Refused, "{stage:?} {code}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_close_in_the_middle() {
    for (stage, kind) in [
        // No connection that was made is lost.
        (Stage::Start, ErrorKind::ConnectFailed),
        // What a broker does that refuses a login and whose client has not asked to be told.
        (Stage::Login, ErrorKind::Authentication),
        (Stage::Open, ErrorKind::ConnectionLost),
    ] {
        // Also in the middle of a frame, and of its head.
        for part in [0, 3, 9] {
            let server = Server::start(async move |mut peer| {
                reach(&mut peer, stage).await;
                peer.send(&start_with(&[0; 4])[..part]).await;
            })
            .await;
            let error = server.connect_error().await;
            assert_eq!(error.kind(), kind, "{stage:?} {part}: {error}");
            server.end().await;
        }
    }
}

/// `RabbitMQ` 4.1 and later answer a `frame_max` below 8192 with silence, and the end some seconds later.
#[tokio::test(flavor = "multi_thread")]
async fn a_frame_max_that_rabbitmq_4_1_does_not_take_is_named_as_the_cause() {
    for (silent, kind) in [(false, ErrorKind::ConnectionLost), (true, ErrorKind::ConnectFailed)] {
        let server = Server::start(async move |mut peer| {
            reach(&mut peer, Stage::Open).await;
            if silent {
                peer.gone().await;
            }
        })
        .await;
        let options = server.options().frame_max(4096);
        let error = within("the error", LONG, options.connect()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains("frame_max is 4096, and RabbitMQ 4.1"), "{error}");
        server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_closes_without_a_word_may_be_one_for_tls() {
    let server = Server::start(async move |mut peer| peer.protocol_header().await).await;
    let error = server.connect_error().await;
    assert_eq!(error.kind(), ErrorKind::ConnectFailed, "{error}");
    assert!(error.to_string().contains("amqps://"), "{error}");
    server.end().await;
}

/// A server that never ends its handshake is given up at the connect deadline.
async fn held_up(stage: Stage, rounds: &'static [u8], pause: Duration) {
    let server = Server::start(async move |mut peer| {
        reach(&mut peer, stage).await;
        while peer.send(rounds).await {
            tokio::time::sleep(pause).await;
        }
    })
    .await;
    let started = Instant::now();
    let error = server.connect_error().await;
    let took = started.elapsed();
    assert_eq!(error.kind(), ErrorKind::ConnectFailed, "{stage:?}: {error}");
    assert!(took >= DEADLINE && took < DEADLINE + Duration::from_secs(2), "{stage:?}: {took:?}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_heartbeats_instead_of_start() {
    held_up(Stage::Start, HEARTBEAT, Duration::from_millis(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_heartbeats_as_fast_as_they_go() {
    held_up(Stage::Login, HEARTBEAT, Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_heartbeats_instead_of_open_ok() {
    held_up(Stage::Open, HEARTBEAT, Duration::from_millis(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence() {
    for stage in [Stage::Start, Stage::Login, Stage::Open] {
        let server = Server::start(async move |mut peer| {
            reach(&mut peer, stage).await;
            peer.gone().await;
        })
        .await;
        let error = server.connect_error().await;
        assert_eq!(error.kind(), ErrorKind::ConnectFailed, "{stage:?}: {error}");
        server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_comes_a_byte_at_a_time_and_never_ends() {
    // A frame of 64 KiB, most of which does not arrive before the deadline.
    let server = Server::start(async move |mut peer| {
        peer.protocol_header().await;
        peer.send(&sized_frame(METHOD, 0, 65_536, &[0, 10, 0, 10])[..11]).await;
        while peer.send([0]).await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let error = server.connect_error().await;
    assert_eq!(error.kind(), ErrorKind::ConnectFailed, "{error}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_limits_in_tune_means_the_clients_own() {
    let server = Server::start(async move |mut peer| {
        peer.protocol_header().await;
        peer.send(start(&[0; 4], "AMQPLAIN PLAIN")).await;
        peer.until(START_OK).await;
        peer.send(tune(0, 0, 0)).await;
        let tune_ok = peer.until(TUNE_OK).await;
        assert_eq!(tune_ok.fields, [&[7, 255][..], &[0, 2, 0, 0], &[0, 20]].concat());
        let open = peer.until(OPEN).await;
        peer.answer(&open).await;
        // Without a limit of the server's, the client's own still holds.
        let consume = peer.until(CONSUME).await;
        peer.answer(&consume).await;
        peer.send(sized_frame(BODY, consume.channel, 131_073, &[])).await;
        peer.closed().await
    })
    .await;
    let client = server.client().await;
    let consumer = within("consuming", LONG, client.consume("q").start()).await.unwrap();
    assert_eq!(crate::script::end_of(&consumer).await.kind(), ErrorKind::Protocol);
    assert_eq!(server.end().await.0, 501);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_channel_is_all_there_is() {
    let server = Server::start(async move |mut peer| {
        peer.protocol_header().await;
        peer.send(start(&[0; 4], "PLAIN")).await;
        peer.until(START_OK).await;
        peer.send(tune(1, 4096, 1)).await;
        peer.until(CLOSE).await;
    })
    .await;
    let client = server.client().await;
    let consumer = within("consuming", LONG, client.consume("q").start()).await.unwrap();
    let error = within("the refusal", LONG, client.queue_info("q")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
    drop(consumer);
    drop(client);
    server.end().await;
}

/// With recovery the client continues to try, with growing delays, until the server behaves.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_behaves_again_is_connected_to() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        for _ in 0..4 {
            let (mut stream, _) = listener.accept().await.unwrap();
            // The client may be gone before it has read all of it.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 503 busy\r\n\r\n").await;
        }
        let (stream, _) = listener.accept().await.unwrap();
        let mut peer = Peer::new(stream);
        peer.open().await;
        peer.until(CLOSE).await;
    });
    let options = murano_messaging::Options::new()
        .host("127.0.0.1", port)
        .recovery(Recovery { retry_initial: true, ..Recovery::default() });
    let client = within("connecting", LONG, options.connect()).await.unwrap();
    drop(client);
    within("the end of the script", LONG, server).await.unwrap();
}
