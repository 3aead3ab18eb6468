//! When and where to connect: at once, then with jittered exponential delay, round the hosts and their addresses.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{Engine, closed, io_loop::sleep_until};
use crate::{
    Error, ErrorKind, Result,
    callback::guarded,
    events::{Event, EventSender, Role},
    options::{Host, Options},
    wire::{
        handshake::{self, Opened},
        stream::{more_telling, no_address},
    },
};

/// What a failed attempt means for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The broker may be down or starting: again with the usual delay.
    Retry,
    /// The broker refused the login or the virtual host, which a node that is starting does too: again with the longest
    /// delay, for as long as `refused_for` says. Every other kind counts as this, so that an error of a credentials
    /// callback, which may read a file that is being replaced, is tried again as well.
    Refused,
}

fn verdict(kind: ErrorKind) -> Verdict {
    match kind {
        ErrorKind::ConnectFailed
        | ErrorKind::ConnectionLost
        | ErrorKind::ConnectionForced
        | ErrorKind::Timeout
        | ErrorKind::Protocol
        | ErrorKind::Tls => Verdict::Retry,
        _ => Verdict::Refused,
    }
}

/// The error of the last attempt, which says how many there were.
fn gave_up(error: Error, attempts: u32, elapsed: Duration) -> Error {
    if attempts == 1 {
        return error;
    }
    let text =
        format!("gave up after {attempts} attempts in {:.1} s; the last one: {error}", elapsed.as_secs_f64());
    error.with_message(text)
}

impl Engine {
    /// Connects, for as long as the options say. Commands are taken meanwhile; a close ends it, unless
    /// publishes wait for their outcome.
    pub(super) async fn connect(&mut self, initial: bool) -> Result<Opened> {
        let recovery = self.options.recovery.clone();
        // The publishing connection opens later, when the client is up: with recovery it retries as a reconnect does.
        let first_of_client = initial && (self.role == Role::Main || !recovery.enabled);
        let began = Instant::now();
        let mut refused_since: Option<Instant> = None;
        let mut last_error: Option<Error> = None;
        let mut backoff = recovery.initial_delay;
        // After a second connection in a row that did not last, a reconnect is delayed, and longer each time.
        let short_lived = self.opened_at.is_some_and(|opened| opened.elapsed() < recovery.max_delay);
        self.failures = if short_lived { self.failures.saturating_add(1) } else { 0 };
        let at_once = self.failures < 2;
        for _ in 2..self.failures {
            backoff = (backoff * 2).min(recovery.max_delay);
        }
        for attempt in 1u32.. {
            let delay = match &last_error {
                None if at_once => Duration::ZERO,
                Some(error) if verdict(error.kind()) == Verdict::Refused => recovery.max_delay,
                _ => {
                    let jittered = backoff.mul_f64(0.5 + self.rng.f64() / 2.0);
                    backoff = (backoff * 2).min(recovery.max_delay);
                    jittered
                }
            };
            if !initial || attempt > 1 {
                let last_error = last_error.take();
                self.events.send(Event::Recovering { role: self.role, attempt, delay, last_error });
            }
            if !delay.is_zero() {
                self.meanwhile(tokio::time::sleep(delay)).await?;
            }
            let hosts = pass(self.options.clone(), self.events.clone(), self.role, self.next_host);
            match self.meanwhile(hosts).await? {
                Ok((host, opened)) => {
                    self.next_host = host;
                    return Ok(opened);
                }
                Err(error) => {
                    let now = Instant::now();
                    // A limit on connections fails the first publishing connection at once, too: waiting does not help.
                    let refused_at_first =
                        first_of_client || (initial && error.kind() == ErrorKind::LimitReached);
                    let give_up = match verdict(error.kind()) {
                        _ if first_of_client && !recovery.retry_initial => true,
                        Verdict::Retry => {
                            refused_since = None;
                            false
                        }
                        Verdict::Refused => {
                            refused_at_first
                                || *refused_since.get_or_insert(now) + recovery.refused_for <= now
                        }
                    };
                    if give_up
                        || recovery.max_attempts.is_some_and(|max| attempt >= max)
                        || recovery.max_elapsed.is_some_and(|max| began.elapsed() >= max)
                    {
                        return Err(gave_up(error, attempt, began.elapsed()));
                    }
                    tracing::debug!(role = %self.role, attempt, %error, "connecting failed");
                    for publishing in self.windows() {
                        publishing.with(|window| window.connect_failed(&error));
                    }
                    self.next_host = (self.next_host + 1) % self.options.hosts.len().max(1);
                    last_error = Some(error);
                }
            }
        }
        Err(closed())
    }

    /// Waits for `future` while commands are taken and deadlines kept. `Err` when the client is closed meanwhile and has
    /// nothing left to publish.
    async fn meanwhile<F: Future>(&mut self, future: F) -> Result<F::Output> {
        let mut future = std::pin::pin!(future);
        let link = self.link.clone();
        loop {
            self.defer_mail();
            if self.close_is_done() {
                return Err(closed());
            }
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                output = future.as_mut() => return Ok(output),
                () = sleep_until(deadline) => self.expire(),
                () = link.woken() => {}
            }
        }
    }
}

/// Tries every host once, from `first` on, within the connect deadline; says which one answered.
async fn pass(
    options: Arc<Options>,
    events: EventSender,
    role: Role,
    first: usize,
) -> Result<(usize, Opened)> {
    let until = Instant::now() + options.connect_timeout;
    let count = options.hosts.len();
    let mut failed: Option<Error> = None;
    for step in 0..count {
        let place = (first + step) % count;
        let host = &options.hosts[place];
        events.send(Event::Connecting { role, host: host.to_string() });
        // A silent host must leave time for those after it.
        let share = (until - Instant::now()) / (count - step) as u32;
        match reach(&options, host, Instant::now() + share).await {
            Ok(opened) => return Ok((place, opened)),
            Err(error) => failed = Some(more_telling(failed, error)),
        }
    }
    let error = failed.unwrap_or_else(|| Error::invalid("no host was given"));
    if count < 2 || error.kind() != ErrorKind::ConnectFailed {
        return Err(error);
    }
    let all: Vec<String> = options.hosts.iter().map(ToString::to_string).collect();
    Err(Error::new(
        ErrorKind::ConnectFailed,
        format!("none of the hosts {} could be reached; the last one: {error}", all.join(", ")),
    )
    .with_source(error))
}

/// Tries the routes to a host, one after the other, until one leads to a broker that takes us.
async fn reach(options: &Options, host: &Host, until: Instant) -> Result<Opened> {
    let late = |what: &str| Error::new(ErrorKind::ConnectFailed, format!("{host}: {what}"));
    let credentials = timeout_at(until, options.credentials.get(host, &options.secrets))
        .await
        .map_err(|_| late("the credentials callback took too long"))??;
    let tls = options.tls.as_ref();
    let panicked = |_| Error::new(ErrorKind::ConnectFailed, format!("{host}: the connector panicked"));
    let routes = timeout_at(until, guarded(|| options.connector.routes(host, tls)));
    let mut routes =
        routes.await.map_err(|_| late("the name was not resolved in time"))?.map_err(panicked)??;
    let mut failed: Option<Error> = None;
    loop {
        // A silent address must leave time for those after it.
        let began = Instant::now();
        let deadline = began + (until - began) / (routes.left().max(1) as u32);
        let attempt = async {
            match routes.next() {
                Some(connecting) => Some(connecting.await),
                None => None,
            }
        };
        let result = match timeout_at(deadline, guarded(|| Box::pin(attempt))).await {
            Ok(Ok(None)) => break,
            Ok(Ok(Some(Ok(stream)))) => handshake::open(stream, options, &credentials, deadline).await,
            Ok(Ok(Some(Err(error)))) => Err(error),
            Ok(Err(panic)) => return Err(panicked(panic)),
            Err(_) => {
                let waited = began.elapsed().as_secs_f64();
                Err(late(&format!("no answer within {waited:.1} s; does RabbitMQ listen there?")))
            }
        };
        match result {
            Ok(opened) => return Ok(opened),
            // All addresses of a name know the same users.
            Err(error) if error.kind() == ErrorKind::Authentication => return Err(error),
            Err(error) => failed = Some(more_telling(failed, error)),
        }
        if until <= Instant::now() {
            break;
        }
    }
    Err(failed.unwrap_or_else(|| no_address(host)))
}
