//! An exception on its way from a server to its caller.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An exception of a remote method: Python's class and module, the message, and the arguments to make it again with.
///
/// A Rust method returns one to have a Python caller raise that exception. A stock caller raises the class itself if its
/// module is `builtins` or among the caller's `allowed_remote_exmods`, and `RemoteError` otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// The class, e.g. `ValueError`.
    #[serde(default)]
    pub class: String,
    /// The module that has the class, e.g. `builtins`.
    #[serde(default)]
    pub module: String,
    /// The text of the exception.
    #[serde(default)]
    pub message: String,
    /// The lines of the traceback.
    #[serde(rename = "tb", default)]
    pub traceback: Vec<String>,
    /// The positional arguments of the class.
    #[serde(default)]
    pub args: Vec<Value>,
    /// The named arguments of the class.
    #[serde(default)]
    pub kwargs: Map<String, Value>,
}

impl Failure {
    /// An exception of Python's `builtins` with a message, e.g. `ValueError`.
    pub fn new(class: impl Into<String>, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            class: class.into(),
            module: "builtins".into(),
            args: vec![message.clone().into()],
            message,
            traceback: Vec::new(),
            kwargs: Map::new(),
        }
    }

    /// The module that has the class, e.g. `nova.exception`.
    pub fn module(mut self, module: impl Into<String>) -> Self {
        self.module = module.into();
        self
    }

    /// The positional arguments that the class is made with, instead of the message alone.
    pub fn args(mut self, args: impl IntoIterator<Item = Value>) -> Self {
        self.args = args.into_iter().collect();
        self
    }

    /// A named argument that the class is made with.
    pub fn kwarg(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.kwargs.insert(name.into(), value.into());
        self
    }

    /// No endpoint of the server has the method.
    pub(super) fn no_such_method(method: &str) -> Self {
        Self::new("NoSuchMethod", format!("Endpoint does not support RPC method {method}"))
            .module("oslo_messaging.rpc.dispatcher")
    }

    /// No endpoint of the server has the interface in the version.
    pub(super) fn unsupported_version(version: &str, method: &str) -> Self {
        let text = format!("Endpoint does not support RPC version {version}. Attempted method: {method}");
        Self::new("UnsupportedVersion", text).module("oslo_messaging.rpc.dispatcher")
    }

    /// The failure that came. Peers send it as a JSON text inside the JSON of the reply.
    pub(super) fn from_wire(value: &Value) -> Self {
        let object = match value {
            Value::String(text) => serde_json::from_str(text).ok(),
            other => Some(other.clone()),
        };
        // A list would be taken for the fields in their order.
        let object = object.filter(Value::is_object);
        let parsed = object.and_then(|object| serde_json::from_value(object).ok());
        parsed.unwrap_or_else(|| {
            // What cannot be read is still a failure, and must not be taken for a result.
            let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            Self::new("RemoteError", text).module("oslo_messaging.rpc.client")
        })
    }

    /// As [`Self::from_wire`] reads it.
    pub(super) fn to_wire(&self) -> Value {
        // Maps with string keys and values of JSON always serialize.
        serde_json::to_string(self).unwrap_or_default().into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

impl std::error::Error for Failure {}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::new("RuntimeError", message)
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

impl From<crate::Error> for Failure {
    fn from(error: crate::Error) -> Self {
        error.to_string().into()
    }
}

/// A failure of a call that the method made itself is passed on as it came.
impl From<super::Error> for Failure {
    fn from(error: super::Error) -> Self {
        match error {
            super::Error::Remote(failure) => *failure,
            other => other.to_string().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failure_survives_the_wire() {
        let failure = Failure::new("InstanceNotFound", "no instance 7")
            .module("nova.exception")
            .args([json!("no instance 7"), json!(7)])
            .kwarg("instance_id", 7);
        let wire = failure.to_wire();
        assert!(wire.is_string(), "peers expect a JSON text: {wire}");
        assert_eq!(Failure::from_wire(&wire), failure);
    }

    #[test]
    fn a_failure_that_cannot_be_read_is_a_failure() {
        for odd in [json!("not JSON"), json!(17), json!(["a"]), json!({"class": 5})] {
            let failure = Failure::from_wire(&odd);
            assert_eq!(failure.class, "RemoteError", "{odd}");
            assert!(!failure.message.is_empty(), "{odd}");
        }
        assert_eq!(Failure::from_wire(&json!({"class": "KeyError"})).class, "KeyError");
    }
}
