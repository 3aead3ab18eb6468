//! Connectors: through a SOCKS5 proxy, or with the header of the PROXY protocol, with TLS or without.
//!
//! `cargo run --example connectors -- socks5 127.0.0.1:1080 amqps://guest:guest@rabbit.internal`
//! `cargo run --example connectors -- proxy-header amqps://guest:guest@load-balancer`

use std::{io, net::SocketAddr, sync::Arc};

use murano_messaging::{Connecting, Connector, Error, ErrorKind, Host, Options, Result, Stream, TlsOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Reaches brokers through a SOCKS5 proxy without a login (RFC 1928), which resolves their names.
pub struct Socks5 {
    /// The proxy's address.
    pub proxy: SocketAddr,
}

impl Connector for Socks5 {
    fn connect<'a>(&'a self, host: &'a Host, tls: Option<&'a TlsOptions>) -> Connecting<'a> {
        Box::pin(async move {
            let io = self.reach(host).await.map_err(|error| failed(host, "the proxy", &error))?;
            finish(host, tls, io).await
        })
    }
}

impl Socks5 {
    async fn reach(&self, host: &Host) -> io::Result<TcpStream> {
        let mut io = TcpStream::connect(self.proxy).await?;
        // Version 5; one method is offered: no login.
        io.write_all(&[5, 1, 0]).await?;
        let mut chosen = [0; 2];
        io.read_exact(&mut chosen).await?;
        if chosen != [5, 0] {
            return Err(io::Error::other("it wants a login, or speaks no SOCKS5"));
        }
        let name = host.host.as_bytes();
        let length = u8::try_from(name.len()).map_err(|_| io::Error::other("the host's name is too long"))?;
        // CONNECT to a domain name.
        let mut request = vec![5, 1, 0, 3, length];
        request.extend_from_slice(name);
        request.extend_from_slice(&host.port.to_be_bytes());
        io.write_all(&request).await?;
        let mut head = [0; 4];
        io.read_exact(&mut head).await?;
        if head[1] != 0 {
            return Err(io::Error::other(format!("it refuses the connection (SOCKS5 reply {})", head[1])));
        }
        // The address that it connected from, which ends with a port.
        let rest = match head[3] {
            1 => 4 + 2,
            4 => 16 + 2,
            _ => usize::from(io.read_u8().await?) + 2,
        };
        io.read_exact(&mut vec![0; rest]).await?;
        Ok(io)
    }
}

/// Tells a broker (`proxy_protocol = true`) or a load balancer whose connection it is: the PROXY protocol, version 1.
pub struct ProxyHeader;

impl Connector for ProxyHeader {
    fn connect<'a>(&'a self, host: &'a Host, tls: Option<&'a TlsOptions>) -> Connecting<'a> {
        Box::pin(async move {
            let connect = async {
                let mut io = TcpStream::connect((host.host.as_str(), host.port)).await?;
                let (from, to) = (io.local_addr()?, io.peer_addr()?);
                let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
                let header =
                    format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port());
                // Before TLS: whoever reads it is no party to that.
                io.write_all(header.as_bytes()).await?;
                Ok(io)
            };
            finish(host, tls, connect.await.map_err(|error| failed(host, "the load balancer", &error))?).await
        })
    }
}

/// TLS, if it is spoken, is with the broker and for its name.
async fn finish(host: &Host, tls: Option<&TlsOptions>, io: TcpStream) -> Result<Stream> {
    io.set_nodelay(true).map_err(|error| failed(host, "the socket", &error))?;
    match tls {
        Some(tls) => tls.connect(host, io).await,
        None => Ok(Stream::new(io, host.to_string())),
    }
}

fn failed(host: &Host, who: &str, error: &io::Error) -> Error {
    Error::new(ErrorKind::ConnectFailed, format!("{host}: {who}: {error}"))
}

#[allow(dead_code, reason = "the tests use the connectors only")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (uri, connector): (&str, Arc<dyn Connector>) = match arguments[..] {
        ["socks5", proxy, uri] => {
            let proxy = proxy
                .parse()
                .map_err(|_| Error::new(ErrorKind::InvalidArgument, "the proxy is an address and a port"))?;
            (uri, Arc::new(Socks5 { proxy }))
        }
        ["proxy-header", uri] => (uri, Arc::new(ProxyHeader)),
        _ => {
            eprintln!("usage: connectors socks5 PROXY URI | connectors proxy-header URI");
            std::process::exit(2);
        }
    };
    let client = Options::from_uri(uri)?.connector(connector).connect().await?;
    println!("connected");
    client.close().await
}
