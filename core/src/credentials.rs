//! Who we are to the broker: user name and password, or a callback that gives them, and the SASL response.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use amq_protocol::{
    auth::{Credentials as Sasl, SASLMechanism},
    types::LongString,
};
use zeroize::Zeroizing;

use crate::Result;

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
    Callback(Arc<dyn Fn() -> Answer + Send + Sync>),
}

impl CredentialSource {
    pub async fn get(&self) -> Result<Credentials> {
        match self {
            Self::Fixed(credentials) => Ok(credentials.clone()),
            Self::Callback(ask) => ask().await,
        }
    }
}

impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(credentials) => credentials.fmt(f),
            Self::Callback(_) => f.write_str("Callback"),
        }
    }
}

/// How to log in (`RabbitMQ`, access control: authentication mechanisms).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
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
