//! Calling and casting.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::{
    super::{
        Context, Error, Result, Target, Transport,
        link::Destination,
        message::{CallFields, Reply, request_fields},
        topology::routing_key,
        unique_id, version,
    },
    replies::Call,
};
use crate::ErrorKind;

/// Calls the methods of the servers of a topic. Cheap to clone; changes make another client over the same transport.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Transport,
    target: Target,
    timeout: Duration,
    monitor: Option<Duration>,
    version_cap: Option<String>,
}

impl Client {
    /// A client of the servers of `target`. Its timeout is `rpc_response_timeout`, 60 s unless configured.
    pub fn new(transport: &Transport, target: Target) -> Self {
        let timeout = transport.link().config.response_timeout;
        Self { transport: transport.clone(), target, timeout, monitor: None, version_cap: None }
    }

    /// The same client with another target, e.g. one server of the topic, or all of them.
    pub fn with_target(mut self, change: impl FnOnce(Target) -> Target) -> Self {
        self.target = change(self.target);
        self
    }

    /// How long a call waits for its result, and a cast for the broker's confirm.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Call monitoring: the server says every half of this time that it is still at work, and the call fails when it has
    /// not for the whole of it. In whole seconds, at least 2; the timeout may be long then.
    pub fn monitor(mut self, monitor: Duration) -> Self {
        self.monitor = Some(monitor);
        self
    }

    /// The highest version that may be asked for: servers of an older release still run.
    pub fn version_cap(mut self, cap: impl Into<String>) -> Self {
        self.version_cap = Some(cap.into());
        self
    }

    /// Whether a version is within the cap.
    pub fn can_send_version(&self, version: &str) -> bool {
        self.version_cap.as_deref().is_none_or(|cap| version::is_compatible(cap, version) == Some(true))
    }

    /// Calls a method with named arguments (a struct or a map) and waits for its result.
    ///
    /// Errors: [`Error::Remote`] (the method raised, or the server has no such method), [`Error::Timeout`],
    /// [`Error::Invalid`] (nothing was sent), [`Error::Messaging`].
    pub async fn call<R: DeserializeOwned>(
        &self,
        context: &Context,
        method: &str,
        args: impl Serialize,
    ) -> Result<R> {
        if self.target.fanout {
            return Err(Error::Invalid(format!(
                "{method}: a call cannot go to every server; cast, or name one"
            )));
        }
        let args = self.check(method, args)?;
        let monitor_seconds = self.monitor.map(|monitor| monitor.as_secs());
        if monitor_seconds.is_some_and(|seconds| seconds < 2) {
            return Err(Error::Invalid(
                "call monitoring takes at least 2 s: servers send whole seconds".into(),
            ));
        }
        let deadline = Instant::now() + self.timeout;
        let mut call = self.send(context, method, args, monitor_seconds, deadline).await?;
        let result = match timeout_at(deadline, self.wait(method, &mut call)).await {
            Ok(result) => result?,
            Err(_) => return Err(self.timed_out(method, self.timeout)),
        };
        serde_json::from_value(result).map_err(|error| {
            Error::Malformed(format!("the result of {method} is not what was asked for: {error}"))
        })
    }

    async fn send(
        &self,
        context: &Context,
        method: &str,
        args: Value,
        monitor_seconds: Option<u64>,
        deadline: Instant,
    ) -> Result<Call> {
        let link = self.transport.link();
        let replies = match timeout_at(deadline, self.transport.0.replies()).await {
            Ok(replies) => replies?,
            Err(_) => return Err(self.timed_out(method, self.timeout)),
        };
        let fields = CallFields { msg_id: unique_id(), reply_q: replies.queue().to_owned(), monitor_seconds };
        let call = replies.expect(&fields.msg_id);
        let message =
            link.encode(&request_fields(context, method, args, &self.target, Some(&fields)), true)?;
        let left = deadline.saturating_duration_since(Instant::now());
        // Nobody waits for it after that.
        let message = message.expiration(self.timeout);
        match link.publish_to(&self.destination(), message, left).await {
            Err(Error::Messaging(error)) if error.kind() == ErrorKind::Timeout => {
                Err(self.timed_out(method, self.timeout))
            }
            sent => sent.map(|()| call),
        }
    }

    async fn wait(&self, method: &str, call: &mut Call) -> Result<Value> {
        loop {
            let reply = match self.monitor {
                None => call.next().await,
                Some(monitor) => tokio::time::timeout(monitor, call.next())
                    .await
                    .map_err(|_| self.timed_out(method, monitor))?,
            };
            match reply {
                Some(Reply::Heartbeat) => {}
                Some(Reply::Done(result)) => {
                    return result.map_err(|failure| Error::Remote(Box::new(failure)));
                }
                Some(Reply::Unreadable(error)) => {
                    return Err(Error::Malformed(format!("the reply to {method} cannot be read: {error}")));
                }
                None => {
                    let text = "the transport was closed during the call";
                    let error = crate::Error::new(ErrorKind::Closed, text).with_outcome_unknown();
                    return Err(Error::Messaging(error));
                }
            }
        }
    }

    /// Sends a request that nobody answers, and returns when the broker has it. A cast to a topic whose servers have not
    /// started yet waits for them in their queue; a fanout cast reaches the servers that run.
    pub async fn cast(&self, context: &Context, method: &str, args: impl Serialize) -> Result<()> {
        let args = self.check(method, args)?;
        let link = self.transport.link();
        let message = link.encode(&request_fields(context, method, args, &self.target, None), true)?;
        if self.target.fanout {
            let exchange = link.config.fanout_exchange(&self.target.topic);
            return link.publish_fanout(&exchange, message, self.timeout).await;
        }
        link.publish_to(&self.destination(), message, self.timeout).await
    }

    fn destination(&self) -> Destination {
        Destination::of_topic(&self.transport.link().config, &self.target, routing_key(&self.target))
    }

    fn check(&self, method: &str, args: impl Serialize) -> Result<Value> {
        if self.target.topic.is_empty() {
            return Err(Error::Invalid(format!("{method}: the target has no topic")));
        }
        if let Some(version) = &self.target.version {
            if version::is_compatible(version, version).is_none() {
                return Err(Error::Invalid(format!(
                    "{method}: {version:?} is no version; it is major.minor"
                )));
            }
            if !self.can_send_version(version) {
                let cap = self.version_cap.as_deref().unwrap_or_default();
                return Err(Error::Invalid(format!("{method}: version {version} is above the cap {cap}")));
            }
        }
        match serde_json::to_value(args) {
            Ok(Value::Null) => Ok(Value::Object(serde_json::Map::new())),
            Ok(args @ Value::Object(_)) => Ok(args),
            Ok(_) => Err(Error::Invalid(format!("{method}: arguments are named; give a struct or a map"))),
            Err(error) => Err(Error::Invalid(format!("{method}: the arguments are no JSON: {error}"))),
        }
    }

    fn timed_out(&self, method: &str, waited: Duration) -> Error {
        Error::Timeout { call: format!("{method} of {}", self.target), waited }
    }
}
