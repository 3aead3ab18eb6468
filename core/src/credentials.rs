//! Who we are to the broker: user name and password, or a callback that gives them, and the SASL response.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use amq_protocol::{
    auth::{Credentials as Sasl, SASLMechanism},
    types::LongString,
};
use zeroize::Zeroizing;

use crate::{Error, ErrorKind, Result, callback::guarded, options::Host};

/// A user name and a password. The password is wiped from memory when this is dropped, and shown nowhere.
#[derive(Clone)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password, or a token.
    pub password: Zeroizing<String>,
}

impl Credentials {
    /// Credentials of `username`.
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self { username: username.into(), password: Zeroizing::new(password.into()) }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Credentials>> + Send>>;

/// Where credentials come from at each connect.
#[derive(Clone)]
pub(crate) enum CredentialSource {
    Fixed(Credentials),
    /// Each host has its own; none is ever sent to another host.
    PerHost(Vec<(Host, Credentials)>),
    Callback(Arc<dyn Fn() -> Answer + Send + Sync>),
}

impl CredentialSource {
    /// The credentials for a login at `host`.
    pub async fn get(&self, host: &Host, secrets: &Secrets) -> Result<Credentials> {
        match self {
            Self::Fixed(credentials) => Ok(secrets.newest(credentials)),
            Self::PerHost(all) => Self::of_host(all, host).map(|credentials| secrets.newest(credentials)),
            Self::Callback(ask) => guarded(|| ask()).await.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Authentication, "the credentials callback panicked"))
            }),
        }
    }

    fn of_host<'a>(all: &'a [(Host, Credentials)], host: &Host) -> Result<&'a Credentials> {
        let own = all.iter().find(|(of, _)| of == host).map(|(_, credentials)| credentials);
        own.ok_or_else(|| {
            Error::invalid(format!("the URI has credentials for each host, and none for {host}"))
        })
    }

    /// Refuses what cannot be sent, and hosts without credentials.
    pub fn check(&self, hosts: &[Host]) -> Result<()> {
        let fixed: Vec<&Credentials> = match self {
            Self::Fixed(credentials) => vec![credentials],
            Self::PerHost(all) => hosts.iter().map(|host| Self::of_host(all, host)).collect::<Result<_>>()?,
            Self::Callback(_) => Vec::new(),
        };
        if fixed.iter().any(|one| one.username.contains('\0') || one.password.contains('\0')) {
            // It separates the two in SASL PLAIN (RFC 4616).
            return Err(Error::invalid("a NUL character cannot be in a user name or password"));
        }
        Ok(())
    }
}

/// The secrets that [`crate::Client::update_secret`] gave the broker: the connections of a client share them for their next
/// logins. A callback is asked instead.
#[derive(Default)]
pub(crate) struct Secrets(Mutex<Newest>);

#[derive(Default)]
struct Newest {
    /// Whose login was the last.
    user: Option<String>,
    of_user: BTreeMap<String, Zeroizing<String>>,
}

impl Secrets {
    /// `credentials` with the newest secret of their user, who logs in with them.
    fn newest(&self, credentials: &Credentials) -> Credentials {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        newest.user = Some(credentials.username.clone());
        let password = newest.of_user.get(&credentials.username).unwrap_or(&credentials.password).clone();
        Credentials { username: credentials.username.clone(), password }
    }

    /// The user of the last login has a new secret.
    pub fn renew(&self, secret: Zeroizing<String>) {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(user) = newest.user.clone() {
            newest.of_user.insert(user, secret);
        }
    }
}

impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(credentials) => credentials.fmt(f),
            Self::PerHost(all) => f.debug_map().entries(all.iter().map(|(host, one)| (host, one))).finish(),
            Self::Callback(_) => f.write_str("Callback"),
        }
    }
}

/// How to log in (`RabbitMQ`, access control: authentication mechanisms).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Mechanism {
    /// User name and password.
    #[default]
    Plain,
    /// User name and password in a table; older than PLAIN and no safer.
    AmqPlain,
    /// The broker takes the name from the TLS client certificate.
    External,
}

impl Mechanism {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::AmqPlain => "AMQPLAIN",
            Self::External => "EXTERNAL",
        }
    }
}

/// The `response` of `connection.start-ok`.
pub(crate) fn sasl_response(mechanism: Mechanism, credentials: &Credentials) -> LongString {
    let sasl = Sasl::new(credentials.username.as_str().into(), credentials.password.as_bytes().into());
    sasl.sasl_auth_string(match mechanism {
        Mechanism::Plain => SASLMechanism::Plain,
        Mechanism::AmqPlain => SASLMechanism::AMQPlain,
        Mechanism::External => SASLMechanism::External,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses() {
        let credentials = Credentials::new("üser", "pass");
        assert_eq!(sasl_response(Mechanism::Plain, &credentials).as_bytes(), "\0üser\0pass".as_bytes());
        assert!(sasl_response(Mechanism::External, &credentials).is_empty());
        let table = sasl_response(Mechanism::AmqPlain, &credentials);
        assert!(table.as_bytes().starts_with(b"\x05LOGINS"));
    }

    #[test]
    fn the_password_is_not_shown() {
        let shown = format!("{:?}", CredentialSource::Fixed(Credentials::new("u", "hunter2")));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
