//! Byte streams that carry a connection: TCP, TLS over it, or whatever a [`Connector`] brings.

use std::{future::Future, io, net::SocketAddr, pin::Pin, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
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
    fn tcp(stream: TcpStream, peer: String) -> Self {
        let (read, write) = stream.into_split();
        Self { read: Box::new(read), write: Box::new(write), peer }
    }
}

/// The stream that [`Connector::connect`] is on its way to.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Stream>> + Send + 'a>>;

/// Makes the byte streams that connections run on. The engine sets the deadline.
pub trait Connector: Send + Sync {
    /// Connects to `host`, with TLS if `tls` is given.
    fn connect<'a>(&'a self, host: &'a Host, tls: Option<&'a TlsOptions>) -> Connecting<'a>;
}

/// TCP, and TLS over it.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConnector;

impl Connector for TcpConnector {
    fn connect<'a>(&'a self, host: &'a Host, tls: Option<&'a TlsOptions>) -> Connecting<'a> {
        Box::pin(async move {
            let tcp = connect_tcp(host).await?;
            let Some(tls) = tls else {
                return Ok(Stream::tcp(tcp, host.to_string()));
            };
            let name = tls.name_for(host)?;
            let config = tls.client_config()?;
            let stream = TlsConnector::from(config.rustls)
                .connect(name, tcp)
                .await
                .map_err(|error| tls::handshake_error(error, &host.to_string(), &config.identity))?;
            Ok(Stream::new(stream, host.to_string()))
        })
    }
}

/// The next address is tried when one has not answered after this time, or at once when it refuses (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);

async fn connect_tcp(host: &Host) -> Result<TcpStream> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host.host.as_str(), host.port))
        .await
        .map_err(|error| {
            Error::new(ErrorKind::ConnectFailed, format!("{host}: the name cannot be resolved: {error}"))
                .with_source(error)
        })?
        .collect();
    let mut attempts = tokio::task::JoinSet::new();
    let mut waiting = addresses.into_iter();
    let mut last: Option<io::Error> = None;
    loop {
        match waiting.next() {
            Some(address) => {
                attempts.spawn(TcpStream::connect(address));
            }
            None if attempts.is_empty() => break,
            None => {}
        }
        let more = waiting.len() > 0;
        let joined = tokio::select! {
            biased;
            joined = attempts.join_next() => joined,
            () = tokio::time::sleep(STAGGER), if more => continue,
        };
        match joined {
            Some(Ok(Ok(stream))) => {
                // Small frames must not wait for an acknowledgement of earlier ones.
                stream.set_nodelay(true).map_err(|error| failed(host, error))?;
                return Ok(stream);
            }
            Some(Ok(Err(error))) => last = Some(error),
            Some(Err(_)) | None => {}
        }
    }
    Err(failed(host, last.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into())))
}

fn failed(host: &Host, error: io::Error) -> Error {
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
        // `localhost` is often ::1 first, where nobody listens.
        let host = Host::new("localhost", listener.local_addr().expect("an address").port());
        let (stream, accepted) = tokio::join!(TcpConnector.connect(&host, None), listener.accept());
        let (peer, _) = accepted.expect("a connection");
        let mut stream = stream.expect("a connection");
        assert_eq!(stream.peer, host.to_string());
        drop(peer);
        assert_eq!(stream.read.read(&mut [0]).await.expect("an orderly end"), 0);
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
