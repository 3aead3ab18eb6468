//! The documents: JSON with the names that Murano gives its fields. What it does not know, a document keeps.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use super::{SigningKey, message, message_id};
use crate::{Delivery, Message, Result, utc};

/// The format that is written.
const FORMAT_VERSION: &str = "2.0.0";

/// The format of documents that do not say which they have.
fn first_format_version() -> String {
    "1.0.0".into()
}

fn execute() -> String {
    "Execute".into()
}

fn execution_result() -> String {
    "Execution:Result".into()
}

fn new_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// Ten-thousandths of a second since 1970, and always more than the last one: an agent drops a plan whose stamp is not.
fn new_stamp() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = u64::try_from(utc::since_1970().as_micros() / 100).unwrap_or_default();
    let after = |last: u64| now.max(last + 1);
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(after(last)));
    after(last.unwrap_or_else(|last| last))
}

fn no_scripts() -> Value {
    Map::new().into()
}

/// `null` means the same as a field that is not there.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// What an agent is to do (engine → agent).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExecutionPlan {
    /// The version of this format; 1.0.0 in a plan that has none.
    #[serde(default = "first_format_version")]
    pub format_version: String,
    /// What the result refers to. Plans may leave it to the message that they come in: see [`Self::from_delivery`].
    #[serde(
        rename = "ID",
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub id: String,
    /// The queue that the result goes to, if the plan names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// `Execute`.
    #[serde(default = "execute")]
    pub action: String,
    /// What to call it in logs.
    #[serde(default)]
    pub name: String,
    /// The text of the script.
    #[serde(default, deserialize_with = "or_default")]
    pub body: String,
    /// What the script gets as `args`.
    #[serde(default, deserialize_with = "or_default")]
    pub parameters: Map<String, Value>,
    /// The scripts that the body calls: an object, by name; in format 1 a list.
    #[serde(default = "no_scripts")]
    pub scripts: Value,
    /// The files that the scripts need, by id.
    #[serde(default, deserialize_with = "or_default")]
    pub files: Map<String, Value>,
    /// Orders the plans of an agent, which drops one whose stamp is not greater than the last.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub stamp: Value,
    /// All other fields, as they came.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl ExecutionPlan {
    /// A plan with an id of its own, stamped with the time.
    pub fn new(name: impl Into<String>, body: impl Into<String>) -> Self {
        Self {
            format_version: FORMAT_VERSION.into(),
            id: new_id(),
            reply_to: None,
            action: execute(),
            name: name.into(),
            body: body.into(),
            parameters: Map::new(),
            scripts: no_scripts(),
            files: Map::new(),
            stamp: new_stamp().into(),
            other: Map::new(),
        }
    }

    /// The plan that came. What it does not say itself, id and queue for the result, is in the properties of the message.
    ///
    /// [`ErrorKind::Json`](crate::ErrorKind::Json) if it is not a plan.
    pub fn from_delivery(delivery: &Delivery) -> Result<Self> {
        let mut plan: Self = delivery.json()?;
        if plan.id.is_empty() {
            plan.id = message_id(delivery).unwrap_or_default().into();
        }
        if plan.reply_to.is_none() {
            plan.reply_to = delivery.properties().reply_to().as_ref().map(ToString::to_string);
        }
        Ok(plan)
    }

    /// With a new stamp, to be sent again: the agent drops it if it came before under the old one.
    pub fn restamped(self) -> Self {
        Self { stamp: new_stamp().into(), ..self }
    }

    /// With one more parameter.
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// The message to publish. [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) at the publish if the id
    /// has more than 255 bytes.
    pub fn message(&self) -> Result<Message> {
        message(&self.id, self)
    }

    /// The message to publish to `queue`, signed for it.
    pub fn signed_message(&self, key: &SigningKey, queue: &str) -> Result<Message> {
        key.signed(queue, self.message()?)
    }
}

/// What came of a plan (agent → engine).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExecutionResult {
    /// The version of this format; 1.0.0 in a result that has none.
    #[serde(default = "first_format_version")]
    pub format_version: String,
    /// The result's own id; empty in format 1.
    #[serde(
        rename = "ID",
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub id: String,
    /// The id of the plan. Format 1 leaves it to the message: see [`Self::from_delivery`].
    #[serde(
        rename = "SourceID",
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub source_id: String,
    /// `Execution:Result`.
    #[serde(default = "execution_result")]
    pub action: String,
    /// 0 when the plan was carried out.
    #[serde(default, deserialize_with = "or_default")]
    pub error_code: i64,
    /// What the script returned, or what went wrong: an object with `Message` and `AdditionalInfo`.
    #[serde(default)]
    pub body: Value,
    /// When.
    #[serde(default)]
    pub time: String,
    /// All other fields, as they came.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl ExecutionResult {
    fn new(plan: &ExecutionPlan, error_code: i64, body: Value) -> Self {
        Self {
            format_version: FORMAT_VERSION.into(),
            id: new_id(),
            source_id: plan.id.clone(),
            action: execution_result(),
            error_code,
            body,
            time: utc::text(utc::since_1970()),
            other: Map::new(),
        }
    }

    /// `plan` was carried out, and returned `body`.
    pub fn done(plan: &ExecutionPlan, body: impl Into<Value>) -> Self {
        Self::new(plan, 0, body.into())
    }

    /// `plan` failed, for the reason that `message` says; `error_code` is not 0.
    pub fn failed(plan: &ExecutionPlan, error_code: i64, message: impl Into<String>) -> Self {
        Self::new(plan, error_code, json!({"Message": message.into(), "AdditionalInfo": null}))
    }

    /// With details of a failure.
    pub fn additional_info(mut self, details: impl Into<Value>) -> Self {
        self.body["AdditionalInfo"] = details.into();
        self
    }

    /// The result that came. If it does not say which plan it is of, the id of the message does.
    ///
    /// [`ErrorKind::Json`](crate::ErrorKind::Json) if it is not a result.
    pub fn from_delivery(delivery: &Delivery) -> Result<Self> {
        let mut result: Self = delivery.json()?;
        if result.source_id.is_empty() {
            result.source_id = message_id(delivery).unwrap_or_default().into();
        }
        Ok(result)
    }

    /// Whether the plan was carried out.
    pub fn is_success(&self) -> bool {
        // Format 1 has no codes: the plan may have failed as a whole, or its last command.
        let last = self.other.get("Result").and_then(Value::as_array).and_then(|results| results.last());
        let failed = |value: Option<&Value>| value.and_then(Value::as_bool).unwrap_or(false);
        let failed_in_format_1 = self.format_version.starts_with("1.")
            && (failed(self.other.get("IsException"))
                || failed(last.and_then(|last| last.get("IsException"))));
        self.error_code == 0 && !failed_in_format_1
    }

    /// The message to publish. It has the plan's id, by which the engine finds the call that waits for the result.
    pub fn message(&self) -> Result<Message> {
        message(&self.source_id, self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_has_the_fields_that_murano_gives_it() {
        let plan = ExecutionPlan {
            id: "17".into(),
            stamp: 5.into(),
            ..ExecutionPlan::new("Deploy", "return 1").parameter("port", 80)
        };
        assert_eq!(
            serde_json::to_value(&plan).unwrap(),
            json!({
                "FormatVersion": "2.0.0", "ID": "17", "Action": "Execute", "Name": "Deploy", "Body": "return 1",
                "Parameters": {"port": 80}, "Scripts": {}, "Files": {}, "Stamp": 5,
            })
        );
    }

    #[test]
    fn a_result_refers_to_its_plan() {
        let plan = ExecutionPlan::new("Deploy", "return 1");
        let done = ExecutionResult::done(&plan, json!(["x", 1]));
        let value = serde_json::to_value(&done).unwrap();
        assert_eq!(value["SourceID"], plan.id);
        assert_eq!(value["Action"], "Execution:Result");
        assert_eq!(value["ErrorCode"], 0);
        assert_eq!(value["Body"], json!(["x", 1]));
        assert!(done.is_success() && !ExecutionResult::failed(&plan, 3, "no").is_success());
        assert_ne!(done.id, ExecutionResult::done(&plan, Value::Null).id);
    }

    #[test]
    fn what_is_not_known_is_kept() {
        let text = json!({
            "FormatVersion": "2.2.0", "ID": "17", "Action": "Execute", "Name": "", "Body": "", "Parameters": {},
            "Scripts": {"a": {"Type": "Application", "Options": {"x": null}}}, "Files": {}, "Stamp": "a text",
            "ReplyTo": "back", "Nested": {"deep": [1, {"er": true}]},
        });
        let plan: ExecutionPlan = serde_json::from_value(text.clone()).unwrap();
        assert_eq!((plan.reply_to.as_deref(), plan.other.len()), (Some("back"), 1));
        assert_eq!(serde_json::to_value(&plan).unwrap(), text);
        let text = json!({
            "FormatVersion": "2.0.0", "ID": "1", "SourceID": "17", "Action": "Execution:Result", "ErrorCode": -1,
            "Body": null, "Time": "then", "Host": "web-0",
        });
        let result: ExecutionResult = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(serde_json::to_value(&result).unwrap(), text);
    }

    /// The shortest digits of a float are read as that float: a document that is passed on stays the same.
    #[test]
    fn floats_are_kept_to_the_last_bit() {
        let text =
            r#"{"FormatVersion":"2.0.0","Factor":2.2222222222222222e+77,"Small":1.7976931348623157e-300}"#;
        let once: ExecutionPlan = serde_json::from_str(text).unwrap();
        assert_eq!(
            once.other["Factor"].as_f64().unwrap().to_bits(),
            2.222_222_222_222_222_2e77_f64.to_bits()
        );
        let again: ExecutionPlan = serde_json::from_str(&serde_json::to_string(&once).unwrap()).unwrap();
        assert_eq!(again, once);
    }

    #[test]
    fn a_failure_says_why_where_the_engine_reads_it() {
        let plan = ExecutionPlan::new("Deploy", "return 1");
        let failed = ExecutionResult::failed(&plan, 100, "no package");
        assert_eq!(failed.body, json!({"Message": "no package", "AdditionalInfo": null}));
        let failed = failed.additional_info(json!({"exit": 3}));
        assert_eq!(failed.body, json!({"Message": "no package", "AdditionalInfo": {"exit": 3}}));
        assert_eq!(failed.error_code, 100);
    }

    #[test]
    fn stamps_are_ten_thousandths_of_a_second_and_each_is_newer_than_the_last() {
        let now = u64::try_from(utc::since_1970().as_millis()).unwrap() * 10;
        let mut plan = ExecutionPlan::new("Deploy", "return 1");
        let first = plan.stamp.as_u64().unwrap();
        assert!((now..now + 600_000).contains(&first), "{first} at {now}");
        let mut last = first;
        for n in 0..1000 {
            plan = if n % 2 == 0 { plan.restamped() } else { ExecutionPlan::new("Deploy", "return 1") };
            let stamp = plan.stamp.as_u64().unwrap();
            assert!(stamp > last, "{stamp} after {last}");
            last = stamp;
        }
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..1000).map(|_| new_stamp()).collect::<Vec<_>>()))
            .collect();
        let mut stamps: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        stamps.sort_unstable();
        stamps.dedup();
        assert_eq!(stamps.len(), 4000);
    }

    #[test]
    fn what_is_missing_has_a_default() {
        // What the engine sends to see whether an agent is there.
        let text = json!({"Body": "return", "FormatVersion": "2.0.0", "Scripts": {}});
        let plan: ExecutionPlan = serde_json::from_value(text).unwrap();
        assert_eq!((plan.id.as_str(), plan.action.as_str(), plan.body.as_str()), ("", "Execute", "return"));
        assert_eq!(serde_json::to_value(&plan).unwrap().get("ID"), None);
        let text =
            json!({"Scripts": ["cm0="], "Parameters": null, "Files": null, "Body": null, "ReplyTo": null});
        let plan: ExecutionPlan = serde_json::from_value(text).unwrap();
        assert_eq!((plan.format_version.as_str(), &plan.scripts), ("1.0.0", &json!(["cm0="])));
        assert!(plan.parameters.is_empty() && plan.files.is_empty() && plan.reply_to.is_none());
    }

    #[test]
    fn results_of_format_1_say_in_their_own_way_whether_they_failed() {
        let result = |text| serde_json::from_value::<ExecutionResult>(text).unwrap();
        let command = |failed| json!({"IsException": failed, "Result": ["", 0]});
        for (text, success) in [
            (json!({"IsException": false, "Result": [command(true), command(false)]}), true),
            (json!({"IsException": false, "Result": []}), true),
            (json!({"IsException": true, "Result": ["Error", "no"]}), false),
            (json!({"IsException": false, "Result": [command(false), command(true)]}), false),
            (json!({"FormatVersion": "2.0.0", "ErrorCode": null, "IsException": true}), true),
        ] {
            assert_eq!(result(text.clone()).is_success(), success, "{text}");
        }
        let first = result(json!({"IsException": false, "Result": []}));
        assert_eq!(
            (first.format_version.as_str(), first.id.as_str(), first.source_id.as_str()),
            ("1.0.0", "", "")
        );
    }
}
