//! Exchanges and their bindings: which destinations a message matches (AMQP 0-9-1 section 3.1.3).

use std::collections::BTreeMap;

use amq_protocol::types::{AMQPValue, FieldTable};

use super::{
    QueueId,
    arguments::text,
    refusal::{Answer, Refusal},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Direct,
    Topic,
    Fanout,
    Headers,
}

impl Kind {
    pub fn parse(name: &str) -> Answer<Self> {
        Ok(match name {
            "direct" => Self::Direct,
            "topic" => Self::Topic,
            "fanout" => Self::Fanout,
            "headers" => Self::Headers,
            _ => return Err(Refusal::new(503, format!("unknown exchange type '{name}'"))),
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Topic => "topic",
            Self::Fanout => "fanout",
            Self::Headers => "headers",
        }
    }
}

/// What a binding leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Destination {
    Queue(QueueId),
    Exchange(String),
}

/// Bindings are told apart by all of this.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BindingKey {
    pub routing_key: String,
    pub destination: Destination,
    /// The arguments in a form that can be compared.
    pub arguments: String,
}

impl BindingKey {
    pub fn new(routing_key: &str, destination: Destination, arguments: &FieldTable) -> Self {
        Self { routing_key: routing_key.to_owned(), destination, arguments: format!("{arguments:?}") }
    }
}

#[derive(Debug)]
pub(super) struct Exchange {
    pub kind: Kind,
    pub durable: bool,
    pub auto_delete: bool,
    pub internal: bool,
    pub arguments: FieldTable,
    pub bindings: BTreeMap<BindingKey, FieldTable>,
}

impl Exchange {
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: FieldTable::default(),
            bindings: BTreeMap::new(),
        }
    }

    /// Where messages go that match no binding.
    pub fn alternate(&self) -> Option<String> {
        self.arguments.inner().get("alternate-exchange").and_then(text)
    }

    /// Calls `found` with each destination that a message with these keys and headers matches.
    pub fn matching(&self, keys: &[&str], headers: Option<&FieldTable>, mut found: impl FnMut(&Destination)) {
        match self.kind {
            Kind::Direct => {
                for key in keys {
                    let from = BindingKey {
                        routing_key: (*key).to_owned(),
                        destination: Destination::Queue(0),
                        arguments: String::new(),
                    };
                    for (binding, _) in self.bindings.range(from..) {
                        if binding.routing_key != *key {
                            break;
                        }
                        found(&binding.destination);
                    }
                }
            }
            Kind::Fanout => self.bindings.keys().for_each(|binding| found(&binding.destination)),
            Kind::Topic => {
                for binding in self.bindings.keys() {
                    if keys.iter().any(|key| topic_matches(&binding.routing_key, key)) {
                        found(&binding.destination);
                    }
                }
            }
            Kind::Headers => {
                for (binding, arguments) in &self.bindings {
                    if headers_match(arguments, headers) {
                        found(&binding.destination);
                    }
                }
            }
        }
    }
}

/// Whether `key` matches `pattern`, where `*` is one word and `#` any number of them (AMQP 0-9-1 section 3.1.3.3).
fn topic_matches(pattern: &str, key: &str) -> bool {
    let (pattern, words) = (words(pattern), words(key));
    // Going back to the last `#` only is enough, and keeps the time linear in pattern times key.
    let (mut at, mut word) = (0, 0);
    let mut last: Option<(usize, usize)> = None;
    while word < words.len() {
        match pattern.get(at) {
            Some(&"#") => {
                last = Some((at, word));
                at += 1;
            }
            Some(part) if *part == "*" || *part == words[word] => {
                at += 1;
                word += 1;
            }
            _ => match &mut last {
                Some((hash, taken)) => {
                    *taken += 1;
                    (at, word) = (*hash + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|part| *part == "#")
}

/// The empty text has no words.
fn words(text: &str) -> Vec<&str> {
    if text.is_empty() { Vec::new() } else { text.split('.').collect() }
}

/// The headers exchange (RabbitMQ: `x-match` is `all`, `any`, `all-with-x` or `any-with-x`).
fn headers_match(arguments: &FieldTable, headers: Option<&FieldTable>) -> bool {
    let mode = arguments.inner().get("x-match").and_then(text);
    let mode = mode.as_deref().unwrap_or("all");
    let with_x = mode.ends_with("-with-x");
    let mut wanted = arguments
        .inner()
        .iter()
        .filter(|(key, _)| key.as_str() != "x-match" && (with_x || !key.as_str().starts_with("x-")));
    let has = |key: &str, value: &AMQPValue| {
        headers.and_then(|headers| headers.inner().get(key)).is_some_and(|found| {
            matches!(value, AMQPValue::Void)
                || found == value
                || super::arguments::integer(found)
                    .is_some_and(|found| super::arguments::integer(value) == Some(found))
        })
    };
    if mode.starts_with("any") {
        wanted.any(|(key, value)| has(key.as_str(), value))
    } else {
        wanted.all(|(key, value)| has(key.as_str(), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics() {
        for (pattern, key, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.#", "a", true),
            ("a.#", "a.b.c", true),
            ("#", "", true),
            ("#", "x.y", true),
            ("*", "", false),
            ("#.b", "b", true),
            ("#.b", "a.a.b", true),
            ("#.b.#", "a.b.c.b.d", true),
            ("#.b.*", "a.b.c.b.d", true),
            ("*.*.#", "a", false),
            ("", "", true),
            ("", "a", false),
            ("#.#", "", true),
        ] {
            assert_eq!(topic_matches(pattern, key), expected, "{pattern} {key}");
        }
    }
}
