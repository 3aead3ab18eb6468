//! The `x-` arguments of queues: what they mean, and whether two tables say the same.

use std::time::Duration;

use amq_protocol::types::{AMQPValue, FieldTable};

use super::refusal::{Answer, Refusal};

/// What happens to a publish when the queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Overflow {
    #[default]
    DropHead,
    RejectPublish,
    RejectPublishDlx,
}

/// Where messages go that the queue gives up.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DeadLetter {
    pub exchange: String,
    /// The keys of the message itself, if none.
    pub routing_key: Option<String>,
}

/// The arguments of a queue, understood.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Settings {
    pub expires: Option<Duration>,
    pub message_ttl: Option<Duration>,
    pub max_length: Option<u64>,
    pub max_length_bytes: Option<u64>,
    pub overflow: Overflow,
    pub dead_letter: Option<DeadLetter>,
    pub max_priority: u8,
    pub single_active_consumer: bool,
    pub quorum: bool,
    pub delivery_limit: Option<u64>,
}

impl Settings {
    /// Reads the arguments of `what` (`queue 'q' in vhost '/'`).
    pub fn parse(table: &FieldTable, what: &str) -> Answer<Self> {
        let mut settings = Self::default();
        let mut exchange = None;
        let mut routing_key = None;
        for (key, value) in table {
            let arg = Arg { key: key.as_str(), value, what };
            match arg.key {
                "x-expires" => settings.expires = Some(Duration::from_millis(arg.number(1)?)),
                "x-message-ttl" => settings.message_ttl = Some(Duration::from_millis(arg.number(0)?)),
                "x-max-length" => settings.max_length = Some(arg.number(0)?),
                "x-max-length-bytes" => settings.max_length_bytes = Some(arg.number(0)?),
                "x-delivery-limit" => settings.delivery_limit = Some(arg.number(0)?),
                "x-max-priority" => {
                    settings.max_priority =
                        u8::try_from(arg.number(0)?).map_err(|_| arg.invalid("max_value_exceeded"))?;
                }
                "x-overflow" => {
                    settings.overflow = match arg.text()?.as_str() {
                        "drop-head" => Overflow::DropHead,
                        "reject-publish" => Overflow::RejectPublish,
                        "reject-publish-dlx" => Overflow::RejectPublishDlx,
                        _ => return Err(arg.invalid("invalid_overflow")),
                    }
                }
                "x-dead-letter-exchange" => exchange = Some(arg.text()?),
                "x-dead-letter-routing-key" => routing_key = Some(arg.text()?),
                "x-single-active-consumer" => {
                    settings.single_active_consumer =
                        value.as_bool().ok_or_else(|| arg.invalid("unacceptable_type"))?;
                }
                "x-queue-type" => match arg.text()?.as_str() {
                    "classic" => {}
                    "quorum" => settings.quorum = true,
                    "stream" => {
                        return Err(Refusal::precondition(format!(
                            "{what}: the embedded broker has no stream queues; use RabbitMQ for them"
                        )));
                    }
                    other => {
                        return Err(Refusal::precondition(format!(
                            "invalid arg 'x-queue-type' for {what}: \"unsupported queue type '{other}'\""
                        )));
                    }
                },
                _ => {}
            }
        }
        if exchange.is_none() && routing_key.is_some() {
            return Err(Refusal::precondition(format!(
                "invalid arg 'x-dead-letter-routing-key' for {what}: routing_key_but_no_dlx_defined"
            )));
        }
        settings.dead_letter = exchange.map(|exchange| DeadLetter { exchange, routing_key });
        let kind = if settings.quorum { "quorum" } else { "classic" };
        for key in ["x-delivery-limit", "x-max-age"] {
            if table.contains_key(key) && !(settings.quorum && key == "x-delivery-limit") {
                return Err(Refusal::precondition(format!(
                    "invalid arg '{key}' for {what} of queue type rabbit_{kind}_queue"
                )));
            }
        }
        if settings.quorum && settings.max_priority > 0 {
            return Err(Refusal::precondition(format!(
                "invalid arg 'x-max-priority' for {what} of queue type rabbit_quorum_queue"
            )));
        }
        Ok(settings)
    }

    pub fn limits_length(&self) -> bool {
        self.max_length.is_some() || self.max_length_bytes.is_some()
    }
}

struct Arg<'a> {
    key: &'a str,
    value: &'a AMQPValue,
    what: &'a str,
}

impl Arg<'_> {
    fn invalid(&self, reason: &str) -> Refusal {
        Refusal::precondition(format!("invalid arg '{}' for {}: {reason}", self.key, self.what))
    }

    fn number(&self, least: i64) -> Answer<u64> {
        match integer(self.value) {
            Some(number) if number >= least => Ok(number.cast_unsigned()),
            Some(0) => Err(self.invalid("{value_zero,0}")),
            Some(number) => Err(self.invalid(&format!("{{value_negative,{number}}}"))),
            None => Err(self.invalid(&format!("{{unacceptable_type,{}}}", type_name(self.value)))),
        }
    }

    fn text(&self) -> Answer<String> {
        text(self.value)
            .ok_or_else(|| self.invalid(&format!("{{unacceptable_type,{}}}", type_name(self.value))))
    }
}

pub(super) fn integer(value: &AMQPValue) -> Option<i64> {
    Some(match *value {
        AMQPValue::ShortShortInt(number) => number.into(),
        AMQPValue::ShortShortUInt(number) => number.into(),
        AMQPValue::ShortInt(number) => number.into(),
        AMQPValue::ShortUInt(number) => number.into(),
        AMQPValue::LongInt(number) => number.into(),
        AMQPValue::LongUInt(number) => number.into(),
        AMQPValue::LongLongInt(number) => number,
        _ => return None,
    })
}

pub(super) fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
        _ => None,
    }
}

/// The names RabbitMQ has for the types, in its texts.
fn type_name(value: &AMQPValue) -> &'static str {
    match value {
        AMQPValue::Boolean(_) => "bool",
        AMQPValue::ShortShortInt(_) => "byte",
        AMQPValue::ShortShortUInt(_) => "unsignedbyte",
        AMQPValue::ShortInt(_) => "short",
        AMQPValue::ShortUInt(_) => "unsignedshort",
        AMQPValue::LongInt(_) => "signedint",
        AMQPValue::LongUInt(_) => "unsignedint",
        AMQPValue::LongLongInt(_) => "long",
        AMQPValue::Float(_) => "float",
        AMQPValue::Double(_) => "double",
        AMQPValue::DecimalValue(_) => "decimal",
        AMQPValue::ShortString(_) | AMQPValue::LongString(_) => "longstr",
        AMQPValue::FieldArray(_) => "array",
        AMQPValue::Timestamp(_) => "timestamp",
        AMQPValue::FieldTable(_) => "table",
        AMQPValue::ByteArray(_) => "binary",
        AMQPValue::Void => "void",
    }
}

fn shown(value: Option<&AMQPValue>) -> String {
    let Some(value) = value else { return "none".into() };
    let text = match value {
        AMQPValue::Boolean(value) => value.to_string(),
        value => match (integer(value), text(value)) {
            (Some(number), _) => number.to_string(),
            (_, Some(text)) => text,
            _ => format!("{value:?}"),
        },
    };
    format!("the value '{text}' of type '{}'", type_name(value))
}

fn same(one: Option<&AMQPValue>, other: Option<&AMQPValue>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => match (integer(one), integer(other)) {
            // RabbitMQ compares numbers whatever their width.
            (Some(one), Some(other)) => one == other,
            _ => one == other || text(one).is_some_and(|one| text(other) == Some(one)),
        },
        (None, None) => true,
        _ => false,
    }
}

/// 406 unless `new` says what `current` says for each of `keys`.
pub(super) fn check_same(what: &str, new: &FieldTable, current: &FieldTable, keys: &[&str]) -> Answer {
    for key in keys {
        let (new, current) = (new.inner().get(*key), current.inner().get(*key));
        if !same(new, current) {
            return Err(inequivalent(key, what, &shown(new), &shown(current)));
        }
    }
    Ok(())
}

/// 406 unless a declared flag is the one the entity has.
pub(super) fn check_flag(what: &str, key: &str, new: &impl ToString, current: &impl ToString) -> Answer {
    let (new, current) = (new.to_string(), current.to_string());
    if new == current {
        return Ok(());
    }
    Err(inequivalent(key, what, &format!("'{new}'"), &format!("'{current}'")))
}

fn inequivalent(key: &str, what: &str, new: &str, current: &str) -> Refusal {
    Refusal::precondition(format!(
        "inequivalent arg '{key}' for {what}: received {new} but current is {current}"
    ))
}

/// The arguments of queues that a redeclaration must repeat.
pub(super) const QUEUE_ARGUMENTS: [&str; 11] = [
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-delivery-limit",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-message-ttl",
    "x-overflow",
    "x-queue-type",
    "x-single-active-consumer",
];
