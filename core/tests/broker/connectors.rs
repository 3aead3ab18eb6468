//! The connectors of `examples/connectors.rs`, each through a small proxy, in the clear and with TLS.

use std::sync::Arc;

use murano_messaging::{Broker, Connector, ErrorKind, Options, ServerTls, TlsOptions};
use murano_testkit::{Certs, within};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

#[allow(dead_code)]
#[path = "../../../examples/connectors.rs"]
mod example;

use crate::connecting::STEP;

/// A proxy that takes one connection, and what it was asked for.
struct Proxy {
    port: u16,
    asked: JoinHandle<String>,
}

/// Reads what comes before the connection proper, answers it, and passes the rest on to `broker`.
async fn proxy(socks: bool, broker: u16) -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = tokio::spawn(async move {
        let (io, _) = listener.accept().await.unwrap();
        let mut io = BufReader::new(io);
        let asked = if socks { socks5(&mut io).await } else { header(&mut io).await };
        let mut onward = TcpStream::connect(("127.0.0.1", broker)).await.unwrap();
        tokio::spawn(async move { copy_bidirectional(&mut io, &mut onward).await });
        asked
    });
    Proxy { port, asked }
}

async fn header(io: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    io.read_line(&mut line).await.unwrap();
    line
}

async fn socks5(io: &mut BufReader<TcpStream>) -> String {
    let mut greeting = [0; 3];
    io.read_exact(&mut greeting).await.unwrap();
    assert_eq!(greeting, [5, 1, 0]);
    io.write_all(&[5, 0]).await.unwrap();
    let mut head = [0; 5];
    io.read_exact(&mut head).await.unwrap();
    assert_eq!(head[..4], [5, 1, 0, 3]);
    let mut name = vec![0; head[4].into()];
    io.read_exact(&mut name).await.unwrap();
    let port = io.read_u16().await.unwrap();
    io.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 1]).await.unwrap();
    format!("{}:{port}", String::from_utf8(name).unwrap())
}

#[tokio::test]
async fn socks5_and_proxy_headers_work_with_tls_and_without() {
    let folder = std::env::temp_dir().join(murano_testkit::unique("connectors"));
    std::fs::create_dir_all(&folder).unwrap();
    let certs = Certs::generate(&folder).unwrap();
    let broker = Broker::new();
    let plain = broker.listen(("127.0.0.1", 0)).await.unwrap();
    let tls = ServerTls::files(&certs.server, &certs.server_key);
    let secure = broker.listen_tls(("127.0.0.1", 0), &tls).await.unwrap();
    for (port, tls) in [(plain.port(), None), (secure.port(), Some(TlsOptions::new().ca_file(&certs.ca)))] {
        let mut options = Options::new().separate_publish_connection(false);
        if let Some(tls) = tls {
            options = options.tls(tls);
        }
        // Nobody listens on that port: only the proxy knows the way, and the certificate is for the broker's name.
        let socks = proxy(true, port).await;
        let connector = example::Socks5 { proxy: ([127, 0, 0, 1], socks.port).into() };
        let options_socks = options.clone().host("localhost", 1).connector(Arc::new(connector));
        let client = within("connecting", STEP, options_socks.connect()).await.unwrap();
        client.declare_queue(&murano_messaging::Queue::new("q")).await.unwrap();
        client.close().await.unwrap();
        assert_eq!(socks.asked.await.unwrap(), "localhost:1");

        let balancer = proxy(false, port).await;
        let connector: Arc<dyn Connector> = Arc::new(example::ProxyHeader);
        let options = options.host("localhost", balancer.port).connector(connector);
        let client = within("connecting", STEP, options.connect()).await.unwrap();
        client.queue_info("q").await.unwrap();
        client.close().await.unwrap();
        let asked = balancer.asked.await.unwrap();
        assert!(asked.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "), "{asked}");
        assert!(asked.ends_with(&format!(" {}\r\n", balancer.port)), "{asked}");
    }
    // The name in the certificate is checked through a proxy too.
    let socks = proxy(true, secure.port()).await;
    let connector = example::Socks5 { proxy: ([127, 0, 0, 1], socks.port).into() };
    let options = Options::new()
        .host("elsewhere.test", 1)
        .tls(TlsOptions::new().ca_file(&certs.ca))
        .connector(Arc::new(connector));
    let error = within("the refusal", STEP, options.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    std::fs::remove_dir_all(folder).unwrap();
}
