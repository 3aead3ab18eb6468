//! The methods that a server offers.

use std::{collections::BTreeMap, fmt, pin::Pin, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::super::{Context, Failure, message::Request, version};

type Outcome = Pin<Box<dyn Future<Output = Result<Value, Failure>> + Send>>;
pub(super) type Handler = Arc<dyn Fn(Context, Value) -> Outcome + Send + Sync>;

/// The method that every server answers, as `rpc_ping_enabled` has stock servers do.
const PING: &str = "oslo_rpc_server_ping";

/// Methods under a namespace and a version.
#[derive(Clone, Default)]
pub struct Endpoint {
    namespaces: Vec<Option<String>>,
    version: Option<String>,
    methods: BTreeMap<String, Handler>,
}

impl Endpoint {
    /// Methods of the default interface, in version 1.0.
    pub fn new() -> Self {
        Self { namespaces: vec![None], ..Self::default() }
    }

    /// The interface that the methods belong to, instead of the default one.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespaces[0] = Some(namespace.into());
        self
    }

    /// An older name of the interface that callers may still use; `None` for the default interface.
    pub fn legacy_namespace(mut self, namespace: Option<&str>) -> Self {
        self.namespaces.push(namespace.map(ToOwned::to_owned));
        self
    }

    /// The version of the interface, `major.minor`. Requests for the same major and an equal or lower minor are taken.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// A method. Its arguments are read from the named arguments of the request, its result is sent back, and its error is
    /// raised at the caller. Names that begin with `_` are never called.
    pub fn method<A, R, E, F>(
        mut self,
        name: impl Into<String>,
        function: impl Fn(Context, A) -> F + Send + Sync + 'static,
    ) -> Self
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize,
        E: Into<Failure>,
        F: Future<Output = Result<R, E>> + Send + 'static,
    {
        let name = name.into();
        let method = name.clone();
        let function = Arc::new(function);
        let handler: Handler = Arc::new(move |context, args| {
            let (method, function) = (method.clone(), function.clone());
            Box::pin(async move {
                let args = serde_json::from_value(args)
                    .map_err(|error| Failure::new("TypeError", format!("{method}(): {error}")))?;
                let result = function(context, args).await.map_err(Into::into)?;
                serde_json::to_value(result).map_err(|error| {
                    Failure::new("TypeError", format!("the result of {method}() is no JSON: {error}"))
                })
            })
        });
        self.methods.insert(name, handler);
        self
    }

    pub(super) fn ping() -> Self {
        Self::new().method(PING, |_: Context, _: Value| async { Ok::<_, Failure>("pong") })
    }

    pub(super) fn is_valid(&self) -> bool {
        let version = self.version.as_deref().unwrap_or(version::DEFAULT);
        version::is_compatible(version, version).is_some()
    }

    fn takes(&self, request: &Request) -> bool {
        let version = self.version.as_deref().unwrap_or(version::DEFAULT);
        self.namespaces.contains(&request.namespace)
            && version::is_compatible(version, &request.version) == Some(true)
    }
}

/// The method that a request asks for.
pub(super) fn find(endpoints: &[Endpoint], request: &Request) -> Result<Handler, Box<Failure>> {
    let mut compatible = false;
    for endpoint in endpoints.iter().filter(|endpoint| endpoint.takes(request)) {
        compatible = true;
        if let Some(handler) = endpoint.methods.get(&request.method)
            && !request.method.starts_with('_')
        {
            return Ok(handler.clone());
        }
    }
    Err(Box::new(if compatible {
        Failure::no_such_method(&request.method)
    } else {
        Failure::unsupported_version(&request.version, &request.method)
    }))
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("namespaces", &self.namespaces)
            .field("version", &self.version)
            .field("methods", &self.methods.keys().collect::<Vec<_>>())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(namespace: Option<&str>, version: &str, method: &str) -> Request {
        let mut fields = json!({"method": method, "version": version});
        if let Some(namespace) = namespace {
            fields["namespace"] = namespace.into();
        }
        Request::from_fields(fields.as_object().cloned().unwrap()).unwrap()
    }

    #[test]
    fn a_method_is_found_by_namespace_and_version() {
        let method = |_: Context, _: Value| async { Ok::<_, Failure>(1) };
        let endpoints = [
            Endpoint::new().version("1.2").method("add", method).method("_private", method),
            Endpoint::new()
                .namespace("admin")
                .legacy_namespace(Some("root"))
                .version("2.0")
                .method("stop", method),
        ];
        let failure = |namespace, version, name| {
            find(&endpoints, &request(namespace, version, name)).err().map(|failure| failure.class)
        };
        let (no_method, no_version) =
            (Some("NoSuchMethod".to_owned()), Some("UnsupportedVersion".to_owned()));
        assert_eq!(failure(None, "1.2", "add"), None);
        assert_eq!(failure(None, "1.0", "add"), None);
        assert_eq!(failure(None, "1.3", "add"), no_version);
        assert_eq!(failure(None, "2.0", "add"), no_version);
        assert_eq!(failure(None, "one", "add"), no_version);
        assert_eq!(failure(None, "1.0", "subtract"), no_method);
        assert_eq!(failure(None, "1.0", "_private"), no_method);
        assert_eq!(failure(Some("admin"), "2.0", "stop"), None);
        assert_eq!(failure(Some("root"), "2.0", "stop"), None);
        assert_eq!(failure(Some("other"), "2.0", "stop"), no_version);
    }
}
