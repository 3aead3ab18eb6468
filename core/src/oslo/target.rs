//! Where a message goes, or what a server listens for.

use std::fmt;

/// The address of a message or of a server, as oslo.messaging's `Target`.
///
/// A server has a topic and its own name; a client sends to a topic, to one server of it, or to all of them (fanout).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Target {
    /// The exchange that scopes topics; without one, the control exchange of the configuration.
    pub exchange: Option<String>,
    /// The name of a set of methods that servers offer.
    pub topic: String,
    /// One server of the topic.
    pub server: Option<String>,
    /// Whether every server of the topic gets a copy. Only casts can.
    pub fanout: bool,
    /// The interface among those that a server has; `None` is the default one.
    pub namespace: Option<String>,
    /// The version of the interface, `major.minor`: a server answers the same major and an equal or lower minor.
    pub version: Option<String>,
}

impl Target {
    /// The servers of a topic.
    pub fn topic(topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), ..Self::default() }
    }

    /// Another exchange than the control exchange.
    pub fn exchange(mut self, exchange: impl Into<String>) -> Self {
        self.exchange = Some(exchange.into());
        self
    }

    /// One server of the topic, or the name of the server that listens.
    pub fn server(mut self, server: impl Into<String>) -> Self {
        self.server = Some(server.into());
        self
    }

    /// Every server of the topic.
    pub fn fanout(mut self, fanout: bool) -> Self {
        self.fanout = fanout;
        self
    }

    /// The interface.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// The version of the interface that the method needs, `major.minor`.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic '{}'", self.topic)?;
        match (&self.server, self.fanout) {
            (_, true) => write!(f, " (fanout)"),
            (Some(server), false) => write!(f, ", server '{server}'"),
            (None, false) => Ok(()),
        }
    }
}
