//! TLS after the handshake: resumption, new keys in mid-stream, and how it ends.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use murano_messaging::{Broker, Event, Message, Options, Queue, Recovery, TlsOptions};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        HandshakeKind,
        version::{TLS12, TLS13},
    },
    server::TlsStream,
};

use super::{ANY_VERSION, Authority, DEADLINE, for_names, server_config};

/// How a server's end of TLS behaves.
#[derive(Default)]
struct Behaviour {
    /// New keys before every write.
    refresh: bool,
    refreshed: AtomicUsize,
    /// The stream ends without `close_notify`, as if it had been cut.
    cut: AtomicBool,
}

/// The server's end, with its own behaviour.
struct Behaving {
    stream: TlsStream<TcpStream>,
    behaviour: Arc<Behaviour>,
}

impl AsyncRead for Behaving {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Behaving {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.behaviour.refresh {
            self.stream.get_mut().1.refresh_traffic_keys().map_err(io::Error::other)?;
            self.behaviour.refreshed.fetch_add(1, Ordering::Relaxed);
        }
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.behaviour.cut.load(Ordering::Relaxed) {
            return Pin::new(self.stream.get_mut().0).poll_shutdown(cx);
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The embedded broker behind TLS of that behaviour; reports each handshake.
async fn front(
    config: tokio_rustls::rustls::ServerConfig,
    behaviour: Arc<Behaviour>,
) -> (Broker, u16, mpsc::UnboundedReceiver<HandshakeKind>) {
    let broker = Broker::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (report, handshakes) = mpsc::unbounded_channel();
    let served = broker.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(tcp).await else { continue };
            let _ = report.send(stream.get_ref().1.handshake_kind().expect("it is done"));
            served.serve(Behaving { stream, behaviour: behaviour.clone() });
        }
    });
    (broker, port, handshakes)
}

fn options(port: u16, authority: &Authority) -> Options {
    Options::new()
        .host("127.0.0.1", port)
        .tls(TlsOptions::new().ca_pem(authority.pem()))
        .separate_publish_connection(false)
}

#[tokio::test]
async fn a_reconnect_resumes_the_session() {
    let authority = Authority::new("our CA");
    let identity = authority.issue(&for_names(&["127.0.0.1"]));
    for version in [&TLS12, &TLS13] {
        let config = server_config(&identity, None, &[version]);
        let (broker, port, mut handshakes) = front(config, Arc::default()).await;
        let client = options(port, &authority).connect().await.expect("the CA is trusted");
        let mut events = client.events();
        client.declare_queue(&Queue::new("q")).await.expect("a queue");
        assert_eq!(handshakes.recv().await, Some(HandshakeKind::Full));
        broker.close_connections(320, "CONNECTION_FORCED");
        while !matches!(events.next().await, Some(Event::Recovered { .. })) {}
        assert_eq!(handshakes.recv().await, Some(HandshakeKind::Resumed), "{version:?}");
        client.close().await.expect("an orderly end");
    }
}

#[tokio::test]
async fn new_keys_in_mid_stream_lose_nothing() {
    let authority = Authority::new("our CA");
    let identity = authority.issue(&for_names(&["127.0.0.1"]));
    let behaviour = Arc::new(Behaviour { refresh: true, ..Behaviour::default() });
    let (_broker, port, _) = front(server_config(&identity, None, &[&TLS13]), behaviour.clone()).await;
    let client = options(port, &authority).connect().await.expect("the CA is trusted");
    client.declare_queue(&Queue::new("q")).await.expect("a queue");
    let consumer = client.consume("q").start().await.expect("a consumer");
    for number in 0..50_u8 {
        // Below and above a record of TLS, a frame, and what a socket takes at once.
        let size = [1, 16_384, 131_072, 400_000][usize::from(number) % 4] + usize::from(number);
        client.publish("", "q", Message::new(vec![number; size])).await.expect("a confirm");
        let delivery = consumer.next().await.expect("a delivery").expect("a delivery");
        assert_eq!(delivery.body().as_ref(), vec![number; size]);
        delivery.ack().expect("the connection is there");
    }
    assert_eq!(client.stats().reconnects, 0);
    assert!(behaviour.refreshed.load(Ordering::Relaxed) > 50);
    client.close().await.expect("an orderly end");
}

#[tokio::test]
async fn a_stream_that_ends_without_close_notify_is_told_as_cut() {
    let authority = Authority::new("our CA");
    let identity = authority.issue(&for_names(&["127.0.0.1"]));
    let behaviour = Arc::new(Behaviour { cut: AtomicBool::new(true), ..Behaviour::default() });
    let (broker, port, _) = front(server_config(&identity, None, ANY_VERSION), behaviour).await;
    let recovery = Recovery { enabled: false, ..Recovery::default() };
    let client = options(port, &authority).recovery(recovery).connect().await.expect("the CA is trusted");
    let mut events = client.events();
    broker.drop_connections();
    let reason = loop {
        match tokio::time::timeout(DEADLINE, events.next()).await.expect("it is noticed") {
            Some(Event::Lost { reason, .. } | Event::Closed { reason: Some(reason), .. }) => break reason,
            Some(_) => {}
            None => panic!("no event said that the connection was lost"),
        }
    };
    let text = reason.to_string();
    assert!(text.contains("the stream was cut") && text.contains("close_notify"), "{text}");
    assert!(!text.contains("http"), "{text}");
}
