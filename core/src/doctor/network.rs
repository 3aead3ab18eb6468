//! From the host's name to a byte stream.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{
    Examination, Found, Outcome, Step,
    certificate::{self, Certificate},
    milliseconds,
};
use crate::{
    Error, ErrorKind,
    options::{Host, Transport},
    tls::{TlsOptions, inspect::Seen},
    wire::stream::{Connecting, Connector, Stream, failed, no_address},
};

/// A certificate that has fewer days left than these is worth a word.
const SOON: i64 = 30;

/// Gives the engine the stream that was made before.
struct Made(Mutex<Option<Stream>>);

impl Connector for Made {
    fn connect<'a>(&'a self, host: &'a Host, _tls: Option<&'a TlsOptions>) -> Connecting<'a> {
        let stream = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let gone = || Error::new(ErrorKind::ConnectionLost, format!("{host}: the connection is used up"));
        Box::pin(std::future::ready(stream.ok_or_else(gone)))
    }
}

impl Examination<'_> {
    /// What the engine connects with: a stream that was made step by step. `None` where the options have something else than
    /// TCP.
    pub(super) async fn reach(&mut self) -> Outcome<Option<Arc<dyn Connector>>> {
        if self.options.transport != Transport::Tcp {
            return Ok(None);
        }
        let addresses = self.look_up().await?;
        let tcp = self.dial(&addresses).await?;
        let stream = match self.options.tls.clone() {
            Some(tls) => self.shake_hands(&tls, tcp).await?,
            None => Stream::tcp(tcp, self.name.clone()),
        };
        Ok(Some(Arc::new(Made(Mutex::new(Some(stream))))))
    }

    async fn look_up(&mut self) -> Outcome<Vec<SocketAddr>> {
        let began = Instant::now();
        let Host { host, port } = self.host.clone();
        let lookup = async { Ok(tokio::net::lookup_host((host.as_str(), port)).await?.collect()) };
        let looked_up: Result<io::Result<Vec<SocketAddr>>, _> =
            timeout(self.options.connect_timeout, lookup).await;
        let addresses = match looked_up {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                let text = format!("{}: the name cannot be resolved: {error}", self.name);
                let error = Error::new(ErrorKind::ConnectFailed, text).with_source(error);
                return self.fail(Step::NameLookup, began, &error, Found::default());
            }
            Err(_) => {
                let error = self.silent("the name was not resolved", self.options.connect_timeout);
                return self.fail(Step::NameLookup, began, &error, Found::default());
            }
        };
        if addresses.is_empty() {
            return self.fail(Step::NameLookup, began, &no_address(&self.host), Found::default());
        }
        let listed: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
        let summary = match self.host.host.parse::<std::net::IpAddr>() {
            Ok(_) => "is an address".to_owned(),
            Err(_) => format!("{} is {}", self.host.host, listed.join(", ")),
        };
        self.pass(Step::NameLookup, began.elapsed(), Found::new(summary).detail("addresses", listed));
        Ok(addresses)
    }

    fn silent(&self, what: &str, waited: Duration) -> Error {
        let text = format!("{}: {what} within {:.1} s", self.name, waited.as_secs_f64());
        Error::new(ErrorKind::ConnectFailed, text)
    }

    /// Tries every address, also after one has answered: a client may take any of them at the next connect.
    async fn dial(&mut self, addresses: &[SocketAddr]) -> Outcome<TcpStream> {
        let began = Instant::now();
        let share = self.options.connect_timeout / addresses.len().max(1) as u32;
        let mut found = Found::default();
        let mut tried = Vec::new();
        let mut connected = None;
        let mut refused = None;
        for address in addresses {
            let one = Instant::now();
            let said = match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    connected.get_or_insert((*address, stream));
                    format!("accepts connections ({})", milliseconds(one.elapsed()))
                }
                Ok(Err(error)) => {
                    let said = error.to_string();
                    refused = Some(failed(&self.host, error));
                    said
                }
                Err(_) => format!("no answer within {:.1} s", share.as_secs_f64()),
            };
            tried.push(Value::from(format!("{address}: {said}")));
            if addresses.len() > 1 {
                found = found.note(format!("{address}: {said}"));
            }
        }
        found = found.detail("addresses", tried);
        let Some((address, stream)) = connected else {
            let error = refused.unwrap_or_else(|| self.silent("no answer", began.elapsed()));
            return self.fail(Step::Tcp, began, &error, found);
        };
        // As a client's own.
        let _ = stream.set_nodelay(true);
        found.summary = format!("{address} accepts connections");
        self.pass(Step::Tcp, began.elapsed(), found);
        Ok(stream)
    }

    async fn shake_hands(&mut self, tls: &TlsOptions, tcp: TcpStream) -> Outcome<Stream> {
        let began = Instant::now();
        let wait = self.options.connect_timeout;
        let Ok((result, seen)) = timeout(wait, tls.inspect(&self.host, tcp)).await else {
            let text =
                format!("{}: no answer to the TLS handshake within {:.1} s", self.name, wait.as_secs_f64());
            let error = Error::new(ErrorKind::ConnectFailed, text);
            return self.fail(Step::Tls, began, &error, Found::default());
        };
        let chain: Vec<Option<Certificate>> = seen.chain.iter().map(|der| certificate::read(der)).collect();
        let found = describe(tls, &seen, &chain, result.is_ok());
        match result {
            Ok(stream) => {
                self.pass(Step::Tls, began.elapsed(), found);
                Ok(stream)
            }
            Err(error) => self.fail(Step::Tls, began, &error, found),
        }
    }
}

fn describe(tls: &TlsOptions, seen: &Seen, chain: &[Option<Certificate>], accepted: bool) -> Found {
    let mut found = Found::default();
    for (place, certificate) in chain.iter().enumerate() {
        let text = certificate.as_ref().map_or("is not readable".to_owned(), ToString::to_string);
        found = found.note(format!("certificate {}: {text}", place + 1));
    }
    let left = chain.iter().flatten().map(|one| one.days_left).min();
    if let Some(left) = left.filter(|left| accepted && *left < SOON) {
        found = found.note(format!("renew soon: {left} days are left"));
    }
    let verdict = match (tls.is_insecure(), accepted) {
        (true, _) => "the certificate is NOT verified (insecure)".to_owned(),
        (_, true) => format!("the certificate is accepted for '{}'", seen.name),
        (_, false) => "the certificate is not accepted".to_owned(),
    };
    if accepted {
        let name = |name: &Option<String>| name.as_deref().unwrap_or("?").replace("TLSv1_", "TLS 1.");
        found.summary = format!("{}, {}, {verdict}", name(&seen.version), name(&seen.cipher_suite));
        found = found.note("whether a certificate was revoked is not checked (CRL, OCSP)");
    }
    found
        .detail("version", seen.version.clone())
        .detail("cipher_suite", seen.cipher_suite.clone())
        .detail("key_exchange", seen.key_exchange.clone())
        .detail("expected_name", seen.name.as_str())
        .detail("trusted", tls.trusted())
        .detail("verified", accepted && !tls.is_insecure())
        .detail("days_left", left)
        .detail("revocation_checked", false)
        .detail("chain", serde_json::to_value(chain).unwrap_or_default())
}
