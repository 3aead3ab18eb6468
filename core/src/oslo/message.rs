//! The fields of requests and replies.

use serde_json::{Map, Value};

use super::{Context, Error, Failure, Result, unique_id, version};

const CONTEXT: &str = "_context_";
const UNIQUE_ID: &str = "_unique_id";
const MSG_ID: &str = "_msg_id";
const REPLY_Q: &str = "_reply_q";
const TIMEOUT: &str = "_timeout";

/// A call or a cast.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub method: String,
    pub args: Value,
    pub namespace: Option<String>,
    pub version: String,
    pub context: Context,
    pub unique_id: Option<String>,
    pub call: Option<CallFields>,
}

/// What a request has that is to be answered.
#[derive(Clone, Debug)]
pub(super) struct CallFields {
    pub msg_id: String,
    pub reply_q: String,
    /// The caller gives up when it hears nothing for so many seconds.
    pub monitor_seconds: Option<u64>,
}

impl CallFields {
    pub fn take(fields: &mut Map<String, Value>) -> Option<Self> {
        let (msg_id, reply_q) = (take_text(fields, MSG_ID), take_text(fields, REPLY_Q));
        // As stock servers do, what is no whole number of seconds is no request for heartbeats.
        let monitor_seconds =
            fields.remove(TIMEOUT).as_ref().and_then(Value::as_u64).filter(|seconds| *seconds > 1);
        msg_id.zip(reply_q).map(|(msg_id, reply_q)| Self { msg_id, reply_q, monitor_seconds })
    }
}

impl Request {
    pub fn from_fields(mut fields: Map<String, Value>) -> Result<Self> {
        let unique_id = take_text(&mut fields, UNIQUE_ID);
        let method = take_text(&mut fields, "method")
            .ok_or_else(|| Error::Malformed("a request without a method".into()))?;
        let call = CallFields::take(&mut fields);
        let args = match fields.remove("args") {
            None | Some(Value::Null) => Map::new().into(),
            Some(args) => args,
        };
        let namespace = take_text(&mut fields, "namespace");
        let version = take_text(&mut fields, "version").unwrap_or_else(|| version::DEFAULT.into());
        let context = fields
            .into_iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(CONTEXT)?.to_owned(), value)))
            .collect();
        Ok(Self { method, args, namespace, version, context, unique_id, call })
    }
}

/// The fields of a request. `version` and `namespace` stand in it only if the target has them.
pub(super) fn request_fields(
    context: &Context,
    method: &str,
    args: Value,
    target: &super::Target,
    call: Option<&CallFields>,
) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("method".into(), method.into());
    fields.insert("args".into(), args);
    if let Some(namespace) = &target.namespace {
        fields.insert("namespace".into(), namespace.clone().into());
    }
    if let Some(version) = &target.version {
        fields.insert("version".into(), version.clone().into());
    }
    if let Some(call) = call {
        fields.insert(MSG_ID.into(), call.msg_id.clone().into());
        fields.insert(REPLY_Q.into(), call.reply_q.clone().into());
        fields.insert(TIMEOUT.into(), call.monitor_seconds.into());
    }
    fields.insert(UNIQUE_ID.into(), unique_id().into());
    add_context(&mut fields, context);
    fields
}

/// Adds a context to the fields of a request or a notification.
pub(super) fn add_context(fields: &mut Map<String, Value>, context: &Context) {
    for (key, value) in context.entries() {
        fields.insert(format!("{CONTEXT}{key}"), value.clone());
    }
}

/// Takes the context out of the fields of a notification.
pub(super) fn take_context(fields: &mut Map<String, Value>) -> Context {
    let keys: Vec<String> = fields.keys().filter(|key| key.starts_with(CONTEXT)).cloned().collect();
    keys.iter().filter_map(|key| Some((key[CONTEXT.len()..].to_owned(), fields.remove(key)?))).collect()
}

/// Takes the id out by which a repeated message is known.
pub(super) fn take_unique_id(fields: &mut Map<String, Value>) -> Option<String> {
    take_text(fields, UNIQUE_ID)
}

pub(super) fn add_unique_id(fields: &mut Map<String, Value>) {
    fields.insert(UNIQUE_ID.into(), unique_id().into());
}

/// The value of a field that is a string.
pub(super) fn take_text(fields: &mut Map<String, Value>, key: &str) -> Option<String> {
    match fields.remove(key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// What a server sends back.
#[derive(Debug)]
pub(super) enum Reply {
    /// The method goes on; the caller's monitor begins anew.
    Heartbeat,
    Done(Result<Value, Failure>),
    /// It came, and cannot be read.
    Unreadable(Error),
}

impl Reply {
    /// The call that a reply belongs to which cannot be read.
    pub fn call_of(mut fields: Map<String, Value>) -> Option<String> {
        take_text(&mut fields, MSG_ID)
    }

    /// The reply, the call that it belongs to, and its unique id.
    pub fn from_fields(mut fields: Map<String, Value>) -> Result<(Self, String, Option<String>)> {
        let unique_id = take_unique_id(&mut fields);
        let msg_id = take_text(&mut fields, MSG_ID)
            .ok_or_else(|| Error::Malformed("a reply that names no call".into()))?;
        let result = fields.remove("result").unwrap_or_default();
        let reply = match fields.remove("failure") {
            Some(failure) if is_failure(&failure) => Self::Done(Err(Failure::from_wire(&failure))),
            _ if result.is_null() && fields.get("ending") == Some(&Value::Bool(false)) => Self::Heartbeat,
            _ => Self::Done(Ok(result)),
        };
        Ok((reply, msg_id, unique_id))
    }

    /// The fields of a heartbeat.
    pub fn heartbeat(msg_id: &str) -> Map<String, Value> {
        fields_of_reply(Value::Null, Value::Null, false, msg_id)
    }

    /// The fields of the last reply to a call.
    pub fn done(outcome: Result<Value, Failure>, msg_id: &str) -> Map<String, Value> {
        match outcome {
            Ok(result) => fields_of_reply(result, Value::Null, true, msg_id),
            Err(failure) => fields_of_reply(Value::Null, failure.to_wire(), true, msg_id),
        }
    }
}

fn fields_of_reply(result: Value, failure: Value, ending: bool, msg_id: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("result".into(), result);
    fields.insert("failure".into(), failure);
    fields.insert("ending".into(), ending.into());
    fields.insert(MSG_ID.into(), msg_id.into());
    add_unique_id(&mut fields);
    fields
}

/// Python's truth of the field: null, an empty text and an empty object are none.
fn is_failure(failure: &Value) -> bool {
    match failure {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::Target, *};

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(fields) => fields,
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn a_request_survives_the_wire_with_every_key_of_its_context() {
        let context = Context::new()
            .with("request_id", "req-1")
            .with("odd", json!([1]))
            .with_traceparent("00-ab-cd-01");
        let target = Target::topic("t").namespace("n").version("1.4");
        let call = CallFields { msg_id: "m".into(), reply_q: "reply_1".into(), monitor_seconds: Some(30) };
        let fields = request_fields(&context, "add", json!({"a": 1}), &target, Some(&call));
        assert_eq!(fields["_context_traceparent"], "00-ab-cd-01");
        let request = Request::from_fields(fields).unwrap();
        assert_eq!(request.context, context);
        assert_eq!((request.method.as_str(), &request.args), ("add", &json!({"a": 1})));
        assert_eq!((request.namespace.as_deref(), request.version.as_str()), (Some("n"), "1.4"));
        assert_eq!(request.call.unwrap().monitor_seconds, Some(30));
        assert_eq!(request.unique_id.unwrap().len(), 32);
    }

    #[test]
    fn a_cast_is_not_answered_and_the_defaults_are_those_of_peers() {
        let request = Request::from_fields(object(json!({"method": "add", "_msg_id": null}))).unwrap();
        assert!(request.call.is_none() && request.unique_id.is_none());
        assert_eq!((request.version.as_str(), request.args), ("1.0", json!({})));
        let odd = json!({"method": "add", "_msg_id": "m", "_reply_q": "q", "_timeout": "soon"});
        assert_eq!(Request::from_fields(object(odd)).unwrap().call.unwrap().monitor_seconds, None);
        assert!(Request::from_fields(object(json!({"args": {}}))).is_err());
    }

    #[test]
    fn replies_of_every_kind() {
        let failure = Failure::new("ValueError", "no");
        let read = |fields| {
            let (reply, msg_id, unique_id) = Reply::from_fields(fields).unwrap();
            assert_eq!((msg_id.as_str(), unique_id.is_some()), ("m", true));
            reply
        };
        assert!(matches!(read(Reply::heartbeat("m")), Reply::Heartbeat));
        for outcome in [Ok(json!(3)), Ok(Value::Null), Err(failure)] {
            let reply = read(Reply::done(outcome.clone(), "m"));
            assert_eq!(format!("{reply:?}"), format!("{:?}", Reply::Done(outcome)));
        }
        // What old peers send: no unique id, no ending.
        let (reply, ..) =
            Reply::from_fields(object(json!({"_msg_id": "m", "result": null, "failure": null}))).unwrap();
        assert!(matches!(reply, Reply::Done(Ok(Value::Null))), "{reply:?}");
    }
}
