//! Messages as the broker keeps them: the property list as it came, and what the broker itself must know of it.

use std::{sync::Arc, time::Duration};

use amq_protocol::types::{AMQPValue, FieldTable, ShortString};
use bytes::Bytes;
use tokio::time::Instant;

use super::refusal::{Answer, Refusal};
use crate::{
    message::{MAX_TTL_MS, Properties},
    wire::{
        encode,
        properties::{ContentHeader, parse_list},
    },
};

/// A published message, shared by the queues that hold it.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub exchange: ShortString,
    pub routing_key: ShortString,
    /// Routing keys of the headers `CC` and `BCC` (RabbitMQ, sender-selected distribution).
    pub more_keys: Vec<String>,
    /// Property flags and list, as they go out.
    pub header: Bytes,
    pub body: Bytes,
    pub persistent: bool,
    pub priority: u8,
    pub expiration: Option<Duration>,
    pub message_id: Option<ShortString>,
}

impl Message {
    /// Takes in a content header and its body; 406 for what RabbitMQ refuses in the properties.
    pub fn new(
        exchange: ShortString,
        routing_key: ShortString,
        header: ContentHeader,
        body: Bytes,
        user: &str,
    ) -> Answer<(Self, Option<FieldTable>)> {
        let mut properties = header.properties;
        let defective = header.defect;
        if let Some(mode) = properties.delivery_mode()
            && !matches!(mode, 1 | 2)
        {
            return Err(Refusal::precondition(format!("invalid delivery_mode {mode}")));
        }
        if let Some(claimed) = properties.user_id()
            && claimed.as_str() != user
        {
            return Err(Refusal::precondition(format!(
                "user_id property set to '{claimed}' but authenticated user was '{user}'"
            )));
        }
        let expiration = match properties.expiration() {
            None => None,
            Some(text) => Some(
                text.as_str()
                    .parse::<u64>()
                    .ok()
                    .filter(|ms| *ms <= MAX_TTL_MS)
                    .ok_or_else(|| Refusal::precondition(format!("invalid expiration '{text}'")))?,
            ),
        };
        let mut more_keys = keys_of(properties.headers().as_ref(), "CC")?;
        let hidden = keys_of(properties.headers().as_ref(), "BCC")?;
        let raw = match defective {
            Some(defect) => defect.raw,
            None => {
                if !hidden.is_empty()
                    && let Some(headers) = properties.headers()
                {
                    let kept = headers.inner().iter().filter(|(key, _)| key.as_str() != "BCC");
                    let kept: FieldTable = kept
                        .map(|(key, value)| (key.clone(), value.clone()))
                        .collect::<std::collections::BTreeMap<_, _>>()
                        .into();
                    properties = properties.with_headers(kept);
                }
                encode::property_list(&properties)
            }
        };
        more_keys.extend(hidden);
        let message = Self {
            exchange,
            routing_key,
            more_keys,
            header: raw,
            body,
            persistent: *properties.delivery_mode() == Some(2),
            priority: properties.priority().unwrap_or(0),
            expiration: expiration.map(Duration::from_millis),
            message_id: properties.message_id().clone(),
        };
        Ok((message, properties.headers().clone()))
    }

    /// The keys it is routed by.
    pub fn keys(&self) -> Vec<&str> {
        std::iter::once(self.routing_key.as_str()).chain(self.more_keys.iter().map(String::as_str)).collect()
    }

    /// The properties, read again; defaults if they are not readable.
    pub fn properties(&self) -> Properties {
        parse_list(&self.header).map(|(properties, _)| properties).unwrap_or_default()
    }
}

fn keys_of(headers: Option<&FieldTable>, header: &str) -> Answer<Vec<String>> {
    let Some(value) = headers.and_then(|headers| headers.inner().get(header)) else {
        return Ok(Vec::new());
    };
    let AMQPValue::FieldArray(keys) = value else {
        return Err(Refusal::precondition(format!("invalid message: {{unacceptable_type_in_{header}}}")));
    };
    keys.as_slice()
        .iter()
        .map(|key| {
            super::arguments::text(key)
                .ok_or_else(|| Refusal::precondition(format!("invalid message: non-text key in {header}")))
        })
        .collect()
}

/// One copy of a message, ready in a queue or delivered and unacked.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// Unique in this broker, and rising: requeued copies go back to their place by it.
    pub number: u64,
    pub message: Arc<Message>,
    pub expires_at: Option<Instant>,
    pub redelivered: bool,
    /// How often it came back unsettled; what a delivery limit counts.
    pub returns: u64,
    /// Whether its queue tells consumers how often (quorum queues do).
    pub counts_returns: bool,
}
