//! Puka's client: its connection, and what every method needs.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use murano_messaging::{Client as Core, Host, Options, Publisher, Recovery, TlsOptions, Value};
use pyo3::{
    prelude::*,
    types::{PyDict, PyString},
};

use super::{
    arguments,
    fields::{self, BodyType},
    frames::{self, Given},
    promises::{Operation, Promises, Work},
};
use crate::{errors, process::Owned, runtime};

/// A longer timeout is as good as this one.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Far more than there can be; half of it, so that sums do not overflow.
const UNBOUNDED: usize = usize::MAX / 2;

/// Bytes of a publish without its body, names and properties: three frames, and the fixed fields of two.
pub const AROUND_A_BODY: usize = 3 * 8 + 9 + 14;

/// The route that was published on last: a program that publishes a lot often does so along one.
pub struct LastRoute {
    pub exchange: Py<PyAny>,
    pub routing_key: Py<PyAny>,
    pub publisher: Publisher,
}

/// The state of a client; its methods are those that wait.
#[pyclass(frozen, subclass, weakref, module = "murano_messaging.compat.puka")]
pub struct PukaBase {
    promises: Owned<Promises>,
    pub last: Mutex<Option<LastRoute>>,
    /// Bytes that were queued by publishes and not sent: their bodies, and [`AROUND_A_BODY`] for each.
    pub unsent: AtomicUsize,
    pub broken: AtomicBool,
    settings: Mutex<Settings>,
}

#[derive(Clone, Copy, Default)]
struct Settings {
    body_type: BodyType,
    /// The module was imported with eventlet's green modules.
    green: bool,
}

impl PukaBase {
    pub fn new() -> Self {
        Self {
            promises: Owned::new(Promises::new()),
            last: Mutex::default(),
            unsent: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            settings: Mutex::default(),
        }
    }

    /// How bodies are handed out, and whether waits yield to eventlet although nothing is monkey-patched.
    pub fn configure(&self, body_type: BodyType, green: bool) {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Settings { body_type, green };
    }

    pub fn promises(&self) -> PyResult<&Promises> {
        self.promises.get()
    }

    /// As [`Self::promises`], where no exception can be made: `None` in a forked child.
    pub fn own_promises(&self) -> Option<&Promises> {
        if self.promises.is_inherited() { None } else { self.promises.get().ok() }
    }

    fn settings(&self) -> Settings {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_green(&self) -> bool {
        self.settings().green
    }

    /// The connection; Puka's way of saying that there is none.
    pub fn core(&self, py: Python<'_>) -> PyResult<std::sync::Arc<Core>> {
        self.promises()?.drain();
        self.promises()?.client().ok_or_else(|| no_connection(py))
    }

    pub fn to_python<'py>(
        &self,
        py: Python<'py>,
        given: &Given,
        promise: u64,
    ) -> PyResult<Bound<'py, PyDict>> {
        frames::to_python(py, given, promise, self.settings().body_type)
    }

    /// Sends what was queued; `now` if the caller is about to wait for it.
    pub fn flush(&self, py: Python<'_>, now: bool) -> PyResult<()> {
        if self.unsent.swap(0, Ordering::Relaxed) > 0
            && let Some(core) = self.promises()?.client()
        {
            if now {
                core.flush();
            } else {
                core.flush_later();
                runtime::call_back(py);
            }
        }
        Ok(())
    }

    /// A promise of what `work` comes to.
    pub fn promise(&self, work: Operation, callback: Option<Bound<'_, PyAny>>) -> PyResult<u64> {
        Ok(self.promises()?.add(Work::Operation(work), arguments::callback(callback)))
    }

    /// The connection, with what was published before on its way.
    pub fn ready(&self, py: Python<'_>) -> PyResult<std::sync::Arc<Core>> {
        self.flush(py, true)?;
        self.core(py)
    }
}

/// `ConnectionBroken`: there is no connection to ask anything of.
pub fn no_connection(py: Python<'_>) -> PyErr {
    let broken = || {
        py.import("murano_messaging.compat.puka.exceptions")?
            .getattr("ConnectionBroken")?
            .call1(("there is no connection: call connect() and wait for it",))
    };
    match broken() {
        Ok(value) => PyErr::from_value(value),
        Err(error) => error,
    }
}

/// The options of the core for what `Client.connect` found out.
pub fn options(given: &Bound<'_, PyDict>) -> PyResult<Options> {
    let required =
        |name: &str| given.get_item(name)?.ok_or_else(|| errors::invalid(format!("{name} is missing")));
    let hosts: Vec<(String, u16)> = required("hosts")?.extract()?;
    let heartbeat = required("heartbeat")?.extract::<f64>()?;
    let mut options = Options::new()
        .hosts(hosts.into_iter().map(|(host, port)| Host::new(host, port)))
        .credentials(required("username")?.extract::<String>()?, required("password")?.extract::<String>()?)
        .vhost(required("vhost")?.extract::<String>()?)
        .heartbeat(Duration::from_secs(heartbeat as u64))
        .separate_publish_connection(false)
        .recovery(Recovery { enabled: false, ..Recovery::default() })
        // Puka has no deadlines of its own, and keeps whatever comes and goes.
        .connect_timeout(NEVER)
        .operation_timeout(NEVER)
        .window(UNBOUNDED, UNBOUNDED)
        .delivery_buffer(UNBOUNDED)
        .max_body_size(u64::MAX)
        .client_property("product", "Puka");
    let properties = fields::arguments(given.get_item("client_properties")?.as_ref())?;
    for (key, value) in &properties {
        // What a client can do is not for the application to say.
        if key.as_str() != "capabilities" {
            options = options.client_property(key.as_str(), Value::clone(value));
        }
    }
    if let Some(given) = given.get_item("tls")?.filter(|given| !given.is_none()) {
        options = options.tls(tls(given.cast::<PyDict>()?)?);
    }
    Ok(options)
}

fn tls(given: &Bound<'_, PyDict>) -> PyResult<TlsOptions> {
    let text = |name: &str| -> PyResult<Option<String>> {
        let value = given.get_item(name)?.filter(|value| !value.is_none());
        value.map(|value| Ok(value.cast::<PyString>()?.to_cow()?.into_owned())).transpose()
    };
    let mut tls = TlsOptions::new();
    if let Some(name) = text("server_name")? {
        tls = tls.server_name(name);
    }
    tls = match text("ca_certs")? {
        None => tls.insecure(true),
        Some(file) => {
            let check =
                given.get_item("check_hostname")?.is_some_and(|check| check.is_truthy().unwrap_or(true));
            tls.ca_file(file).verify_hostname(check).pinned(!check)
        }
    };
    if let Some(certificate) = text("certfile")? {
        let key = text("keyfile")?.unwrap_or_else(|| certificate.clone());
        tls = tls.identity_files(certificate, key);
    }
    Ok(tls)
}
