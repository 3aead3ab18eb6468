//! Sending notifications.

use std::{fmt, time::Duration};

use serde::Serialize;
use serde_json::{Map, Value};

use super::super::{
    Context, Error, Result, Transport,
    link::Destination,
    message::{add_context, add_unique_id},
};
use crate::utc;

/// How important a notification is; each has a queue of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Priority {
    /// A record for auditors.
    Audit,
    /// For developers.
    Debug,
    /// What happened as it should.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
    /// Something failed that others depend on.
    Critical,
    /// One value of a series.
    Sample,
}

impl Priority {
    /// All priorities.
    pub const ALL: [Self; 7] =
        [Self::Audit, Self::Debug, Self::Info, Self::Warn, Self::Error, Self::Critical, Self::Sample];

    /// The name in queue names: lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Sample => "sample",
        }
    }

    /// The priority of a notification's field, in either case.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| priority.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Sends notifications to one topic or several. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Notifier {
    transport: Transport,
    publisher_id: String,
    topics: Vec<String>,
    exchange: Option<String>,
    envelope: bool,
    timeout: Duration,
}

impl Notifier {
    /// A notifier to the topic `notifications`, under the name of who sends, e.g. `compute.host-1`.
    pub fn new(transport: &Transport, publisher_id: impl Into<String>) -> Self {
        Self {
            transport: transport.clone(),
            publisher_id: publisher_id.into(),
            topics: vec!["notifications".into()],
            exchange: None,
            envelope: true,
            timeout: Duration::from_secs(30),
        }
    }

    /// Other topics; each gets a copy.
    pub fn topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics = topics.into_iter().map(Into::into).collect();
        self
    }

    /// Another exchange than the control exchange.
    pub fn exchange(mut self, exchange: impl Into<String>) -> Self {
        self.exchange = Some(exchange.into());
        self
    }

    /// Whether messages are in an envelope (the driver `messagingv2`, the default) or bare (`messaging`).
    pub fn envelope(mut self, envelope: bool) -> Self {
        self.envelope = envelope;
        self
    }

    /// How long a notification waits for the broker's confirm.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends a notification and returns when the broker has it for every topic. The queue of topic and priority is declared
    /// and bound if no queue takes it: it waits for its listeners there.
    ///
    /// With several topics an error is that of the first that failed; the others were tried.
    pub async fn notify(
        &self,
        context: &Context,
        priority: Priority,
        event_type: &str,
        payload: impl Serialize,
    ) -> Result<()> {
        let payload = serde_json::to_value(payload)
            .map_err(|error| Error::Invalid(format!("{event_type}: the payload is no JSON: {error}")))?;
        let mut fields = Map::new();
        fields.insert("message_id".into(), dashed(&super::super::unique_id()).into());
        fields.insert("publisher_id".into(), self.publisher_id.clone().into());
        fields.insert("event_type".into(), event_type.into());
        fields.insert("priority".into(), priority.name().to_ascii_uppercase().into());
        fields.insert("payload".into(), payload);
        fields.insert("timestamp".into(), utc::text(utc::since_1970()).into());
        let mut result = Ok(());
        for topic in &self.topics {
            if let Err(error) = self.send(context, topic, priority, fields.clone()).await
                && result.is_ok()
            {
                result = Err(error);
            }
        }
        result
    }

    async fn send(
        &self,
        context: &Context,
        topic: &str,
        priority: Priority,
        mut fields: Map<String, Value>,
    ) -> Result<()> {
        let link = self.transport.link();
        add_unique_id(&mut fields);
        add_context(&mut fields, context);
        let message = link.encode(&fields, self.envelope)?;
        let destination =
            Destination::of_notifications(&link.config, self.exchange.as_deref(), topic, priority, None);
        link.publish_to(&destination, message, self.timeout).await
    }
}

impl Destination {
    /// The queue of a topic's notifications of one priority, or of a pool of listeners.
    pub(super) fn of_notifications(
        config: &super::super::Config,
        exchange: Option<&str>,
        topic: &str,
        priority: Priority,
        pool: Option<&str>,
    ) -> Self {
        let routing_key = format!("{topic}.{priority}");
        Self {
            exchange: Some(config.topic_exchange(exchange.unwrap_or(&config.control_exchange))),
            queue: config.topic_queue(pool.unwrap_or(&routing_key)),
            routing_key,
        }
    }
}

/// A UUID with its dashes.
fn dashed(hex: &str) -> String {
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_has_a_name() {
        for priority in Priority::ALL {
            assert_eq!(Priority::from_name(&priority.name().to_uppercase()), Some(priority));
        }
        assert_eq!(Priority::from_name("loud"), None);
    }
}
