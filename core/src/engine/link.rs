//! What a handle and the engine of one connection share: the mailboxes, the outbox, the bound on undelivered bytes.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use super::{
    acks::{AckEvent, AckInbox},
    command::Command,
    mailbox::Mailbox,
    outbox::Outbox,
    undelivered::Undelivered,
    writer::Writer,
};
use crate::{Error, wire::handshake::ServerInfo};

pub(crate) struct Link {
    commands: Mailbox<Command>,
    /// The application's settlements of deliveries.
    pub acks: Arc<AckInbox>,
    outbox: Arc<Outbox>,
    pub budget: Arc<Undelivered>,
    /// A connection is open.
    connected: AtomicBool,
    /// What was declared is there, as far as it is known.
    restored: AtomicBool,
    /// The broker of the connection, or of the last one.
    server: Mutex<Option<Arc<ServerInfo>>>,
}

/// What the engine found in its mailboxes.
pub(crate) struct Mail {
    pub commands: Vec<Command>,
    pub acks: Vec<AckEvent>,
}

impl Link {
    pub fn new(delivery_buffer: usize) -> Arc<Self> {
        Self::with_outbox(delivery_buffer, Outbox::new())
    }

    /// The link of a connection that writes through `outbox`.
    pub fn with_outbox(delivery_buffer: usize, outbox: Arc<Outbox>) -> Arc<Self> {
        Arc::new(Self {
            commands: Mailbox::new(outbox.waker().clone()),
            acks: Arc::new(AckInbox::new(outbox.waker().clone())),
            budget: Arc::new(Undelivered::new(delivery_buffer, outbox.waker().clone())),
            outbox,
            connected: AtomicBool::new(false),
            restored: AtomicBool::new(false),
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

    /// Waits until there is something for the engine to look at.
    pub async fn woken(&self) {
        self.outbox.waker().woken().await;
    }

    pub fn take_mail(&self) -> Mail {
        self.outbox.waker().rearm();
        Mail { acks: self.acks.take(), commands: self.commands.take() }
    }

    /// The engine ends: later commands are refused with `error`; those that wait are given back.
    pub fn close(&self, error: &Error) -> Vec<Command> {
        self.acks.close(error);
        self.commands.close(error)
    }

    /// Called before the event that reports the change, so that [`Self::is_connected`] agrees with it.
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

    pub fn set_restored(&self, restored: bool) {
        self.restored.store(restored, Ordering::Release);
    }

    pub fn is_restored(&self) -> bool {
        self.restored.load(Ordering::Acquire)
    }
}
