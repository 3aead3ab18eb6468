//! An embedded AMQP 0-9-1 broker for tests, demos and development. **Not for production: it keeps nothing on disk.**
//!
//! It is the other end of the client's own codec, so that what runs against it goes through the real engine and the real
//! recovery. Clients in the same process reach it as `memory://name`; others over TCP ([`Broker::listen`]).
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use murano_messaging::{Client, Message, Queue};
//!
//! let client = Client::connect("memory://docs").await?;
//! client.declare_queue(&Queue::new("hello")).await?;
//! client.publish("", "hello", Message::new("world")).await?;
//! let got = client.get_no_ack("hello").await?.expect("a message");
//! assert_eq!(got.body(), "world");
//! # Ok::<(), murano_messaging::Error>(()) }).unwrap();
//! ```
//!
//! # Where it differs from RabbitMQ
//!
//! | matter | RabbitMQ 3.10 to 4 | here |
//! |---|---|---|
//! | durability | on disk | in memory: [`Broker::restart`] keeps what a restart of RabbitMQ would keep |
//! | transactions | class `tx` | refused with 540; use publisher confirms |
//! | stream queues | yes | refused with 406 |
//! | quorum queues | replicated | one copy; the delivery limit and the refused properties are the same |
//! | permissions | per user and virtual host | every user may do everything |
//! | SASL EXTERNAL | the user is named by the certificate | [`Broker::external_user`] names the one user |
//! | policies, plugins, management, metrics | yes | none |
//! | deprecated features | denied by configuration, or by later versions | denied by [`Broker::deny_deprecated`] |
//! | alarms, consumer timeout | by memory, disk, time | alarms only by [`Broker::block`]; no consumer timeout |
//! | exchange and routing key that are not UTF-8 | relayed | 502 |
//! | messages of a queue with `x-expires`, memory, flow control | paging, credit flow | everything stays in memory |
//!
//! | module | what it is |
//! |---|---|
//! | `listen`, `io` | how clients get in: in-process, TCP, TLS |
//! | `login`, `connection` | a connection: opening it, and its task |
//! | `session` | a connection as the rest knows it |
//! | `frames`, `basic`, `topology` | what methods do |
//! | `state` | all that the broker knows, and time |
//! | `queue`, `exchange`, `channel`, `message` | its parts |
//! | `deliver` | from queues to consumers and to dead letter exchanges |
//! | `arguments`, `refusal` | `x-` arguments, and RabbitMQ's texts for what is refused |

mod arguments;
mod basic;
mod channel;
mod connection;
mod deliver;
mod exchange;
mod frames;
mod io;
mod listen;
mod login;
mod message;
mod observe;
mod queue;
mod refusal;
mod session;
mod state;
mod topology;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use amq_protocol::protocol::connection::{AMQPMethod, Unblocked};
use tokio::time::Instant;
use zeroize::Zeroizing;

pub use listen::Listening;
pub use observe::Observed;

use frames::IntoClass;
use refusal::Refusal;
use session::Stage;
use state::State;

type QueueId = u64;
type SessionId = u64;

struct Shared {
    state: Mutex<State>,
}

impl Shared {
    fn new(seed: Option<u64>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::new(seed)) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An in-memory broker. Cheap to clone; all clones are the same broker.
///
/// It has the user `guest` with password `guest` and the virtual host `/`.
#[derive(Clone)]
pub struct Broker(Arc<Shared>);

impl Default for Broker {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").finish_non_exhaustive()
    }
}

/// What a queue holds at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Messages that wait to be delivered.
    pub ready: usize,
    /// Messages that were delivered and are not settled.
    pub unacked: usize,
    /// Consumers.
    pub consumers: usize,
}

/// Making and watching it.
impl Broker {
    /// A broker of its own, reached by [`Broker::listen`] or with [`crate::Options::connector`].
    pub fn new() -> Self {
        Self(Shared::new(None))
    }

    /// The same, with names that are the same again for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(Shared::new(Some(seed)))
    }

    /// The state of a queue of virtual host `/`; `None` when there is none of that name.
    pub fn queue_depth(&self, queue: &str) -> Option<QueueDepth> {
        let mut state = self.0.lock();
        state.tick(Instant::now());
        let id = *state.vhosts.get("/")?.queues.get(queue)?;
        let unacked = state
            .sessions
            .values()
            .flat_map(|session| session.channels.values())
            .flat_map(|channel| channel.unacked.values())
            .filter(|unacked| unacked.queue == id)
            .count();
        let queue = state.queues.get(&id)?;
        Some(QueueDepth { ready: queue.len(), unacked, consumers: queue.consumers.len() })
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.0.lock().sessions.len()
    }

    /// Calls `observer` with what happens to messages. It is called under the broker's lock and must not call it.
    pub fn observe(&self, observer: impl FnMut(Observed<'_>) + Send + 'static) {
        self.0.lock().observer = Some(Box::new(observer));
    }
}

/// Users and virtual hosts.
impl Broker {
    /// Adds a user, or gives it another password.
    pub fn add_user(&self, name: &str, password: &str) {
        self.0.lock().users.insert(name.into(), Zeroizing::new(password.into()));
    }

    /// Removes a user; its connections stay.
    pub fn remove_user(&self, name: &str) {
        self.0.lock().users.remove(name);
    }

    /// Whom SASL EXTERNAL logs in as: clients with a certificate that was verified, and those in this process.
    pub fn external_user(&self, name: Option<&str>) {
        self.0.lock().external_user = name.map(Into::into);
    }

    /// Adds a virtual host.
    pub fn add_vhost(&self, name: &str) {
        self.0.lock().add_vhost(name);
    }

    /// The largest message body that is taken, in bytes; 406 for a larger one. Default: 128 MiB.
    pub fn max_message_size(&self, bytes: u64) {
        self.0.lock().max_message = bytes;
    }
}

/// Faults, for tests.
impl Broker {
    /// Denies what `RabbitMQ` 4 deprecates or no longer takes, so that programs can be tried against it:
    ///
    /// * a transient queue that is not exclusive ends the connection with 541
    ///   (`deprecated_features.permit.transient_nonexcl_queues = false`);
    /// * a prefetch limit of the channel (`basic.qos` with `global`) is taken as one for each later consumer, as by
    ///   `RabbitMQ` 4.3;
    /// * a `frame_max` below 8192 ends the connection without a word, as by `RabbitMQ` 4.1.
    pub fn deny_deprecated(&self, deny: bool) {
        self.0.lock().deny_deprecated = deny;
    }

    /// Closes every connection with a reply code and text, as `rabbitmqctl close_all_connections` does with 320.
    pub fn close_connections(&self, code: u16, text: &str) {
        let mut state = self.0.lock();
        let refusal = Refusal::new(code, text);
        let open: Vec<_> = state.sessions.keys().copied().collect();
        for id in open {
            state.close_connection(id, &refusal, (0, 0));
        }
    }

    /// Ends every connection without a word.
    pub fn drop_connections(&self) {
        let mut state = self.0.lock();
        let open: Vec<_> = state.sessions.keys().copied().collect();
        for id in open {
            state.set_stage(id, Stage::Dropped);
            // At once, not when its task notices: its unacked deliveries are requeued now.
            state.end_session(id, Instant::now());
        }
    }

    /// Raises an alarm: connections that publish are told and no longer read.
    pub fn block(&self, reason: &str) {
        let mut state = self.0.lock();
        state.blocked = Some(reason.to_owned());
        for session in state.sessions.values_mut().filter(|session| session.publishes) {
            session.tell_blocked(reason);
        }
    }

    /// Ends the alarm.
    pub fn unblock(&self) {
        let mut state = self.0.lock();
        state.blocked = None;
        for session in state.sessions.values_mut() {
            if std::mem::take(&mut session.told_blocked) {
                session.send(0, &AMQPMethod::Unblocked(Unblocked {}).into_class());
            }
        }
        state.wake_all();
    }

    /// Freezes the broker: connections stay open and nothing is read or written, heartbeats included.
    pub fn stall(&self, stalled: bool) {
        let mut state = self.0.lock();
        state.stalled = stalled;
        state.wake_all();
    }

    /// Whether confirms are held back, as by a quorum queue that waits for its other replicas. Those that were held go out when
    /// they are no longer.
    pub fn hold_confirms(&self, hold: bool) {
        let mut state = self.0.lock();
        state.holds_confirms = hold;
        for session in state.sessions.values_mut() {
            session.holds_confirms = hold;
            session.flush_confirms();
        }
        state.wake_all();
    }

    /// Restarts the broker, and it comes back without this queue of virtual host `/`, durable or not, as a node does that has
    /// lost its disk.
    pub fn restart_without(&self, queue: &str) {
        self.restart();
        let mut state = self.0.lock();
        let id = state.vhosts.get("/").and_then(|host| host.queues.get(queue).copied());
        if let Some(id) = id {
            state.delete_queue(id);
        }
    }

    /// Restarts the broker: connections end without a word; durable queues and exchanges stay, with the bindings
    /// between them and their persistent messages.
    pub fn restart(&self) {
        self.drop_connections();
        let mut state = self.0.lock();
        let gone: Vec<_> =
            state.queues.iter().filter(|(_, queue)| !queue.declared.durable).map(|(id, _)| *id).collect();
        for id in gone {
            state.delete_queue(id);
        }
        let transient: Vec<_> = state
            .vhosts
            .iter()
            .flat_map(|(vhost, host)| {
                let names = host.exchanges.iter().filter(|(_, exchange)| !exchange.durable);
                names.map(|(name, _)| (vhost.clone(), name.clone()))
            })
            .collect();
        for (vhost, name) in transient {
            state.delete_exchange(&vhost, &name);
        }
        let now = Instant::now();
        let ids: Vec<_> = state.queues.keys().copied().collect();
        for id in ids {
            if let Some(queue) = state.queues.get_mut(&id) {
                queue.restart();
                queue.unused_since = now;
            }
            state.reschedule(id);
        }
    }

    /// Whether logins are refused, whatever the password.
    pub fn refuse_logins(&self, refuse: bool) {
        self.0.lock().refuse_logins = refuse;
    }

    /// Whether the declaration of this queue ends the connection with 541, without the name of the method: what RabbitMQ
    /// does where it fails itself, for instance over an argument that it does not check.
    pub fn break_at_declare(&self, queue: &str, breaks: bool) {
        let mut state = self.0.lock();
        if breaks {
            state.breaks_at.insert(queue.to_owned());
        } else {
            state.breaks_at.remove(queue);
        }
    }

    /// Whether new connections are refused, as by a broker that is down.
    pub fn refuse_connections(&self, refuse: bool) {
        self.0.lock().refuse_connections = refuse;
    }
}
