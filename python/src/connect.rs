//! Connecting: a URI and keyword arguments as the options of the core.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use murano_messaging::{Error, Host, Mechanism, Options, Recovery, TlsOptions};
use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBool, PyDict, PyInt, PyString, PyTuple, PyType},
};
use tokio::runtime::Handle;

use crate::{
    arguments::{self, flag, number, one_of, path, text, unexpected, utf8},
    errors,
    errors::OrPyErr,
    outcome::{Outcome, run},
    runtime,
    service::{self, Source},
    time, value,
    wait::{Api, operation::Operation},
};

const MECHANISMS: [(&str, Mechanism); 3] =
    [("plain", Mechanism::Plain), ("amqplain", Mechanism::AmqPlain), ("external", Mechanism::External)];

/// What is said of TLS.
#[derive(Default)]
struct Tls {
    /// The first of these arguments that was given.
    given: Option<String>,
    wanted: Option<bool>,
    ca: Option<Pem>,
    certificate: Option<Pem>,
    key: Option<Pem>,
    changes: Vec<Box<dyn FnOnce(TlsOptions) -> TlsOptions>>,
}

enum Pem {
    File(String),
    Bytes(Vec<u8>),
}

/// The two ways to give one thing exclude each other.
fn give(slot: &mut Option<Pem>, what: &str, pem: Pem) -> PyResult<()> {
    match slot.replace(pem) {
        None => Ok(()),
        Some(_) => Err(errors::invalid(format!("{what}_file and {what}_pem are both given: leave out one"))),
    }
}

impl Tls {
    fn change(&mut self, change: impl FnOnce(TlsOptions) -> TlsOptions + 'static) {
        self.changes.push(Box::new(change));
    }

    fn apply(self, options: Options, from_uri: bool) -> PyResult<Options> {
        if self.wanted == Some(false) && (self.given.is_some() || options.tls_options().is_some()) {
            return Err(errors::invalid(
                "tls=False goes with an amqp:// URI and no other argument about TLS",
            ));
        }
        let Some(given) = self.given else { return Ok(options) };
        let base = match (options.tls_options(), from_uri, self.wanted) {
            (Some(tls), ..) => tls.clone(),
            (None, true, None) => {
                return Err(errors::invalid(format!(
                    "{given} is about TLS: use it with amqps://, or with tls=True"
                )));
            }
            _ => TlsOptions::new(),
        };
        let tls = self.changes.into_iter().fold(base, |tls, change| change(tls));
        let tls = match self.ca {
            None => tls,
            Some(Pem::File(path)) => tls.ca_file(path),
            Some(Pem::Bytes(bytes)) => tls.ca_pem(bytes),
        };
        let tls = match (self.certificate, self.key) {
            (None, None) => tls,
            (Some(Pem::File(certificate)), Some(Pem::File(key))) => tls.identity_files(certificate, key),
            (Some(Pem::Bytes(certificate)), Some(Pem::Bytes(key))) => tls.identity_pem(certificate, key),
            _ => {
                return Err(errors::invalid(
                    "a client certificate needs both cert_file and key_file, or both cert_pem and key_pem",
                ));
            }
        };
        Ok(options.tls(tls))
    }
}

fn pem(what: &str, given: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(text) = given.cast::<PyString>() {
        return Ok(utf8(what, text)?.into_bytes());
    }
    match value::bytes_like(given)? {
        Some(bytes) => Ok(bytes),
        None => Err(errors::wrong_type(what, "PEM as bytes or str", given)),
    }
}

/// What cannot be a host, or cannot be one alone: a URI, or several names in one.
fn not_a_host(text: &str) -> PyErr {
    // What is before an @ may be a password.
    let shown = text.rsplit('@').next().unwrap_or_default();
    errors::invalid(format!(
        "'{shown}' is not a host: name, name:port, [IPv6]:port or (name, port); several are a list, and a URI is the \
         first argument"
    ))
}

fn host(given: &Bound<'_, PyAny>, port: u16) -> PyResult<Host> {
    let (text, name, port) = if let Ok(pair) = given.cast::<PyTuple>() {
        let (name, port) = pair.extract::<(String, u16)>().map_err(|_| {
            PyTypeError::new_err("a host that is a pair must be a str and an int up to 65535")
        })?;
        (name.clone(), name, port)
    } else if let Ok(text) = given.cast::<PyString>() {
        let text = utf8("a host", text)?;
        let (name, after) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(|| not_a_host(&text))?,
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match after.strip_prefix(':') {
            Some(number) => number.parse().map_err(|_| not_a_host(&text))?,
            None if after.is_empty() => port,
            None => return Err(not_a_host(&text)),
        };
        let name = name.to_owned();
        (text, name, port)
    } else {
        return Err(errors::wrong_type("a host", "a str or a pair of str and int", given));
    };
    if name.is_empty() || text.contains([',', '/', '@', ' ']) {
        return Err(not_a_host(&text));
    }
    Ok(Host::new(name, port))
}

/// One host, or several.
fn hosts(given: &Bound<'_, PyAny>, port: u16) -> PyResult<Vec<Host>> {
    let is_pair = given.cast::<PyTuple>().is_ok_and(|pair| {
        pair.len() == 2 && pair.get_item(1).is_ok_and(|port| port.is_instance_of::<PyInt>())
    });
    if is_pair || given.is_instance_of::<PyString>() {
        return Ok(vec![host(given, port)?]);
    }
    let each = arguments::items("hosts", "a str, a pair of str and int, or a list of them", given)?;
    let hosts = each.map(|given| host(&given?, port)).collect::<PyResult<Vec<_>>>()?;
    if hosts.is_empty() {
        return Err(errors::invalid("hosts is empty: give one at least, or leave it out"));
    }
    Ok(hosts)
}

fn recovery(given: &Bound<'_, PyAny>) -> PyResult<Recovery> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    if let Ok(enabled) = given.cast::<PyBool>() {
        return Ok(Recovery { enabled: enabled.is_true(), ..Recovery::default() });
    }
    if !given.is_instance(CLASS.import(given.py(), "murano_messaging._types", "Recovery")?)? {
        return Err(errors::wrong_type("recovery", "a bool or a Recovery", given));
    }
    let duration = |name: &str| time::duration(name, &given.getattr(name)?);
    let flag = |name: &str| flag(name, &given.getattr(name)?);
    let max_elapsed = given.getattr("max_elapsed")?;
    let max_attempts = given.getattr("max_attempts")?;
    Ok(Recovery {
        enabled: flag("enabled")?,
        retry_initial: flag("retry_initial")?,
        max_attempts: (!max_attempts.is_none()).then(|| number("max_attempts", &max_attempts)).transpose()?,
        max_elapsed: (!max_elapsed.is_none())
            .then(|| time::duration("max_elapsed", &max_elapsed))
            .transpose()?,
        initial_delay: duration("initial_delay")?,
        max_delay: duration("max_delay")?,
        refused_for: duration("refused_for")?,
        republish: flag("republish")?,
    })
}

/// The options, and the function that knows the credentials if one was given.
fn options(
    py: Python<'_>,
    api: Api,
    uri: Option<&Bound<'_, PyAny>>,
    given: Option<&Bound<'_, PyDict>>,
) -> PyResult<(Options, Option<Arc<Source>>)> {
    let mut options = match uri {
        Some(uri) => Options::from_uri(&text("uri", uri)?).or_py(py)?,
        None => Options::new(),
    };
    let mut tls = Tls::default();
    let mut listed = None;
    let mut source = None;
    let mut user: (Option<String>, Option<String>) = (None, None);
    let mut window = (1000, 64 << 20);
    let mut recover = Recovery::default();
    let mut retry_initial = false;
    for option in arguments::given(given) {
        let (key, given) = option?;
        options = match key.as_str() {
            "hosts" => {
                listed = Some(given.clone());
                options
            }
            "username" => {
                user.0 = Some(text(&key, &given)?);
                options
            }
            "password" => {
                user.1 = Some(text(&key, &given)?);
                options
            }
            "credentials" => {
                let known = source.insert(Source::new(&given, api)?).clone();
                options.credentials_from(move || service::credentials(known.clone()))
            }
            "vhost" => options.vhost(text(&key, &given)?),
            "mechanism" => {
                let lower = PyString::new(py, &text(&key, &given)?.to_ascii_lowercase());
                options.mechanism(one_of(&key, &lower, &MECHANISMS)?)
            }
            "connection_name" => options.connection_name(text(&key, &given)?),
            "client_properties" => (&value::table(&key, &given)?)
                .into_iter()
                .fold(options, |options, (key, value)| options.client_property(key.as_str(), value.clone())),
            "heartbeat" => options.heartbeat(time::duration(&key, &given)?),
            "frame_max" => options.frame_max(number(&key, &given)?),
            "channel_max" => options.channel_max(number(&key, &given)?),
            "connect_timeout" => options.connect_timeout(time::duration(&key, &given)?),
            "timeout" => options.operation_timeout(time::duration(&key, &given)?),
            "window_messages" => {
                window.0 = number(&key, &given)?;
                options
            }
            "window_bytes" => {
                window.1 = number(&key, &given)?;
                options
            }
            "delivery_buffer" => options.delivery_buffer(number(&key, &given)?),
            "max_body_size" => options.max_body_size(number(&key, &given)?),
            "recovery" => {
                recover = recovery(&given)?;
                options
            }
            "retry_initial" => {
                retry_initial = flag(&key, &given)?;
                options
            }
            "separate_publish_connection" => options.separate_publish_connection(flag(&key, &given)?),
            "short_lived" => options.short_lived(flag(&key, &given)?),
            "seed" => options.seed(number(&key, &given)?),
            _ => {
                tls_option(&mut tls, &key, &given)?;
                options
            }
        };
    }
    recover.retry_initial |= retry_initial;
    options = options.window(window.0, window.1).recovery(recover);
    options = match user {
        (None, None) => options,
        _ if source.is_some() => {
            return Err(errors::invalid("username and password are given, or credentials, not both"));
        }
        (Some(name), Some(password)) => options.credentials(name, password),
        _ => return Err(errors::invalid("username and password are given together")),
    };
    options = tls.apply(options, uri.is_some())?;
    if let Some(listed) = listed {
        let port = if options.tls_options().is_some() { 5671 } else { 5672 };
        options = options.hosts(hosts(&listed, port)?);
    }
    Ok((options, source))
}

fn tls_option(tls: &mut Tls, key: &str, given: &Bound<'_, PyAny>) -> PyResult<()> {
    match key {
        "tls" => tls.wanted = Some(flag(key, given)?),
        "ca_file" => give(&mut tls.ca, "ca", Pem::File(path(key, given)?))?,
        "ca_pem" => give(&mut tls.ca, "ca", Pem::Bytes(pem(key, given)?))?,
        "cert_file" => give(&mut tls.certificate, "cert", Pem::File(path(key, given)?))?,
        "cert_pem" => give(&mut tls.certificate, "cert", Pem::Bytes(pem(key, given)?))?,
        "key_file" => give(&mut tls.key, "key", Pem::File(path(key, given)?))?,
        "key_pem" => give(&mut tls.key, "key", Pem::Bytes(pem(key, given)?))?,
        "insecure" => {
            let insecure = flag(key, given)?;
            tls.change(move |tls| tls.insecure(insecure));
        }
        "server_name" => {
            let name = text(key, given)?;
            tls.change(|tls| tls.server_name(name));
        }
        "sni" => {
            if !flag(key, given)? {
                tls.change(TlsOptions::disable_sni);
            }
        }
        "verify_hostname" => {
            let verify = flag(key, given)?;
            tls.change(move |tls| tls.verify_hostname(verify));
        }
        "pinned" => {
            let pinned = flag(key, given)?;
            tls.change(move |tls| tls.pinned(pinned));
        }
        _ => {
            return Err(unexpected("connect", key));
        }
    }
    if key != "tls" || tls.wanted == Some(true) {
        tls.given.get_or_insert_with(|| key.to_owned());
    }
    Ok(())
}

/// A future that is polled within the runtime: connecting starts a task there.
struct Within<F> {
    runtime: Handle,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let _runtime = this.runtime.enter();
        this.future.as_mut().poll(cx)
    }
}

fn connecting(
    py: Python<'_>,
    api: Api,
    uri: Option<&Bound<'_, PyAny>>,
    given: Option<&Bound<'_, PyDict>>,
) -> PyResult<impl Future<Output = Result<Outcome, Error>> + Send + 'static> {
    let (options, source) = options(py, api, uri, given)?;
    let future = Within { runtime: runtime::handle(py)?, future: Box::pin(options.connect()) };
    service::renew(py)?;
    Ok(async move {
        if api == Api::Asyncio
            && let Some(source) = &source
        {
            // Without a loop it is not going to wait.
            let _ = Python::attach(|py| source.note_loop(py));
        }
        Ok(Outcome::Client(api, Box::new(future.await?), source))
    })
}

/// Connects to RabbitMQ.
///
/// * `uri`: `amqp://user:password@host1,host2:5672/vhost?heartbeat=10`, or `amqps://` for TLS; `localhost` as guest without
///   one. `memory://name` is an embedded broker in this process, for tests; it lives as long as the process
///   (`murano_messaging.Broker` lets go of it).
/// * `hosts`: instead of those of the URI: `"host"`, `"host:port"`, `(host, port)`, or a list of them; the first that answers is
///   used.
/// * `username`, `password`; or `credentials`: a function that returns both, asked at each connect, in a thread of its own
///   (with asyncio it may be a coroutine function, which runs in the loop that awaited the connect, or in one of its own when
///   that has ended). `mechanism`: `"plain"`, `"amqplain"`, `"external"`. `vhost`: the virtual host.
/// * `tls`: whether to speak TLS, where no URI says so. `ca_file`, `ca_pem`: whom to trust instead of the system's
///   authorities. `cert_file` and `key_file`, `cert_pem` and `key_pem`: the client's certificate. `server_name`: the name to
///   expect in the broker's certificate. `verify_hostname=False`, `sni=False`; `insecure=True` accepts any certificate;
///   `pinned=True` accepts the very certificate that is in `ca_file`. PEM is bytes or str.
/// * `connection_name`, `client_properties`: what the broker shows of this connection.
/// * `heartbeat` (20 seconds, whole ones, 0 for none): a silent peer is noticed within two. `connect_timeout` (10 seconds, over all hosts);
///   `timeout` (30 seconds): of every other operation. All are seconds or `timedelta`.
/// * `frame_max` (131072 bytes), `channel_max` (2047).
/// * `window_messages` (1000), `window_bytes` (64 MiB): how much may be unconfirmed; then publishing waits.
/// * `delivery_buffer` (256 MiB): undelivered body bytes at which the connection stops reading. `max_body_size` (128 MiB):
///   a larger message is rejected.
/// * `recovery`: a `Recovery`, or whether to reconnect at all. `retry_initial`: whether the first connect is retried too.
/// * `separate_publish_connection` (True): publishing has a connection of its own, opened at the first publish, so that a
///   broker that blocks publishers does not stop consuming.
/// * `short_lived` (False): for a client that is made for one message or a few; that it is connected, and that the broker blocks
///   publishers, is logged at DEBUG.
/// * `seed`: makes message ids, consumer tags and delays the same again.
///
/// Raises `ConnectFailedError`, `AuthenticationError`, `VhostRefusedError`, `TlsError`, `LimitReachedError`,
/// `InvalidArgumentError`. No error contains the password.
#[pyfunction]
#[pyo3(
    signature = (uri=None, **options),
    text_signature = "(uri=None, *, hosts=None, username=None, password=None, credentials=None, vhost=None, mechanism=None, tls=None, ca_file=None, ca_pem=None, cert_file=None, cert_pem=None, key_file=None, key_pem=None, insecure=None, server_name=None, sni=None, verify_hostname=None, pinned=None, connection_name=None, client_properties=None, heartbeat=None, frame_max=None, channel_max=None, connect_timeout=None, timeout=None, window_messages=None, window_bytes=None, delivery_buffer=None, max_body_size=None, recovery=None, retry_initial=None, separate_publish_connection=None, short_lived=None, seed=None)"
)]
pub fn connect<'py>(
    py: Python<'py>,
    uri: Option<&Bound<'py, PyAny>>,
    options: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    run(py, Api::Blocking, connecting(py, Api::Blocking, uri, options)?)
}

/// Connects to RabbitMQ: to be awaited, or used with `async with`.
///
/// Arguments and errors are those of `murano_messaging.connect`.
#[pyfunction]
#[pyo3(
    name = "connect",
    signature = (uri=None, **options),
    text_signature = "(uri=None, *, hosts=None, username=None, password=None, credentials=None, vhost=None, mechanism=None, tls=None, ca_file=None, ca_pem=None, cert_file=None, cert_pem=None, key_file=None, key_pem=None, insecure=None, server_name=None, sni=None, verify_hostname=None, pinned=None, connection_name=None, client_properties=None, heartbeat=None, frame_max=None, channel_max=None, connect_timeout=None, timeout=None, window_messages=None, window_bytes=None, delivery_buffer=None, max_body_size=None, recovery=None, retry_initial=None, separate_publish_connection=None, short_lived=None, seed=None)"
)]
pub fn connect_asyncio<'py>(
    py: Python<'py>,
    uri: Option<&Bound<'py, PyAny>>,
    options: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, Connecting>> {
    let operation = Operation::keeping(Box::pin(connecting(py, Api::Asyncio, uri, options)?));
    Bound::new(py, PyClassInitializer::from(operation).add_subclass(Connecting))
}

/// A connection that is being made: `await` it, or use it with `async with`.
#[pyclass(frozen, extends = Operation, module = "murano_messaging.aio")]
pub struct Connecting;

#[pymethods]
impl Connecting {
    fn __aenter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __aexit__<'py>(
        slf: &Bound<'py, Self>,
        kind: Option<Bound<'py, PyType>>,
        error: Option<Bound<'py, PyAny>>,
        traceback: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        match slf.as_super().get().take_kept() {
            Some(client) => {
                client.bind(py).call_method1(pyo3::intern!(py, "__aexit__"), (kind, error, traceback))
            }
            None => run(py, Api::Asyncio, async { Ok(Outcome::None) }),
        }
    }
}
