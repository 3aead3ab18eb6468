//! Records what clients and the embedded broker say to each other, for the seeds of `make fuzz` (`scripts/fuzz-seeds.py`):
//! one file for each direction of each connection, into the folder that `MURANO_RECORD_TRAFFIC` names.

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use murano_messaging::{Broker, Connecting, Connector, Error, ErrorKind, Host, Options, Stream, TlsOptions};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// The options, recording if that is asked for.
pub fn recording(options: Options, broker: &str) -> Options {
    match std::env::var_os("MURANO_RECORD_TRAFFIC") {
        Some(folder) => {
            options.connector(Arc::new(Recorder { broker: Broker::named(broker), folder: folder.into() }))
        }
        None => options,
    }
}

struct Recorder {
    broker: Broker,
    folder: PathBuf,
}

impl Connector for Recorder {
    fn connect<'a>(&'a self, _: &'a Host, _: Option<&'a TlsOptions>) -> Connecting<'a> {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
        Box::pin(async move {
            let inner = self.broker.connect();
            let inner = inner.map_err(|error| Error::new(ErrorKind::ConnectFailed, error.to_string()))?;
            let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
            let stem = self.folder.join(format!("{number:05}"));
            Ok(Stream::new(Tap { inner, stem, to_client: Vec::new(), to_broker: Vec::new() }, "recorder"))
        })
    }
}

struct Tap {
    inner: DuplexStream,
    stem: PathBuf,
    to_client: Vec<u8>,
    to_broker: Vec<u8>,
}

impl Drop for Tap {
    fn drop(&mut self) {
        for (name, bytes) in [("client", &self.to_client), ("broker", &self.to_broker)] {
            std::fs::write(self.stem.with_extension(name), bytes)
                .expect("the folder of the recordings is there");
        }
    }
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.to_client.extend_from_slice(&buf.filled()[before..]);
        polled
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = polled {
            self.to_broker.extend_from_slice(&buf[..count]);
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
