//! Connecting, in both apis.

mod examining;
mod hosts;
mod options;
mod tls;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use murano_messaging::{Client, Error};
use pyo3::{
    prelude::*,
    types::{PyDict, PyType},
};
use tokio::runtime::Handle;

pub use self::examining::_examine;
use crate::{
    client,
    outcome::{IntoPython, run},
    runtime,
    service::{self, Source},
    wait::{Api, operation::Operation},
};

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

/// A client of the core, and the function that knows its credentials.
struct Connected {
    api: Api,
    core: Client,
    source: Option<Arc<Source>>,
}

impl IntoPython for Connected {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        client::to_python(py, self.api, self.core, self.source)
    }
}

fn connecting(
    py: Python<'_>,
    api: Api,
    uri: Option<&Bound<'_, PyAny>>,
    given: Option<&Bound<'_, PyDict>>,
) -> PyResult<impl Future<Output = Result<Connected, Error>> + Send + 'static> {
    let (options, source) = options::options(py, api, uri, given)?;
    let future = Within { runtime: runtime::handle(py)?, future: Box::pin(options.connect()) };
    service::renew(py)?;
    Ok(async move {
        if api == Api::Asyncio
            && let Some(source) = &source
        {
            // Without a loop it is not going to wait.
            let _ = Python::attach(|py| source.note_loop(py));
        }
        Ok(Connected { api, core: future.await?, source })
    })
}

#[doc = signature!(connect)]
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
///   authorities; `system_roots=True`: both. `cert_file` and `key_file`, `cert_pem` and `key_pem`: the client's certificate; `key_password`: that of
///   an encrypted key (PKCS#8 with AES). `server_name`: the name to
///   expect in the broker's certificate. `verify_hostname=False`, `sni=False`; `insecure=True` accepts any certificate;
///   `pinned=True` accepts the very certificate that is in `ca_file`. PEM is bytes or str. Revocation is not checked.
/// * `connection_name`, `client_properties`: what the broker shows of this connection.
/// * `heartbeat` (20 seconds, whole ones, 0 for none): a silent peer is noticed within two. `connect_timeout` (10 seconds, over all hosts);
///   `timeout` (30 seconds): of every other operation. All are seconds or `timedelta`.
/// * `frame_max` (131072 bytes), `channel_max` (2047).
/// * `window_messages` (1000), `window_bytes` (64 MiB): how much may be unconfirmed; then publishing waits.
/// * `mandatory` (True): whether a publish fails that no queue takes, where `publish` does not say so itself.
/// * `delivery_buffer` (256 MiB): undelivered body bytes at which the connection stops reading. `max_body_size` (128 MiB):
///   a larger message ends its consumer, unless `discard_oversize`.
/// * `discard_oversize` (False): whether a message over `max_body_size` is rejected (dead-lettered if its queue says so) and the consumer continues.
/// * `recovery`: a `Recovery`, or whether to reconnect at all. `retry_initial`: whether the first connect is retried too.
/// * `separate_publish_connection` (True): publishing has a connection of its own, opened at the first publish, so that a
///   broker that blocks publishers does not stop consuming.
/// * `short_lived` (False): for a client that is made for one message or a few; that it is connected, and that the broker blocks
///   publishers, is logged at DEBUG.
/// * `seed`: makes message ids, consumer tags and delays the same again.
///
/// Raises `ConnectFailedError` (nobody answers), `ConnectionLostError` or `ConnectionForcedError` (a peer that accepts and closes),
/// `ProtocolError` (no AMQP server), `TlsError`, `LimitReachedError`, all of them a `ConnectionError`; `AuthenticationError`,
/// `VhostRefusedError`, `InvalidArgumentError`. With `retry_initial` the former are retried for as long as `recovery` says, and a
/// login or virtual host that is refused raises at once all the same. No error contains the password.
#[pyfunction]
#[pyo3(signature = (uri=None, **options), text_signature = None)]
pub fn connect<'py>(
    py: Python<'py>,
    uri: Option<&Bound<'py, PyAny>>,
    options: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    run(py, Api::Blocking, connecting(py, Api::Blocking, uri, options)?)
}

#[doc = signature!(connect)]
/// Connects to RabbitMQ: to be awaited, or used with `async with`.
///
/// Arguments and errors are those of `murano_messaging.connect`.
#[pyfunction]
#[pyo3(name = "connect", signature = (uri=None, **options), text_signature = None)]
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
            None => run(py, Api::Asyncio, async { Ok(()) }),
        }
    }
}
