//! How clients reach the broker: in this process, over TCP, over TLS.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, PoisonError},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    net::{TcpListener, ToSocketAddrs},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use super::{Broker, Shared, connection, io::Io};
use crate::{
    Error, ErrorKind,
    options::Host,
    tls::{ServerTls, TlsOptions},
    wire::stream::{Connecting, Connector, Stream},
};

/// The size in bytes of the buffer in each direction between client and broker in one process.
const PIPE: usize = 256 * 1024;

/// A port the broker is served on; dropping it closes the port, and leaves the connections made through it.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Listening {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Broker {
    /// Serves the broker over TCP, for other programs and other clients. Must be called within a tokio runtime, whose
    /// tasks then serve the connections.
    pub async fn listen(&self, address: impl ToSocketAddrs) -> io::Result<Listening> {
        self.listen_with(address, None).await
    }

    /// Serves the broker over TLS.
    ///
    /// Errors: the address cannot be bound, or the certificates are not usable ([`io::ErrorKind::InvalidInput`]).
    pub async fn listen_tls(&self, address: impl ToSocketAddrs, tls: &ServerTls) -> io::Result<Listening> {
        let config =
            tls.server_config().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.listen_with(address, Some(TlsAcceptor::from(config))).await
    }

    async fn listen_with(
        &self,
        address: impl ToSocketAddrs,
        tls: Option<TlsAcceptor>,
    ) -> io::Result<Listening> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = self.0.clone();
        let task = tokio::spawn(async move {
            loop {
                let Ok((tcp, _)) = listener.accept().await else {
                    // Out of descriptors, most likely: those that are open must get a chance to end.
                    tokio::task::yield_now().await;
                    continue;
                };
                if shared.lock().refuse_connections {
                    continue;
                }
                let (shared, tls) = (shared.clone(), tls.clone());
                tokio::spawn(async move {
                    // Small frames must not wait for an acknowledgement of earlier ones.
                    let _ = tcp.set_nodelay(true);
                    match tls {
                        None => {
                            let (read, write) = tcp.into_split();
                            let io = Io { read: Box::new(read), write: Box::new(write) };
                            connection::serve(shared, io, false).await;
                        }
                        Some(tls) => {
                            let Ok(stream) = tls.accept(tcp).await else { return };
                            let certificate = stream.get_ref().1.peer_certificates().is_some();
                            connection::serve(shared, Io::new(stream), certificate).await;
                        }
                    }
                });
            }
        });
        Ok(Listening { address, task })
    }

    /// A connection to the broker within this process. Must be called within a tokio runtime, whose tasks then serve it.
    ///
    /// Errors: [`io::ErrorKind::ConnectionRefused`] while [`Broker::refuse_connections`] says so.
    pub fn connect(&self) -> io::Result<DuplexStream> {
        if self.0.lock().refuse_connections {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = tokio::io::duplex(PIPE);
        self.serve(theirs);
        Ok(ours)
    }

    /// Serves one connection over any byte stream: the broker's end of a pipe that a test has its hands on.
    pub fn serve(&self, io: impl AsyncRead + AsyncWrite + Send + 'static) {
        // A stream within the process needs no client certificate: the peer is this program.
        tokio::spawn(connection::serve(self.0.clone(), Io::new(io), true));
    }
}

/// Reaches one embedded broker, whatever the host.
impl Connector for Broker {
    fn connect<'a>(&'a self, host: &'a Host, _: Option<&'a TlsOptions>) -> Connecting<'a> {
        Box::pin(async move {
            let stream = Broker::connect(self).map_err(|error| {
                Error::new(
                    ErrorKind::ConnectFailed,
                    format!("the embedded broker refuses connections: {error}"),
                )
                .with_source(error)
            })?;
            Ok(Stream::new(stream, host.to_string()))
        })
    }
}

/// The brokers that `memory://name` means, for as long as the process lives or until they are forgotten.
static NAMED: std::sync::Mutex<std::collections::BTreeMap<String, Arc<Shared>>> =
    std::sync::Mutex::new(std::collections::BTreeMap::new());

impl Broker {
    /// The broker that `memory://name` means in this process, made if there is none.
    pub fn named(name: &str) -> Self {
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        Self(named.entry(name.to_owned()).or_insert_with(|| Shared::new(None)).clone())
    }

    /// Forgets the broker of this name: `memory://name` is a new one from now on. Clients that are connected stay so.
    pub fn forget(name: &str) {
        NAMED.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}
