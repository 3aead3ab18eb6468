//! Every step between a program and its broker, checked by itself, with its time.
//!
//! A client says in one error why it cannot work. [`examine`] says how far it gets, what it finds on the way, and what to do:
//! name lookup, TCP, TLS, the broker's greeting, login, virtual host, limits, permissions, alarms, a confirmed publish and a
//! consume, the latter on a temporary queue. `murano-messaging doctor` prints that. The steps are a client's own: the same TLS
//! configuration, the same handshake, the same engine.

mod advice;
mod broker;
mod certificate;
mod network;

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::{
    Error, Result,
    options::{Host, Options},
};

/// What is checked, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Step {
    /// The host's name has addresses.
    NameLookup,
    /// An address accepts connections.
    Tcp,
    /// The handshake succeeds, and the broker's certificate is accepted.
    Tls,
    /// The peer speaks AMQP 0-9-1.
    Amqp,
    /// The broker accepts the login.
    Login,
    /// The virtual host can be entered.
    VirtualHost,
    /// What was agreed on: the size of frames, the number of channels, the heartbeat.
    Limits,
    /// A temporary queue can be declared and read.
    Permissions,
    /// The broker takes publishes: it has enough memory and disk.
    Alarms,
    /// A message is published and confirmed.
    Publish,
    /// The message is consumed and acked.
    Consume,
    /// The connection ends in order.
    Close,
}

/// What a check came to.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// The host that was examined, `name:port`.
    pub host: String,
    /// What was checked.
    pub step: Step,
    /// Whether it passed.
    pub ok: bool,
    /// How long it took.
    pub seconds: f64,
    /// What was found, or why it failed: one sentence.
    pub summary: String,
    /// More of what was found: the addresses, the certificates.
    pub notes: Vec<String>,
    /// What to do about a failure.
    pub advice: Option<String>,
    /// What was found, for programs.
    pub details: Map<String, Value>,
}

impl Check {
    /// The check as a line of JSON.
    pub fn to_json(&self) -> String {
        // Names, numbers and texts: nothing that JSON does not have.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Examines each host of `options` until a check of it fails, and calls `on_check` with each check as it is made.
///
/// Each step has [`Options::connect_timeout`] or [`Options::operation_timeout`] as its deadline. The temporary queue is called
/// `queue` (the broker names it if that is empty), is exclusive, and is gone at the end. A connector of the application's own is used as it is:
/// what is below it (name lookup, TCP, TLS) is not checked.
///
/// Must be called within a tokio runtime. Errors: [`crate::ErrorKind::InvalidArgument`] for options that cannot be used; what
/// fails later is a [`Check`] that is not `ok`.
pub async fn examine(
    options: Options,
    queue: &str,
    mut on_check: impl FnMut(&Check) + Send,
) -> Result<Vec<Check>> {
    let options = options.complete()?;
    if let Some(tls) = &options.tls {
        // Its files are read, and those that cannot be used are no fault of a host.
        tls.client_config()?;
    }
    let mut checks = Vec::new();
    for host in options.hosts.clone() {
        let name = host.to_string();
        let mut report = |check: Check| {
            on_check(&check);
            checks.push(check);
        };
        let mut examination = Examination { options: &options, queue, host, name, report: &mut report };
        // That it stopped is in the last check.
        let _ = examination.run().await;
    }
    Ok(checks)
}

/// The examination of one host ends at its first failure.
#[derive(Debug)]
struct Stopped;

type Outcome<T> = std::result::Result<T, Stopped>;

struct Examination<'a> {
    options: &'a Options,
    /// The name of the temporary queue.
    queue: &'a str,
    host: Host,
    name: String,
    report: &'a mut (dyn FnMut(Check) + Send),
}

/// What a check that passed has found.
#[derive(Default)]
struct Found {
    summary: String,
    notes: Vec<String>,
    details: Map<String, Value>,
}

impl Found {
    fn new(summary: impl Into<String>) -> Self {
        Self { summary: summary.into(), ..Self::default() }
    }

    fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    fn detail(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }
}

impl Examination<'_> {
    async fn run(&mut self) -> Outcome<()> {
        let connector = self.reach().await?;
        self.try_broker(connector).await
    }

    fn check(&mut self, step: Step, took: Duration, ok: bool, found: Found, advice: Option<String>) {
        let check = Check {
            host: self.name.clone(),
            step,
            ok,
            seconds: took.as_secs_f64(),
            summary: printable(&found.summary),
            notes: found.notes.iter().map(|note| printable(note)).collect(),
            advice,
            details: found.details,
        };
        (self.report)(check);
    }

    fn pass(&mut self, step: Step, took: Duration, found: Found) {
        self.check(step, took, true, found, None);
    }

    /// Reports a failure with what was found before it.
    fn fail<T>(&mut self, step: Step, began: Instant, error: &Error, mut found: Found) -> Outcome<T> {
        found.summary = error.to_string();
        found = found.detail("error", format!("{:?}", error.kind()));
        if let Some(code) = error.reply_code() {
            found = found.detail("reply_code", code);
        }
        if let Some(failure) = error.tls_failure() {
            found = found.detail("tls_failure", format!("{failure:?}"));
        }
        let advice = advice::on(step, error, &self.host, self.options);
        self.check(step, began.elapsed(), false, found, Some(advice));
        Err(Stopped)
    }
}

/// Text for a terminal: names in certificates and the broker's texts are the peer's to choose.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
