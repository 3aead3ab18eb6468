//! The byte stream of a connection.

use tokio::io::{AsyncRead, AsyncWrite};

/// Both halves of a connection, seen from the broker.
pub(super) struct Io {
    pub read: Box<dyn AsyncRead + Send + Unpin>,
    pub write: Box<dyn AsyncWrite + Send + Unpin>,
}

impl Io {
    pub fn new(io: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let (read, write) = tokio::io::split(io);
        Self { read: Box::new(read), write: Box::new(write) }
    }
}
