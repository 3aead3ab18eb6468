//! Byte streams that carry a connection: TCP, TLS over it, or whatever a [`Connector`] brings.

use std::{future::Future, io, net::SocketAddr, pin::Pin, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

use crate::{
    Error, ErrorKind, Result,
    options::Host,
    tls::{self, TlsOptions},
};

/// Both halves of a byte stream, and what to call its other end in errors.
pub struct Stream {
    pub(crate) read: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) write: Box<dyn AsyncWrite + Send + Unpin>,
    pub(crate) peer: String,
}

impl Stream {
    /// A stream over anything that reads and writes. `peer` names its other end.
    pub fn new<T>(io: T, peer: impl Into<String>) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, write) = tokio::io::split(io);
        Self { read: Box::new(read), write: Box::new(write), peer: peer.into() }
    }

    /// Over TCP the halves need no lock between them.
    pub(crate) fn tcp(stream: TcpStream, peer: String) -> Self {
        let (read, write) = stream.into_split();
        Self { read: Box::new(read), write: Box::new(write), peer }
    }
}

impl TlsOptions {
    /// Speaks TLS over `io`, a byte stream to `host` that the caller has made, and verifies the broker's certificate for
    /// that host: what a [`Connector`] needs that reaches the broker through a proxy. Errors: [`ErrorKind::Tls`];
    /// [`ErrorKind::InvalidArgument`] for options that cannot be used.
    pub async fn connect<T>(&self, host: &Host, io: T) -> Result<Stream>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let name = self.name_for(host)?;
        let config = self.client_config()?;
        let stream = TlsConnector::from(config.rustls)
            .connect(name, io)
            .await
            .map_err(|error| tls::handshake_error(error, &host.to_string(), &config.identity))?;
        Ok(Stream::new(stream, host.to_string()))
    }
}

/// The stream that [`Connector::connect`] is on its way to.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Stream>> + Send + 'a>>;

/// The routes that [`Connector::routes`] looks up.
pub type Routing<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn Routes + 'a>>> + Send + 'a>>;

/// Makes the byte streams that connections run on. The engine sets the deadline.
///
/// With one, connections can go through a proxy, with TLS or without. `examples/connectors.rs` has a connector for a SOCKS5
/// proxy and one that sends the header of the PROXY protocol; the gist of both:
///
/// ```
/// use murano_messaging::{Connecting, Connector, Error, ErrorKind, Host, Stream, TlsOptions};
/// use tokio::{io::AsyncWriteExt, net::TcpStream};
///
/// /// Tells the broker (`proxy_protocol = true` in rabbitmq.conf) or a load balancer whose connection it is.
/// struct ProxyHeader;
///
/// impl Connector for ProxyHeader {
///     fn connect<'a>(&'a self, host: &'a Host, tls: Option<&'a TlsOptions>) -> Connecting<'a> {
///         Box::pin(async move {
///             let failed = |error: std::io::Error| Error::new(ErrorKind::ConnectFailed, format!("{host}: {error}"));
///             let mut io = TcpStream::connect((host.host.as_str(), host.port)).await.map_err(failed)?;
///             // Before TLS: the proxy is not a party to it.
///             io.write_all(b"PROXY UNKNOWN\r\n").await.map_err(failed)?;
///             match tls {
///                 Some(tls) => tls.connect(host, io).await,
///                 None => Ok(Stream::new(io, host.to_string())),
///             }
///         })
///     }
/// }
/// ```
///
/// A panic in a connector fails that attempt to connect, and nothing else.
pub trait Connector: Send + Sync {
    /// Connects to `host`, with TLS if `tls` is given ([`TlsOptions::connect`] speaks it).
    fn connect<'a>(&'a self, host: &'a Host, tls: Option<&'a TlsOptions>) -> Connecting<'a>;

    /// The routes to `host`, where there may be several: the engine treats each like a host of its own, so that one which
    /// accepts connections and then is silent or resets them is passed over. Default: one, which is
    /// [`connect`](Self::connect).
    fn routes<'a>(&'a self, host: &'a Host, tls: Option<&'a TlsOptions>) -> Routing<'a> {
        let only: Box<dyn Routes + 'a> = Box::new(OnlyRoute(Some(self.connect(host, tls))));
        Box::pin(std::future::ready(Ok(only)))
    }
}

/// The routes to one host, the best first.
pub trait Routes: Send {
    /// Connects by the next route; `None` when none is left. A route whose future was dropped may be given again.
    fn next(&mut self) -> Option<Connecting<'_>>;

    /// The number of routes that are left, the next one included: the connect deadline is shared out among them.
    fn left(&self) -> usize;
}

struct OnlyRoute<'a>(Option<Connecting<'a>>);

impl Routes for OnlyRoute<'_> {
    fn next(&mut self) -> Option<Connecting<'_>> {
        self.0.take()
    }

    fn left(&self) -> usize {
        usize::from(self.0.is_some())
    }
}

/// TCP, and TLS over it. Each address of a host name is a route.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConnector;

impl Connector for TcpConnector {
    fn connect<'a>(&'a self, host: &'a Host, tls: Option<&'a TlsOptions>) -> Connecting<'a> {
        Box::pin(async move {
            let mut routes = self.routes(host, tls).await?;
            let mut failed = None;
            while let Some(connecting) = routes.next() {
                match connecting.await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => failed = Some(more_telling(failed, error)),
                }
            }
            Err(failed.unwrap_or_else(|| no_address(host)))
        })
    }

    fn routes<'a>(&'a self, host: &'a Host, tls: Option<&'a TlsOptions>) -> Routing<'a> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.host.as_str(), host.port)).await.map_err(|error| {
                let text = format!("{host}: the name cannot be resolved: {error}");
                Error::new(ErrorKind::ConnectFailed, text).with_source(error)
            })?;
            let routes: Box<dyn Routes + 'a> = Box::new(Addresses::new(host, tls, found.collect()));
            Ok(routes)
        })
    }
}

/// Of two errors the one that says more: what the first peer to be reached said, rather than that another was not.
pub(crate) fn more_telling(before: Option<Error>, error: Error) -> Error {
    before.filter(|before| before.kind() != ErrorKind::ConnectFailed).unwrap_or(error)
}

pub(crate) fn no_address(host: &Host) -> Error {
    Error::new(ErrorKind::ConnectFailed, format!("{host}: the name has no address"))
}

/// The next address is tried when one has not answered after this time, or at once when it refuses (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);

/// The addresses of a host that have not been connected to.
struct Addresses<'a> {
    host: &'a Host,
    tls: Option<&'a TlsOptions>,
    waiting: std::vec::IntoIter<SocketAddr>,
    /// Connections that are being made. They outlive a call that is given up.
    attempts: JoinSet<io::Result<TcpStream>>,
}

impl<'a> Addresses<'a> {
    fn new(host: &'a Host, tls: Option<&'a TlsOptions>, addresses: Vec<SocketAddr>) -> Self {
        Self { host, tls, waiting: addresses.into_iter(), attempts: JoinSet::new() }
    }

    /// A connection to the first address that answers.
    async fn dial(&mut self) -> Result<TcpStream> {
        let mut last: Option<io::Error> = None;
        loop {
            match self.waiting.next() {
                Some(address) => {
                    self.attempts.spawn(TcpStream::connect(address));
                }
                None if self.attempts.is_empty() => break,
                None => {}
            }
            let more = self.waiting.len() > 0;
            let joined = tokio::select! {
                biased;
                joined = self.attempts.join_next() => joined,
                () = tokio::time::sleep(STAGGER), if more => continue,
            };
            match joined {
                Some(Ok(Ok(stream))) => {
                    // Small frames must not wait for an acknowledgement of earlier ones.
                    stream.set_nodelay(true).map_err(|error| failed(self.host, error))?;
                    return Ok(stream);
                }
                Some(Ok(Err(error))) => last = Some(error),
                Some(Err(_)) | None => {}
            }
        }
        Err(failed(self.host, last.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into())))
    }
}

impl Routes for Addresses<'_> {
    fn next(&mut self) -> Option<Connecting<'_>> {
        if self.left() == 0 {
            return None;
        }
        Some(Box::pin(async move {
            let tcp = self.dial().await?;
            match self.tls {
                Some(tls) => tls.connect(self.host, tcp).await,
                None => Ok(Stream::tcp(tcp, self.host.to_string())),
            }
        }))
    }

    fn left(&self) -> usize {
        self.waiting.len() + self.attempts.len()
    }
}

/// The error for a host that TCP does not reach.
pub(crate) fn failed(host: &Host, error: io::Error) -> Error {
    let advice = if error.kind() == io::ErrorKind::ConnectionRefused {
        "; is RabbitMQ running, and listening on that port?"
    } else {
        ""
    };
    Error::new(ErrorKind::ConnectFailed, format!("{host}: {error}{advice}")).with_source(error)
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;

    #[tokio::test]
    async fn the_address_that_answers_is_used() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        // `localhost` is often ::1 first, on which the broker may not listen.
        let host = Host::new("localhost", listener.local_addr().expect("an address").port());
        let (stream, accepted) = tokio::join!(TcpConnector.connect(&host, None), listener.accept());
        let (peer, _) = accepted.expect("a connection");
        let mut stream = stream.expect("a connection");
        assert_eq!(stream.peer, host.to_string());
        drop(peer);
        assert_eq!(stream.read.read(&mut [0]).await.expect("an orderly end"), 0);
    }

    #[tokio::test]
    async fn each_address_of_a_name_is_a_route() {
        let mut listeners = Vec::new();
        for _ in 0..2 {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("a free port"));
        }
        let mut addresses: Vec<_> =
            listeners.iter().map(|one| one.local_addr().expect("an address")).collect();
        let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        addresses.insert(1, closed.local_addr().expect("an address"));
        drop(closed);
        let host = Host::new("rabbit", 5672);
        let mut routes = Addresses::new(&host, None, addresses);
        for (left, listener) in [3, 2].into_iter().zip(&listeners) {
            assert_eq!(routes.left(), left);
            let stream = routes.next().expect("a route").await.expect("a connection");
            assert_eq!(stream.peer, host.to_string());
            listener.accept().await.expect("the connection is to the next address that answers");
        }
        assert!(routes.next().is_none());
    }

    #[tokio::test]
    async fn a_host_that_cannot_be_reached_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        for host in [Host::new("127.0.0.1", port), Host::new("broker.invalid", 5672)] {
            let error = TcpConnector.connect(&host, None).await.err().expect("nobody is there");
            assert_eq!(error.kind(), ErrorKind::ConnectFailed, "{error}");
            assert!(error.to_string().contains(&host.to_string()), "{error}");
        }
    }
}
