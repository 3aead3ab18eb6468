//! The transport URL (`rabbit://user:password@host:port,user:password@host:port/vhost?option=value`) and the options of
//! `[oslo_messaging_rabbit]`, with the names and defaults that operators know.

use std::{collections::BTreeSet, time::Duration};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{Compression, Error, Result};
use crate::{Mechanism, Options, TlsOptions};

/// How to connect, and which exchanges and queues to expect.
///
/// ```
/// # use murano_messaging::oslo::Config;
/// let config = Config::from_url("rabbit://nova:secret@rabbit-1:5672,nova:secret@rabbit-2:5672/nova?rabbit_quorum_queue=true")?
///     .option("heartbeat_timeout_threshold", "30")?
///     .option("ssl", "true")?;
/// # Ok::<(), murano_messaging::oslo::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    options: Options,
    /// The options that the URL gave: no other source overrides them.
    from_url: BTreeSet<String>,
    tls: Tls,
    pub(super) control_exchange: String,
    pub(super) durable_queues: bool,
    pub(super) auto_delete: bool,
    pub(super) quorum_queue: bool,
    pub(super) transient_quorum_queue: bool,
    pub(super) quorum_delivery_limit: u32,
    pub(super) quorum_max_memory_length: u64,
    pub(super) quorum_max_memory_bytes: u64,
    pub(super) stream_fanout: bool,
    pub(super) transient_queues_ttl: Duration,
    pub(super) prefetch: u16,
    pub(super) missing_consumer_retry: Duration,
    pub(super) response_timeout: Duration,
    pub(super) compression: Option<Compression>,
}

#[derive(Clone, Debug, Default)]
struct Tls {
    enabled: bool,
    ca_file: String,
    cert_file: String,
    key_file: String,
    skip_hostname: bool,
}

/// Options of the stock driver that have no meaning here, and are accepted: pools of connections, which are two per
/// transport; how kombu reconnects, which the engine does in its own way; what only Python has.
const WITHOUT_MEANING: &[&str] = &[
    "conn_pool_min_size",
    "conn_pool_ttl",
    "direct_mandatory_flag",
    "enable_cancel_on_failover",
    "heartbeat_rate",
    "hostname",
    "kombu_failover_strategy",
    "kombu_reconnect_delay",
    "kombu_reconnect_splay",
    "processname",
    "rabbit_ha_queues",
    "rabbit_interval_max",
    "rabbit_retry_backoff",
    "rabbit_retry_interval",
    "rpc_conn_pool_size",
    "ssl_enforce_fips_mode",
    "ssl_version",
    "use_queue_manager",
];

/// The defaults of the stock driver, with a broker on this machine.
impl Default for Config {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl Config {
    /// The configuration of a transport URL, or of the embedded broker's `memory://name`. Hosts are tried in random order,
    /// so that the instances of a service spread; each has its own credentials, `guest` where there are none.
    ///
    /// [`Error::Invalid`] for a URL that is none and for an option in its query that is not known. No error repeats a
    /// password.
    pub fn from_url(url: &str) -> Result<Self> {
        let url = url.trim();
        let (scheme, rest) = url.split_once("://").ok_or_else(|| {
            Error::Invalid("the transport URL has no scheme: it begins with rabbit://".into())
        })?;
        let (options, query) = if scheme == "memory" {
            (Options::from_uri(url).map_err(Error::Messaging)?, "")
        } else {
            if !matches!(scheme, "rabbit" | "murano" | "kombu" | "amqp") {
                return Err(Error::Invalid(format!(
                    "the transport URL's scheme {scheme:?} is not known; rabbit and murano are"
                )));
            }
            let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
            (options(address)?, query)
        };
        let mut config = Self::new(options);
        let mut from_url = BTreeSet::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8_lossy();
            config = config.option(name, &value)?;
            from_url.insert(name.to_owned());
        }
        config.from_url = from_url;
        Ok(config)
    }

    /// The defaults of the stock driver, over the options of a client.
    pub(super) fn new(options: Options) -> Self {
        Self {
            options: options.heartbeat(Duration::from_secs(60)),
            from_url: BTreeSet::new(),
            tls: Tls::default(),
            control_exchange: "openstack".into(),
            durable_queues: false,
            auto_delete: false,
            quorum_queue: false,
            transient_quorum_queue: false,
            quorum_delivery_limit: 0,
            quorum_max_memory_length: 0,
            quorum_max_memory_bytes: 0,
            stream_fanout: false,
            transient_queues_ttl: Duration::from_secs(1800),
            prefetch: 0,
            missing_consumer_retry: Duration::from_secs(60),
            response_timeout: Duration::from_secs(60),
            compression: None,
        }
    }

    /// Sets one option by its name in the configuration file: those of `[oslo_messaging_rabbit]`, and `control_exchange`
    /// and `rpc_response_timeout` of `[DEFAULT]`. Values are written as in that file; durations are in seconds. What the
    /// URL's query says is not overridden.
    ///
    /// With `ssl` and without `ssl_ca_file` the broker's certificate is verified by the system's authorities, where the
    /// stock driver verifies nothing.
    pub fn option(mut self, name: &str, value: &str) -> Result<Self> {
        if self.from_url.contains(name) {
            return Ok(self);
        }
        match name {
            "control_exchange" => self.control_exchange = value.into(),
            "rpc_response_timeout" => self.response_timeout = seconds(name, value)?,
            "amqp_durable_queues" => self.durable_queues = boolean(name, value)?,
            "amqp_auto_delete" => self.auto_delete = boolean(name, value)?,
            "rabbit_quorum_queue" => self.quorum_queue = boolean(name, value)?,
            "rabbit_transient_quorum_queue" => self.transient_quorum_queue = boolean(name, value)?,
            "rabbit_quorum_delivery_limit" => self.quorum_delivery_limit = number(name, value)?,
            "rabbit_quorum_max_memory_length" => self.quorum_max_memory_length = number(name, value)?,
            "rabbit_quorum_max_memory_bytes" => self.quorum_max_memory_bytes = number(name, value)?,
            "rabbit_stream_fanout" => self.stream_fanout = boolean(name, value)?,
            "rabbit_transient_queues_ttl" => self.transient_queues_ttl = seconds(name, value)?,
            "rabbit_qos_prefetch_count" => self.prefetch = number(name, value)?,
            "kombu_missing_consumer_retry_timeout" => self.missing_consumer_retry = seconds(name, value)?,
            "heartbeat_timeout_threshold" => self.options = self.options.heartbeat(seconds(name, value)?),
            "rabbit_login_method" => self.options = self.options.mechanism(mechanism(value)?),
            "kombu_compression" if matches!(value, "" | "None") => self.compression = None,
            "kombu_compression" => {
                let compression =
                    Compression::from_name(value).ok_or_else(|| invalid(name, value, "gzip or bz2"))?;
                self.compression = Some(compression);
            }
            "ssl" => self.tls.enabled = boolean(name, value)?,
            "ssl_ca_file" => self.tls.ca_file = value.into(),
            "ssl_cert_file" => self.tls.cert_file = value.into(),
            "ssl_key_file" => self.tls.key_file = value.into(),
            "ssl_enforce_hostname_verification" => self.tls.skip_hostname = !boolean(name, value)?,
            name if WITHOUT_MEANING.contains(&name) => {}
            name => {
                return Err(Error::Invalid(format!(
                    "no option of [oslo_messaging_rabbit] is called {name:?}"
                )));
            }
        }
        Ok(self)
    }

    /// Changes what the options of oslo.messaging do not reach, e.g. the deadlines of the client's operations.
    pub fn client_options(mut self, change: impl FnOnce(Options) -> Options) -> Self {
        self.options = change(self.options);
        self
    }

    /// The options of the client, checked.
    pub(super) fn to_client_options(&self) -> Result<Options> {
        if self.stream_fanout && !(self.prefetch > 0 && self.transient_quorum_queue) {
            return Err(Error::Invalid(
                "rabbit_stream_fanout needs rabbit_qos_prefetch_count above 0 and rabbit_transient_quorum_queue".into(),
            ));
        }
        let tls = &self.tls;
        if !tls.enabled {
            return Ok(self.options.clone());
        }
        let mut options = TlsOptions::new().verify_hostname(!tls.skip_hostname);
        if !tls.ca_file.is_empty() {
            options = options.ca_file(&tls.ca_file);
        }
        if !tls.cert_file.is_empty() {
            // A file may have both.
            let key = if tls.key_file.is_empty() { &tls.cert_file } else { &tls.key_file };
            options = options.identity_files(&tls.cert_file, key);
        }
        Ok(self.options.clone().tls(options))
    }

    /// Whether topic queues, and the exchange they are bound to, survive a restart of the broker.
    pub(super) fn durable(&self) -> bool {
        self.durable_queues || self.quorum_queue
    }
}

/// The client's options from `user:password@host:port,…/vhost`. The core reads the hosts; what it wants in the list and
/// transport URLs may leave out is put there.
fn options(address: &str) -> Result<Options> {
    let (hosts, vhost) = address.split_once('/').unwrap_or((address, ""));
    let mut hosts: Vec<&str> = hosts.split(',').filter(|host| !host.is_empty()).collect();
    fastrand::shuffle(&mut hosts);
    let hosts = if hosts.is_empty() { "localhost".into() } else { hosts.join(",") };
    let vhost = percent_decode_str(vhost).decode_utf8_lossy();
    let mut uri = format!("amqp://{hosts}");
    if !vhost.is_empty() {
        uri.push('/');
        uri.extend(utf8_percent_encode(&vhost, NON_ALPHANUMERIC));
    }
    Options::from_uri(&uri).map_err(Error::Messaging)
}

fn invalid(name: &str, value: &str, expected: &str) -> Error {
    Error::Invalid(format!("{name} = {value:?}: {expected} is expected"))
}

fn boolean(name: &str, value: &str) -> Result<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Ok(true),
        "false" | "0" | "off" | "no" => Ok(false),
        _ => Err(invalid(name, value, "true or false")),
    }
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T> {
    value.trim().parse().map_err(|_| invalid(name, value, "a whole number in range"))
}

fn seconds(name: &str, value: &str) -> Result<Duration> {
    number(name, value).map(Duration::from_secs)
}

fn mechanism(value: &str) -> Result<Mechanism> {
    match value {
        "PLAIN" => Ok(Mechanism::Plain),
        "AMQPLAIN" => Ok(Mechanism::AmqPlain),
        "EXTERNAL" => Ok(Mechanism::External),
        _ => Err(invalid("rabbit_login_method", value, "PLAIN, AMQPLAIN or EXTERNAL")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transport_url_says_where_and_how() {
        let config =
            Config::from_url("rabbit://nova:se%2Fcret@rabbit-1:5673/nova%2Fcell?rabbit_quorum_queue=true")
                .unwrap();
        assert_eq!(config.options.virtual_host(), "nova/cell");
        assert_eq!(config.options.host_list()[0].to_string(), "rabbit-1:5673");
        assert!(config.durable() && config.quorum_queue);
        // The query of the URL wins.
        let config = config.option("rabbit_quorum_queue", "false").unwrap();
        assert!(config.quorum_queue);
        let config = Config::from_url("rabbit://").unwrap();
        assert_eq!(config.options.host_list()[0].to_string(), "localhost:5672");
        assert_eq!(Config::from_url("rabbit://h//").unwrap().options.virtual_host(), "/");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for url in [
            "nova:secret@rabbit",
            "kafka://nova:secret@rabbit/",
            "rabbit://nova:secret@rabbit/?rabbit_quorum_queues=true",
            "rabbit://nova:secret@rabbit/?rabbit_quorum_queue=perhaps",
            "rabbit://nova:secret@rabbit:port/",
        ] {
            let error = Config::from_url(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn every_option_of_the_stock_driver_is_known() {
        let config = || Config::from_url("rabbit://localhost/").unwrap();
        let flags =
            ["ssl", "ssl_enforce_hostname_verification", "amqp_auto_delete", "rabbit_transient_quorum_queue"];
        for (name, value) in flags.iter().map(|name| (*name, "True")).chain([
            ("heartbeat_timeout_threshold", "0"),
            ("kombu_compression", "bz2"),
            ("kombu_compression", "None"),
            ("kombu_missing_consumer_retry_timeout", "5"),
            ("rabbit_login_method", "PLAIN"),
            ("rabbit_quorum_delivery_limit", "5"),
            ("rabbit_transient_queues_ttl", "60"),
            ("ssl_ca_file", "/ca.pem"),
        ]) {
            config().option(name, value).unwrap();
        }
        for name in WITHOUT_MEANING {
            config().option(name, "whatever").unwrap();
        }
        assert!(config().option("rabbit_qos_prefetch_count", "70000").is_err());
        assert!(config().option("rabbit_stream_fanout", "true").unwrap().to_client_options().is_err());
    }
}
