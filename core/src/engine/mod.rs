//! The engine: one task owns one connection, from the first attempt to the last, across every reconnect.
//!
//! | module | what it is |
//! |---|---|
//! | [`link`], [`mailbox`] | what handles and the engine share |
//! | [`outbox`], [`waker`], [`writer`] | the write half, and the wake-up of the engine |
//! | [`read_budget`], [`undelivered`] | the bound on deliveries that were not handed out |
//! | [`command`] | what handles ask for |
//! | [`publish`] | publishes, their window and their confirms |
//! | [`delivery_queue`], [`acks`] | deliveries on their way to the application, and back |
//! | [`channel`], [`rpc`] | the channels of one connection, and the methods that wait for a reply |
//! | [`content`], [`arrivals`] | the content that is arriving, and the messages it becomes |
//! | [`io_loop`] | the turn of the engine: read, write, time |
//! | [`dispatch`] | what to do with a frame |
//! | [`operations`] | what to do with a command, and with the answer to it |
//! | [`consumer`] | the life of a consumer |
//! | [`record`], [`replay`], [`topology_wait`] | what was declared, and how it is brought back |
//! | [`reconnect`] | when and where to connect |
//!
//! The file is long because the engine's fields, and its life from connection to connection, are read together.

pub(crate) mod acks;
mod arrivals;
pub(crate) mod channel;
pub(crate) mod command;
mod consumer;
pub(crate) mod content;
pub(crate) mod delivery_queue;
mod dispatch;
mod io_loop;
pub(crate) mod link;
mod mailbox;
mod operations;
pub(crate) mod outbox;
pub(crate) mod publish;
mod read_budget;
mod reconnect;
pub(crate) mod record;
pub(crate) mod replay;
mod rpc;
mod sync;
mod topology_wait;
pub(crate) mod undelivered;
mod waker;
pub(crate) mod writer;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, atomic::Ordering},
};

use tokio::{sync::oneshot, time::Instant};

use self::{
    acks::ChannelAcks,
    channel::Channels,
    command::{Command, Pending},
    consumer::{Consumer, RefusedConsumes},
    link::Link,
    operations::{
        closing::{Closing, closed_late},
        control::Control,
    },
    publish::{Blame, Publishing},
    record::RecordedTopology,
    replay::Replay,
    topology_wait::TopologyWait,
};
use crate::{
    Error, ErrorKind, Result,
    error::Reply,
    events::{Event, EventSender, NotRestored, Role},
    options::Options,
    stats::Counters,
    topology::Binding,
    wire::handshake::Opened,
};

/// Why a connection is over.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Lost, or closed by the broker. `suspect`: the broker may have closed it because of one of our publishes.
    Lost { error: Error, suspect: bool },
    /// Closed by its owner.
    Closed,
}

/// What belongs to one live connection and dies with it.
pub(crate) struct ConnectionState {
    channels: Channels,
    control: Control,
    /// One operation at a time, because one of those on the last connection has ended it.
    careful: bool,
    frame_max: usize,
    /// Encoded methods and acks that wait for the writer.
    out: Vec<u8>,
    /// Consumers that got deliveries since the last wake-up.
    to_wake: Vec<Arc<delivery_queue::DeliveryQueue>>,
    replay: Option<Replay>,
    /// Bindings for which an exchange was declared once more.
    bound_again: Vec<Binding>,
    host: String,
    /// `connection.update-secret` calls that wait for their reply.
    secrets: VecDeque<Pending<()>>,
    /// `connection.close` was sent.
    close_sent: bool,
    /// Answers to `channel.flow` since the peer last took all that was written.
    flows: u32,
    /// Bytes of acks since then.
    unread_acks: usize,
    /// Channels to `basic.get` on that are free.
    idle_gets: Vec<u16>,
    /// The broker takes no publishes.
    blocked: bool,
}

/// What the engine of one connection is made with.
pub(crate) struct Setup {
    pub role: Role,
    pub options: Arc<Options>,
    pub link: Arc<Link>,
    pub publishing: Option<Arc<Publishing>>,
    pub events: EventSender,
    pub counters: Arc<Counters>,
    /// The connection whose topology must be back before publishes are sent again.
    pub after: Option<Arc<Link>>,
}

pub(crate) struct Engine {
    role: Role,
    options: Arc<Options>,
    link: Arc<Link>,
    publishing: Option<Arc<Publishing>>,
    events: EventSender,
    counters: Arc<Counters>,
    after: Option<Arc<Link>>,
    /// Counts connections; a channel number means something only together with it.
    epoch: u64,
    record: RecordedTopology,
    consumers: BTreeMap<u64, Consumer>,
    refused_consumes: RefusedConsumes,
    /// The message that ended a connection, by its consumer.
    broken_by: BTreeMap<u64, String>,
    overflow: arrivals::Overflow,
    /// The windows of direct reply consumers.
    requests: Vec<Arc<Publishing>>,
    /// Commands that wait for the connection or for its topology.
    deferred: VecDeque<Command>,
    closing: Option<Closing>,
    /// When some command's deadline is to be looked at.
    armed: Option<Instant>,
    /// Consumers and queues to try again, and when.
    retries: Vec<replay::Retry>,
    /// The next connection does one operation at a time: it is not known which of several has ended the last one.
    careful_next: bool,
    /// What was not restored because the broker ended the connection over it; the event of the next recovery tells.
    given_up: Vec<NotRestored>,
    rng: fastrand::Rng,
    next_host: usize,
    /// When the connection in use was opened.
    opened_at: Option<Instant>,
    /// Connections in a row that did not last.
    failures: u32,
    live: ConnectionState,
    topology_wait: Option<TopologyWait>,
}

impl Engine {
    pub fn new(setup: Setup) -> Self {
        let rng = setup.options.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        Self {
            role: setup.role,
            options: setup.options,
            link: setup.link,
            publishing: setup.publishing,
            events: setup.events,
            counters: setup.counters,
            after: setup.after,
            epoch: 0,
            record: RecordedTopology::default(),
            consumers: BTreeMap::new(),
            refused_consumes: RefusedConsumes::default(),
            broken_by: BTreeMap::new(),
            overflow: arrivals::Overflow::default(),
            requests: Vec::new(),
            deferred: VecDeque::new(),
            closing: None,
            armed: None,
            retries: Vec::new(),
            careful_next: false,
            given_up: Vec::new(),
            rng,
            next_host: 0,
            opened_at: None,
            failures: 0,
            live: ConnectionState::none(),
            topology_wait: None,
        }
    }

    /// Runs until the connection is over for good. `first` hears how the first connection went.
    pub async fn run(mut self, first: oneshot::Sender<Result<()>>) {
        let mut first = Some(first);
        let reason = loop {
            match self.connect(first.is_some()).await {
                Ok(opened) => {
                    let (read, frames) = self.begin(opened);
                    // After the events of this connection: who subscribes once it is connected hears what comes then.
                    if let Some(first) = first.take() {
                        // The caller may have given up waiting; its handle's drop closes us.
                        let _ = first.send(Ok(()));
                    }
                    match self.serve(read, frames).await {
                        Ended::Closed => {
                            self.suspend(&closed(), false).await;
                            break None;
                        }
                        Ended::Lost { error, suspect } => {
                            self.link.set_connected(false);
                            self.events.send(Event::Lost { role: self.role, reason: error.clone() });
                            self.suspend(&error, suspect).await;
                            if self.close_is_done() {
                                break None;
                            }
                            if !self.options.recovery.enabled {
                                break Some(error);
                            }
                        }
                    }
                }
                Err(error) => {
                    if let Some(first) = first.take() {
                        let _ = first.send(Err(error.clone()));
                    }
                    break (error.kind() != ErrorKind::Closed).then_some(error);
                }
            }
        };
        // First, so that whoever hears of the end finds everything refused.
        self.end(&reason.clone().unwrap_or_else(closed));
        self.events.send(Event::Closed { role: self.role, reason });
    }

    /// Takes over a connection that was just opened.
    fn begin(&mut self, opened: Opened) -> (Box<dyn tokio::io::AsyncRead + Send + Unpin>, io_loop::Reading) {
        self.epoch += 1;
        if self.epoch > 1 {
            self.counters.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        self.opened_at = Some(Instant::now());
        let host = opened.stream.peer.clone();
        self.live = ConnectionState::new(opened.channel_max, host.clone());
        self.live.frame_max = opened.frame_max as usize;
        self.live.careful = std::mem::take(&mut self.careful_next);
        self.link.set_server(opened.server);
        self.link.lock_writer().attach(opened.stream.write, opened.frame_max);
        self.link.set_connected(true);
        self.events.send(Event::Connected { role: self.role, host });
        self.start_replay();
        (opened.stream.read, io_loop::Reading::new(opened.frames, opened.heartbeat))
    }

    /// The connection is gone: keeps what the next one needs, fails what cannot go on.
    async fn suspend(&mut self, error: &Error, suspect: bool) {
        self.link.set_restored(false);
        let io = self.link.lock_writer().detach();
        if let Some(mut io) = io {
            // Best effort: the peer learns of the end also when the socket is just dropped.
            let goodbye = tokio::io::AsyncWriteExt::shutdown(&mut io);
            let _ = tokio::time::timeout(std::time::Duration::from_millis(50), goodbye).await;
        }
        let republish = self.options.recovery.enabled && self.options.recovery.republish;
        let blame = self.blame(error, suspect);
        for publishing in self.windows() {
            publishing.with(|window| window.disconnect(republish, error, blame));
        }
        self.retries.clear();
        // Only a live connection ends the wait: kept, its deadline would pass and wake the engine without end.
        self.topology_wait = None;
        let mut live = std::mem::replace(&mut self.live, ConnectionState::none());
        let mut again = Vec::new();
        for channel in live.channels.drain() {
            if let Some(acks) = channel.kind.acks() {
                acks.mark_stale();
            }
            again.extend(channel.rpcs.into_iter().filter_map(interrupted));
        }
        again.extend(live.control.unsent.into_iter().filter_map(interrupted));
        for mut secret in live.secrets {
            // A `connection.close` of the broker counts as a refusal of the secret; otherwise the next login uses it.
            secret.answer(if error.reply_code().is_some() { Err(error.clone()) } else { Ok(()) });
        }
        for command in again.into_iter().rev() {
            self.deferred.push_front(command);
        }
        self.suspend_consumers();
    }

    /// Which publishes the connection may have been lost for.
    fn blame(&self, error: &Error, suspect: bool) -> Blame {
        if !suspect {
            return Blame::None;
        }
        let on_wire: usize =
            self.windows().map(|publishing| publishing.with(|window| window.on_wire())).sum();
        if on_wire == 1 && error.reply().is_some_and(publish::is_refusal) {
            Blame::TheOnlyOne
        } else {
            Blame::OneOfThem
        }
    }

    /// The windows of all publishes on this connection.
    fn windows(&self) -> impl Iterator<Item = &Arc<Publishing>> {
        self.publishing.iter().chain(&self.requests)
    }

    /// Encodes what was settled on a channel of this connection. The settlements of an earlier connection are void: the
    /// broker has requeued their messages.
    fn flush_acks(&mut self, acks: &ChannelAcks) {
        if acks.epoch == self.epoch {
            let before = self.live.out.len();
            acks.flush(&mut self.live.out);
            self.live.unread_acks += self.live.out.len() - before;
        }
    }
}

impl Engine {
    /// Refuses what is asked from now on with `error`, and fails what waits.
    fn end(&mut self, error: &Error) {
        self.link.set_connected(false);
        self.link.lock_writer().detach();
        // The windows first: once the link is closed, a publish opens the window again for another engine.
        for publishing in self.windows() {
            publishing.with(|window| window.close(error));
        }
        let commands = self.link.close(error);
        let sent = self.live.channels.drain().flat_map(|channel| channel.rpcs);
        for rpc in sent.chain(std::mem::take(&mut self.live.control.unsent)) {
            if let Some(command) = rpc.expected.into_command(rpc.method) {
                command.fail(error.clone());
            }
        }
        for command in self.deferred.drain(..).chain(commands) {
            match command {
                Command::Close { mut reply, .. } => reply.answer(Ok(())),
                command => command.fail(error.clone()),
            }
        }
        self.end_consumers(error, Some(error).filter(|error| error.kind() != ErrorKind::Closed));
    }
}

impl Engine {
    /// The task ended without its owner's doing: what is settled from now on is an error.
    fn mark_gone(&mut self, error: &Error) {
        for (_, channel) in self.live.channels.iter_mut() {
            if let Some(acks) = channel.kind.acks() {
                acks.mark_gone(error);
            }
        }
    }
}

impl Drop for Engine {
    /// Also when the runtime drops the task: nobody may wait for an engine that is gone.
    fn drop(&mut self) {
        if !self.link.is_closed() {
            if std::thread::panicking() {
                let error = Error::new(
                    ErrorKind::Closed,
                    "the task of the connection panicked, in a callback, a byte stream or a waker of the application",
                );
                self.mark_gone(&error);
                self.end(&error);
                self.events.send(Event::Closed { role: self.role, reason: Some(error) });
            } else {
                let gone = Error::new(
                    ErrorKind::ConnectionLost,
                    "the tokio runtime that drove the client has ended, and the connection with it",
                );
                self.mark_gone(&gone);
                self.end(&gone);
            }
        }
        if let Some(mut closing) = self.closing.take() {
            let result = if closing.late { Err(closed_late()) } else { Ok(()) };
            closing.answer(&result);
        }
    }
}

/// The error of everything that is asked of a client that was closed.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the client is closed")
}

/// The error for a `connection.close` or `channel.close` of the broker.
fn refusal(what: &str, code: u16, text: &str, class_id: u16, method_id: u16) -> Error {
    Error::from_reply(what, Reply { code, text: text.to_owned(), class_id, method_id })
}

impl ConnectionState {
    fn none() -> Self {
        Self::new(0, String::new())
    }

    fn new(channel_max: u16, host: String) -> Self {
        Self {
            channels: Channels::new(channel_max),
            control: Control::default(),
            careful: false,
            frame_max: usize::MAX,
            out: Vec::new(),
            to_wake: Vec::new(),
            replay: None,
            bound_again: Vec::new(),
            host,
            secrets: VecDeque::new(),
            close_sent: false,
            flows: 0,
            unread_acks: 0,
            idle_gets: Vec::new(),
            blocked: false,
        }
    }
}

/// A method that the broker did not answer: the command to repeat, if it is one.
fn interrupted(rpc: rpc::Rpc) -> Option<Command> {
    match rpc.expected {
        // Everything unsettled is requeued with the connection, which is what was asked for.
        rpc::ExpectedReply::Recovered(mut reply) => {
            reply.answer(Ok(()));
            None
        }
        expected => expected.into_command(rpc.method),
    }
}
