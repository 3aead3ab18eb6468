//! Everything a client can be told, with finite defaults for every deadline and buffer.
//!
//! The file is long because each option has its documentation, its default and its setter here.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use amq_protocol::types::{AMQPValue, FieldTable};

use crate::{
    Error, Result,
    credentials::{CredentialSource, Credentials, Mechanism, Secrets},
    message::{IntoValue, with_entry},
    tls::TlsOptions,
    uri,
    wire::{
        handshake::Observer,
        stream::{Connector, TcpConnector},
    },
};

/// A broker's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    /// Name or address, without the brackets of an IPv6 address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl Host {
    /// A host.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What the hosts are reached over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// TCP to each host.
    Tcp,
    /// What [`Options::connector`] says.
    Connector,
    /// The embedded broker of this name, in this process.
    Memory(String),
}

/// What happens after a connection was lost.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovery {
    /// Whether to reconnect at all. Default: true.
    pub enabled: bool,
    /// Whether the first connect is retried too, instead of failing at once. Default: false.
    pub retry_initial: bool,
    /// Give up after so many attempts in a row. Default: never.
    pub max_attempts: Option<u32>,
    /// Give up after so long without a connection. Default: never.
    pub max_elapsed: Option<Duration>,
    /// The delay before the second attempt (the first is made at once); it doubles, with jitter. Default: 50 ms.
    pub initial_delay: Duration,
    /// The longest delay. Default: 5 s.
    pub max_delay: Duration,
    /// For how long a refused login or virtual host is retried, at the longest delay: a node that is starting refuses
    /// too. Default: 10 minutes. On the first connect a refusal fails at once.
    pub refused_for: Duration,
    /// Whether publishes that were not confirmed are sent again; otherwise they fail with
    /// [`crate::ErrorKind::ConnectionLost`], outcome unknown. Default: true.
    pub republish: bool,
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            enabled: true,
            retry_initial: false,
            max_attempts: None,
            max_elapsed: None,
            initial_delay: Duration::from_millis(50),
            max_delay: Duration::from_secs(5),
            refused_for: Duration::from_secs(600),
            republish: true,
        }
    }
}

/// The options of a client; [`Options::connect`] makes one.
#[derive(Clone)]
pub struct Options {
    pub(crate) hosts: Vec<Host>,
    pub(crate) tls: Option<TlsOptions>,
    pub(crate) vhost: String,
    pub(crate) credentials: CredentialSource,
    /// Those that were given since, by one client.
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) mechanism: Mechanism,
    pub(crate) connection_name: Option<String>,
    pub(crate) client_properties: FieldTable,
    pub(crate) heartbeat: Duration,
    pub(crate) frame_max: u32,
    pub(crate) channel_max: u16,
    pub(crate) connect_timeout: Duration,
    pub(crate) operation_timeout: Duration,
    /// `None`: mandatory, but for what RabbitMQ would return although it arrives.
    pub(crate) mandatory: Option<bool>,
    pub(crate) window_messages: usize,
    pub(crate) window_bytes: usize,
    pub(crate) delivery_buffer: usize,
    pub(crate) max_body_size: u64,
    pub(crate) discard_oversize: bool,
    pub(crate) recovery: Recovery,
    pub(crate) separate_publish_connection: bool,
    pub(crate) short_lived: bool,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) transport: Transport,
    /// Hears how far a handshake has come.
    pub(crate) observer: Option<Observer>,
    pub(crate) seed: Option<u64>,
    defect: Option<Error>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("hosts", &self.hosts)
            .field("vhost", &self.vhost)
            .field("tls", &self.tls)
            .field("credentials", &self.credentials)
            .field("heartbeat", &self.heartbeat)
            .finish_non_exhaustive()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

const MIB: usize = 1024 * 1024;

/// A longer timeout is as good as this one.
pub(crate) const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);

impl Options {
    /// The defaults: `localhost:5672`, guest/guest, virtual host `/`. A host that is given replaces `localhost`.
    pub fn new() -> Self {
        Self {
            hosts: Vec::new(),
            tls: None,
            vhost: "/".into(),
            credentials: CredentialSource::Fixed(Credentials::new("guest", "guest")),
            secrets: Arc::default(),
            mechanism: Mechanism::Plain,
            connection_name: None,
            client_properties: FieldTable::default(),
            heartbeat: Duration::from_secs(20),
            frame_max: 131_072,
            channel_max: 2047,
            connect_timeout: Duration::from_secs(10),
            operation_timeout: Duration::from_secs(30),
            mandatory: None,
            window_messages: 1000,
            window_bytes: 64 * MIB,
            delivery_buffer: 256 * MIB,
            max_body_size: 128 * MIB as u64,
            discard_oversize: false,
            recovery: Recovery::default(),
            separate_publish_connection: true,
            short_lived: false,
            connector: Arc::new(TcpConnector),
            transport: Transport::Tcp,
            observer: None,
            seed: None,
            defect: None,
        }
    }

    /// Options from a URI, e.g. `amqps://user:secret@rabbit-1,rabbit-2:5671/vhost?heartbeat=10`
    /// (`RabbitMQ` URI specification and URI query parameters).
    ///
    /// * Schemes: `amqp://` (port 5672), `amqps://` (port 5671) and, with the feature `broker`, `memory://name`.
    /// * User name, password, hosts and virtual host are percent-decoded. A user name without a password has the
    ///   default one, `guest`, as in `RabbitMQ`'s clients.
    /// * Hosts are separated by commas; an IPv6 address is in brackets; no host is `localhost`. Each may have credentials of
    ///   its own (`amqp://u:p@h1:5672,u:p@h2:5672/vhost`, the `transport_url` of OpenStack), which only it is sent: then all
    ///   have a user name and a password, in which `,` and `@` are percent-encoded.
    /// * The virtual host is the only segment of the path: `/%2f` is `/`. Without a path it is `/`. It is `/` for
    ///   `amqp://host/` too, where the specification has a virtual host whose name is empty: that is what most people
    ///   who write the slash mean. [`Options::vhost`] can ask for the empty name.
    /// * Parameters: `heartbeat` (seconds, 0 for none), `connection_timeout` (milliseconds), `channel_max`,
    ///   `frame_max`, `auth_mechanism` (`plain`, `amqplain`, `external`; of several the first is used); with `amqps`
    ///   also `cacertfile`, `certfile`, `keyfile`, `verify` (`verify_peer`, the default, or `verify_none`) and
    ///   `server_name_indication` (a name, which is verified too, or `disable`).
    ///
    /// White space around the URI is no part of it (a mounted secret ends with a newline). Anything else is
    /// [`crate::ErrorKind::InvalidArgument`]. No error repeats user name or password.
    pub fn from_uri(uri: &str) -> Result<Self> {
        uri::parse(uri)
    }

    /// Adds a broker to connect to; the first that answers is used.
    pub fn host(mut self, host: impl Into<String>, port: u16) -> Self {
        self.hosts.push(Host::new(host, port));
        self
    }

    /// The brokers to connect to, instead of those given so far.
    pub fn hosts(mut self, hosts: impl IntoIterator<Item = Host>) -> Self {
        self.hosts = hosts.into_iter().collect();
        self
    }

    /// Speaks TLS.
    pub fn tls(mut self, tls: TlsOptions) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The virtual host.
    pub fn vhost(mut self, vhost: impl Into<String>) -> Self {
        self.vhost = vhost.into();
        self
    }

    /// User name and password.
    pub fn credentials(mut self, username: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = CredentialSource::Fixed(Credentials::new(username, password));
        self
    }

    /// Asks `callback` for credentials at each connect. An error of it, or a panic, fails that attempt.
    pub fn credentials_from<F, Fut>(mut self, callback: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Credentials>> + Send + 'static,
    {
        self.credentials = CredentialSource::Callback(Arc::new(move || Box::pin(callback())));
        self
    }

    /// How to log in.
    pub fn mechanism(mut self, mechanism: Mechanism) -> Self {
        self.mechanism = mechanism;
        self
    }

    /// A name for the broker's list of connections.
    pub fn connection_name(mut self, name: impl Into<String>) -> Self {
        self.connection_name = Some(name.into());
        self
    }

    /// An entry for the client properties that the broker shows (AMQP 0-9-1 section 1.4.2.2.1).
    pub fn client_property(mut self, key: &str, value: impl IntoValue) -> Self {
        if let Err(error) = with_entry(&mut self.client_properties, "client property", key.to_owned(), value)
        {
            self.defect.get_or_insert(error);
        }
        self
    }

    /// The heartbeat period, in whole seconds; zero for none. The broker may ask for a shorter one. A silent peer is
    /// noticed within two periods. Default: 20 s.
    pub fn heartbeat(mut self, period: Duration) -> Self {
        self.heartbeat = period;
        self
    }

    /// The largest frame in bytes: 4096 or more, 8192 or more for `RabbitMQ` 4.1 and later. Default: 131072.
    pub fn frame_max(mut self, bytes: u32) -> Self {
        self.frame_max = bytes;
        self
    }

    /// The most channels on a connection; each consumer has one. Default: 2047.
    pub fn channel_max(mut self, channels: u16) -> Self {
        self.channel_max = channels;
        self
    }

    /// How long one attempt to connect may take, over all hosts and their addresses: each has its share of what is left.
    /// Default: 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long every other operation may take. Default: 30 s.
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.operation_timeout = timeout;
        self
    }

    /// Whether a publish fails when no queue takes the message, for messages and publishers that do not say so themselves.
    /// Default: it does ([`Message::mandatory`](crate::Message::mandatory) has the two exceptions).
    pub fn mandatory(mut self, mandatory: bool) -> Self {
        self.mandatory = Some(mandatory);
        self
    }

    /// How many publishes may be unconfirmed, and how many body bytes they may have together; at either bound publishing
    /// waits. A larger message is admitted when the window is empty. Default: 1000 messages, 64 MiB.
    pub fn window(mut self, messages: usize, bytes: usize) -> Self {
        self.window_messages = messages;
        self.window_bytes = bytes;
        self
    }

    /// How many bytes of undelivered messages (bodies, headers, and what a message takes by itself) a connection holds
    /// before it stops reading. Where somebody waits for something else on the connection meanwhile (an operation, another
    /// consumer), reading goes on, and what arrives for consumers that are not read goes back to their queues; up to twice
    /// as much is held then. [`crate::Event::DeliveryBufferFull`] names the consumer. Default: 256 MiB.
    pub fn delivery_buffer(mut self, bytes: usize) -> Self {
        self.delivery_buffer = bytes;
        self
    }

    /// The largest body that is accepted. A message with a larger one stays on its queue, and the consumer or the get that
    /// it was for fails with an error that says so; see [`Self::discard_oversize`]. (Consumed without acks, it is lost: the
    /// broker has forgotten it when it arrives.) Default: 128 MiB.
    pub fn max_body_size(mut self, bytes: u64) -> Self {
        self.max_body_size = bytes;
        self
    }

    /// Whether a message over [`Self::max_body_size`] is rejected without requeue (dead-lettered if its queue says so) and
    /// the consumer continues, with [`crate::Event::OversizeRejected`]. Default: false.
    pub fn discard_oversize(mut self, discard: bool) -> Self {
        self.discard_oversize = discard;
        self
    }

    /// What happens after a connection was lost.
    pub fn recovery(mut self, recovery: Recovery) -> Self {
        self.recovery = recovery;
        self
    }

    /// Whether publishing has a connection of its own, so that a broker that blocks publishers does not stop consuming.
    /// Default: true.
    pub fn separate_publish_connection(mut self, separate: bool) -> Self {
        self.separate_publish_connection = separate;
        self
    }

    /// Whether the client is made for one message or a few, by a program that makes many such clients: that it is connected,
    /// and that the broker blocks publishers, is then logged at `DEBUG`. Default: false.
    pub fn short_lived(mut self, short_lived: bool) -> Self {
        self.short_lived = short_lived;
        self
    }

    /// Carries the connections over something other than TCP.
    pub fn connector(mut self, connector: Arc<dyn Connector>) -> Self {
        self.connector = connector;
        self.transport = Transport::Connector;
        if self.hosts.is_empty() {
            self.hosts.push(Host::new("connector", 0));
        }
        self
    }

    /// Seeds message ids, consumer tags and jitter, so that a run can be repeated. Default: random.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The virtual host in use.
    pub fn virtual_host(&self) -> &str {
        &self.vhost
    }

    /// How TLS is spoken; `None` when it is not.
    pub fn tls_options(&self) -> Option<&TlsOptions> {
        self.tls.as_ref()
    }

    /// The hosts in use.
    pub fn host_list(&self) -> &[Host] {
        &self.hosts
    }

    /// Fills in what depends on other options, and refuses what cannot work.
    pub(crate) fn complete(mut self) -> Result<Self> {
        if let Some(defect) = self.defect {
            return Err(defect);
        }
        if let Transport::Memory(name) = &self.transport {
            if self.hosts != [Host::new(name, 0)] {
                return Err(Error::invalid(format!(
                    "memory://{name} is a broker in this process: give it no hosts, or another URI"
                )));
            }
            self.connector = embedded(name)?;
        }
        // `Instant::now()` plus a deadline must not overflow.
        let recovery = &mut self.recovery;
        for limit in [
            &mut self.connect_timeout,
            &mut self.operation_timeout,
            &mut recovery.initial_delay,
            &mut recovery.max_delay,
            &mut recovery.refused_for,
        ] {
            *limit = LONGEST_TIMEOUT.min(*limit);
        }
        if self.hosts.is_empty() {
            self.hosts.push(Host::new("localhost", if self.tls.is_some() { 5671 } else { 5672 }));
        }
        if self.frame_max < 4096 {
            return Err(Error::invalid(format!(
                "frame_max is {}; AMQP 0-9-1 has at least 4096",
                self.frame_max
            )));
        }
        if self.channel_max == 0 {
            return Err(Error::invalid("channel_max is 0; at least 1 channel is needed"));
        }
        self.credentials.check(&self.hosts)?;
        // Each client has its own, also where several are made with the same options.
        self.secrets = Arc::default();
        if self.vhost.len() > 255 {
            return Err(Error::invalid("the virtual host's name is over 255 bytes"));
        }
        if self.window_messages == 0 || self.window_bytes == 0 {
            return Err(Error::invalid("a window of 0 would never admit a publish"));
        }
        if self.delivery_buffer == 0 {
            return Err(Error::invalid("a delivery_buffer of 0 would never read from the broker"));
        }
        if self.heartbeat.subsec_nanos() != 0 || self.heartbeat.as_secs() > u64::from(u16::MAX) {
            return Err(Error::invalid("the heartbeat is in whole seconds, 65535 at most"));
        }
        if self.connect_timeout.is_zero() || self.operation_timeout.is_zero() {
            return Err(Error::invalid("a timeout of 0 leaves no time for anything"));
        }
        for (key, value) in &self.client_properties {
            if key.as_str() == "capabilities" && !matches!(value, AMQPValue::FieldTable(_)) {
                return Err(Error::invalid("the client property 'capabilities' is set by the client"));
            }
        }
        Ok(self)
    }
}

/// What carries connections to the embedded broker of this name.
#[cfg(feature = "broker")]
// The other build has an error to give.
#[allow(clippy::unnecessary_wraps)]
fn embedded(name: &str) -> Result<Arc<dyn Connector>> {
    Ok(Arc::new(crate::broker::Broker::named(name)))
}

#[cfg(not(feature = "broker"))]
fn embedded(name: &str) -> Result<Arc<dyn Connector>> {
    Err(Error::invalid(format!(
        "memory://{name}: this build has no embedded broker; enable the cargo feature 'broker'"
    )))
}
