//! What a handle and the engine of one connection share: the mailboxes, the outbox, the bound on undelivered bytes.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::{
    acks::ChannelAcks, command::Command, mailbox::Mailbox, outbox::Outbox, read_budget::ReadBudget,
    writer::Writer,
};
use crate::{Error, wire::handshake::ServerInfo};

pub(crate) struct Link {
    commands: Mailbox<Command>,
    /// Channels with acks to send.
    acks: Mailbox<Arc<ChannelAcks>>,
    outbox: Arc<Outbox>,
    budget: ReadBudget,
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
        Self::with_outbox(delivery_buffer, Outbox::new())
    }

    /// The link of a connection that writes through `outbox`.
    pub fn with_outbox(delivery_buffer: usize, outbox: Arc<Outbox>) -> Arc<Self> {
        Arc::new(Self {
            commands: Mailbox::new(outbox.waker().clone()),
            acks: Mailbox::new(outbox.waker().clone()),
            outbox,
            budget: ReadBudget::new(delivery_buffer),
            connected: AtomicBool::new(false),
            restored: AtomicBool::new(false),
            settled: AtomicU64::new(0),
            server: Mutex::default(),
        })
    }

    /// All that publishing needs of the connection.
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// The write half, for the engine.
    pub fn lock_writer(&self) -> MutexGuard<'_, Writer> {
        self.outbox.lock_writer()
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
        self.outbox.waker().wake();
    }

    /// Waits for [`Self::wake`] and its like.
    pub async fn woken(&self) {
        self.outbox.waker().woken().await;
    }

    pub fn take_mail(&self) -> Mail {
        self.outbox.waker().rearm();
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
        self.budget.arrived(bytes);
    }

    pub fn handed_out(&self, bytes: usize) {
        if self.budget.handed_out(bytes) {
            self.wake();
        }
    }

    /// Whether reading must stop until more is handed out.
    pub fn must_pause(&self) -> bool {
        self.budget.must_pause()
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
        self.budget.undelivered()
    }
}
