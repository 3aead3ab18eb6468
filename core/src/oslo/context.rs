//! The context of a request: who asks, in which project, under which trace.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The key of the W3C trace context.
const TRACEPARENT: &str = "traceparent";

/// The context that travels with a request or a notification, as a flat map. Keys that nobody here knows are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Context(Map<String, Value>);

impl Context {
    /// A context without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an entry, e.g. `request_id` or `project_id`.
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    /// The W3C trace context (`traceparent`) under which the work is done.
    pub fn with_traceparent(self, traceparent: impl Into<String>) -> Self {
        self.with(TRACEPARENT, traceparent.into())
    }

    /// An entry.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// The W3C trace context of the caller.
    pub fn traceparent(&self) -> Option<&str> {
        self.get(TRACEPARENT)?.as_str()
    }

    /// All entries.
    pub fn entries(&self) -> &Map<String, Value> {
        &self.0
    }
}

impl From<Map<String, Value>> for Context {
    fn from(entries: Map<String, Value>) -> Self {
        Self(entries)
    }
}

impl FromIterator<(String, Value)> for Context {
    fn from_iter<T: IntoIterator<Item = (String, Value)>>(entries: T) -> Self {
        Self(entries.into_iter().collect())
    }
}
