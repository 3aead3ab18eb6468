//! The write half of a connection and the bytes that wait for it.
//!
//! The engine writes, with one exception: a caller that waits for its confirm anyway may take the lock when nothing is
//! queued and write from its own thread, which saves it a wake-up of the engine.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

/// Publishes on a channel of their own are encoded until the buffer holds this many bytes; those on a shared channel,
/// all.
pub(crate) const HIGH_WATER: usize = 256 * 1024;

/// A buffer that grew beyond this is given back once the connection is quiet.
const IDLE_CAPACITY: usize = 16 * 1024;

#[derive(Default)]
pub(crate) struct Writer {
    io: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    pub buffer: Vec<u8>,
    written: usize,
    unflushed: bool,
    /// Whether anything was written since the last heartbeat tick.
    pub wrote: bool,
    /// What the write half failed with; the engine finds it and gives the connection up.
    failed: Option<io::Error>,
    pub frame_max: u32,
}

impl Writer {
    pub fn attach(&mut self, io: Box<dyn AsyncWrite + Send + Unpin>, frame_max: u32) {
        *self = Self { io: Some(io), frame_max, ..Self::default() };
    }

    /// Drops the write half and what was not written.
    pub fn detach(&mut self) -> Option<Box<dyn AsyncWrite + Send + Unpin>> {
        std::mem::take(self).io
    }

    pub fn is_attached(&self) -> bool {
        self.io.is_some()
    }

    /// Whether every byte that was queued has left.
    pub fn is_idle(&self) -> bool {
        self.buffer.is_empty() && !self.unflushed
    }

    /// Bytes that wait for the socket.
    pub fn backlog(&self) -> usize {
        self.buffer.len() - self.written
    }

    /// Writes until nothing is left or the socket takes no more.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        let Some(io) = self.io.as_mut() else {
            return Poll::Ready(Ok(()));
        };
        while self.written < self.buffer.len() {
            let count = ready!(Pin::new(&mut *io).poll_write(cx, &self.buffer[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
            self.unflushed = true;
            self.wrote = true;
        }
        self.buffer.clear();
        self.written = 0;
        if self.unflushed {
            ready!(Pin::new(&mut *io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes without a wait, from any thread: what the socket does not take now, and an error, are left for the
    /// engine. Returns whether it has something left to do; it must then poll, since nothing is registered to wake it.
    pub fn flush_now(&mut self) -> bool {
        let mut context = Context::from_waker(std::task::Waker::noop());
        match self.poll_flush(&mut context) {
            Poll::Ready(Ok(())) => false,
            Poll::Ready(Err(error)) => {
                self.failed = Some(error);
                true
            }
            Poll::Pending => true,
        }
    }

    /// Gives back memory that a burst needed.
    pub fn shrink(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > IDLE_CAPACITY {
            self.buffer = Vec::new();
        }
    }
}
