//! What a handle and the engine of one connection share: the mailboxes, the write half, the bound on undelivered bytes.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use super::{
    acks::ChannelAcks,
    command::Command,
    mailbox::{EngineWaker, Mailbox},
    writer::Writer,
};
use crate::{Error, wire::handshake::ServerInfo};

pub(crate) struct Link {
    waker: Arc<EngineWaker>,
    commands: Mailbox<Command>,
    /// Channels with acks to send.
    acks: Mailbox<Arc<ChannelAcks>>,
    writer: Mutex<Writer>,
    /// Bytes of memory that deliveries take which were received and not handed out.
    undelivered: AtomicUsize,
    /// The engine has stopped reading until they are fewer.
    paused: AtomicBool,
    delivery_buffer: usize,
    /// A connection is open.
    connected: AtomicBool,
    /// What was declared is there, as far as it is known.
    restored: AtomicBool,
    /// Deliveries that the application has settled.
    settled: AtomicU64,
    /// The broker of the connection, or of the last one.
    server: Mutex<Option<Arc<ServerInfo>>>,
}

/// What the engine found in its mailboxes.
pub(crate) struct Mail {
    pub commands: Vec<Command>,
    pub acks: Vec<Arc<ChannelAcks>>,
}

impl Link {
    pub fn new(delivery_buffer: usize) -> Arc<Self> {
        let waker = Arc::<EngineWaker>::default();
        Arc::new(Self {
            commands: Mailbox::new(waker.clone()),
            acks: Mailbox::new(waker.clone()),
            waker,
            writer: Mutex::default(),
            undelivered: AtomicUsize::new(0),
            paused: AtomicBool::new(false),
            delivery_buffer,
            connected: AtomicBool::new(false),
            restored: AtomicBool::new(false),
            settled: AtomicU64::new(0),
            server: Mutex::default(),
        })
    }

    /// The write half, for the engine.
    pub fn lock_writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The write half, for a caller; `None` while somebody else writes.
    pub fn try_lock_writer(&self) -> Option<MutexGuard<'_, Writer>> {
        self.writer.try_lock().ok()
    }

    /// Queues a command for the engine; the reason when the engine is gone.
    pub fn send(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command)
    }

    /// Tells the engine that `acks` has something to send.
    pub fn send_acks(&self, acks: Arc<ChannelAcks>) {
        // The channel is gone with its engine.
        let _ = self.acks.send(acks);
    }

    /// Has the engine take a turn.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// Waits for [`Self::wake`] and its like.
    pub async fn woken(&self) {
        self.waker.woken().await;
    }

    pub fn take_mail(&self) -> Mail {
        self.waker.rearm();
        Mail { acks: self.acks.take(), commands: self.commands.take() }
    }

    /// The engine ends: later commands are refused with `error`; those that wait are given back.
    pub fn close(&self, error: &Error) -> Vec<Command> {
        drop(self.acks.close(error));
        self.commands.close(error)
    }

    /// Before the event that says so.
    pub fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Release);
    }

    /// Whether a connection is open.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    pub fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }

    /// Why the engine ended, once it has.
    pub fn why_closed(&self) -> Option<Error> {
        self.commands.why_closed()
    }

    pub fn set_server(&self, server: Arc<ServerInfo>) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
    }

    pub fn server(&self) -> Option<Arc<ServerInfo>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    // ---- undelivered bytes -----------------------------------------------------------------------------------

    pub fn arrived(&self, bytes: usize) {
        self.undelivered.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn handed_out(&self, bytes: usize) {
        let before = self.undelivered.fetch_sub(bytes, Ordering::AcqRel);
        if before - bytes < self.delivery_buffer && self.paused.swap(false, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// Whether reading must stop. `paused` is set before the second look, so that a hand-out in between is seen by
    /// one of the two sides.
    pub fn must_pause(&self) -> bool {
        let full = || self.undelivered.load(Ordering::Acquire) >= self.delivery_buffer;
        if !full() {
            return false;
        }
        self.paused.store(true, Ordering::Release);
        full()
    }

    pub fn set_restored(&self, restored: bool) {
        self.restored.store(restored, Ordering::Release);
    }

    pub fn is_restored(&self) -> bool {
        self.restored.load(Ordering::Acquire)
    }

    pub fn count_settled(&self) {
        self.settled.fetch_add(1, Ordering::Relaxed);
    }

    pub fn settled(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }

    pub fn undelivered(&self) -> usize {
        self.undelivered.load(Ordering::Relaxed)
    }
}
