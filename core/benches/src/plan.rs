//! What is measured: the workloads, the peers, and the words they are called by on the command line.

use std::fmt;

/// Bytes in every message body, unless told otherwise.
pub const BODY_BYTES: usize = 256;
/// Publishes in flight in the windowed workload.
pub const WINDOW: u64 = 1_000;
/// Unacknowledged deliveries the broker may send ahead.
pub const PREFETCH: u16 = 1_000;

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Publish with [`WINDOW`] unconfirmed messages in flight.
    Publish,
    /// Publish and wait for the confirm before the next publish.
    PublishWait,
    /// Consume a filled queue and acknowledge every delivery by itself.
    Consume,
    /// Hold idle connections in one process.
    Connections,
}

impl Work {
    /// Every workload, in the order of the report.
    pub const ALL: [Self; 4] = [Self::Publish, Self::PublishWait, Self::Consume, Self::Connections];

    /// The word for it on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::PublishWait => "publish-wait",
            Self::Consume => "consume",
            Self::Connections => "connections",
        }
    }

    /// The workload called `word`.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|work| work.word() == word)
    }

    /// How the report describes it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Publish => "publish, confirmed, 1,000 in flight",
            Self::PublishWait => "publish and wait for each confirm",
            Self::Consume => "consume and ack each",
            Self::Connections => "idle connections",
        }
    }

    /// Who is measured doing it.
    pub const fn peers(self) -> &'static [Peer] {
        match self {
            Self::Publish => &[
                Peer::Ours,
                Peer::Lapin,
                Peer::Amqprs,
                Peer::AmqprsUnconfirmed,
                Peer::RabbitmqC,
                Peer::RabbitmqCUnconfirmed,
            ],
            Self::PublishWait | Self::Consume => &[Peer::Ours, Peer::Lapin, Peer::Amqprs, Peer::RabbitmqC],
            Self::Connections => &[Peer::Ours, Peer::Lapin, Peer::Amqprs],
        }
    }

    /// Messages (or connections) for one measurement, out of the number asked for.
    ///
    /// A publish that waits for its confirm takes several times as long as a windowed one, and lapin needs 7 MiB for a
    /// connection: both get fewer.
    pub const fn amount(self, peer: Peer, messages: u64) -> u64 {
        match (self, peer) {
            (Self::Publish | Self::Consume, _) => messages,
            (Self::PublishWait, _) => messages / 5,
            (Self::Connections, Peer::Lapin) => 100,
            (Self::Connections, _) => 1_000,
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// A client, and the way it is used where there is more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// This project's client.
    Ours,
    /// lapin on tokio's multi-threaded runtime.
    Lapin,
    /// amqprs, the confirms counted in its channel callback: it offers no future for a confirm.
    Amqprs,
    /// amqprs without confirms.
    AmqprsUnconfirmed,
    /// rabbitmq-c, the confirms counted frame by frame: it offers no call for them.
    RabbitmqC,
    /// rabbitmq-c without confirms.
    RabbitmqCUnconfirmed,
}

impl Peer {
    const ALL: [Self; 6] = [
        Self::Ours,
        Self::Lapin,
        Self::Amqprs,
        Self::AmqprsUnconfirmed,
        Self::RabbitmqC,
        Self::RabbitmqCUnconfirmed,
    ];

    /// The word for it between the processes of the benchmark.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Lapin => "lapin",
            Self::Amqprs => "amqprs",
            Self::AmqprsUnconfirmed => "amqprs-unconfirmed",
            Self::RabbitmqC => "rabbitmq-c",
            Self::RabbitmqCUnconfirmed => "rabbitmq-c-unconfirmed",
        }
    }

    /// The peer called `word`.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|peer| peer.word() == word)
    }

    /// The client's name, the same for every way of using it: what `--only` takes.
    pub fn client(self) -> &'static str {
        let word = self.word();
        word.strip_suffix("-unconfirmed").unwrap_or(word)
    }

    /// Whether confirms are switched off.
    pub const fn is_unconfirmed(self) -> bool {
        matches!(self, Self::AmqprsUnconfirmed | Self::RabbitmqCUnconfirmed)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// The delivery mode of persistent messages, and of others.
pub const fn delivery_mode(persistent: bool) -> u8 {
    if persistent { 2 } else { 1 }
}

/// One measurement to make: what a child process is started for.
#[derive(Clone, Debug)]
pub struct Job {
    /// Who does it.
    pub peer: Peer,
    /// What is done.
    pub work: Work,
    /// The broker; may hold a password, so it travels in the environment and is never printed.
    pub uri: String,
    /// The queue, declared (and filled, for [`Work::Consume`]) beforehand.
    pub queue: String,
    /// Messages to publish or consume, or connections to hold.
    pub amount: u64,
    /// Whether messages are persistent.
    pub persistent: bool,
    /// Bytes in every message body.
    pub body_bytes: usize,
}

/// Any failure of the benchmark; shown to the user, never matched.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
