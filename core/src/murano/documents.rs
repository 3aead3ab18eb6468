//! The documents: JSON with the names that Murano gives its fields. What it does not know, a document keeps.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{SigningKey, message, time};
use crate::{Message, Result};

const FORMAT_VERSION: &str = "2.0.0";

fn format_version() -> String {
    FORMAT_VERSION.into()
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

/// What an agent is to do (engine → agent).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExecutionPlan {
    /// The version of this format.
    #[serde(default = "format_version")]
    pub format_version: String,
    /// What the result refers to.
    #[serde(rename = "ID")]
    pub id: String,
    /// `Execute`.
    #[serde(default = "execute")]
    pub action: String,
    /// What to call it in logs.
    #[serde(default)]
    pub name: String,
    /// The text of the script.
    #[serde(default)]
    pub body: String,
    /// What the script gets as `args`.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// The scripts that the body calls, by name.
    #[serde(default)]
    pub scripts: Map<String, Value>,
    /// The files that the scripts need, by id.
    #[serde(default)]
    pub files: Map<String, Value>,
    /// Orders the plans of an agent.
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
            format_version: format_version(),
            id: new_id(),
            action: execute(),
            name: name.into(),
            body: body.into(),
            parameters: Map::new(),
            scripts: Map::new(),
            files: Map::new(),
            stamp: time::since_1970().as_secs().into(),
            other: Map::new(),
        }
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
    /// The version of this format.
    #[serde(default = "format_version")]
    pub format_version: String,
    /// The result's own id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The id of the plan.
    #[serde(rename = "SourceID")]
    pub source_id: String,
    /// `Execution:Result`.
    #[serde(default = "execution_result")]
    pub action: String,
    /// 0 when the plan was carried out.
    #[serde(default)]
    pub error_code: i64,
    /// What the script returned, or what went wrong.
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
            format_version: format_version(),
            id: new_id(),
            source_id: plan.id.clone(),
            action: execution_result(),
            error_code,
            body,
            time: time::text(time::since_1970()),
            other: Map::new(),
        }
    }

    /// `plan` was carried out, and returned `body`.
    pub fn done(plan: &ExecutionPlan, body: impl Into<Value>) -> Self {
        Self::new(plan, 0, body.into())
    }

    /// `plan` failed; `error_code` is not 0.
    pub fn failed(plan: &ExecutionPlan, error_code: i64, body: impl Into<Value>) -> Self {
        Self::new(plan, error_code, body.into())
    }

    /// Whether the plan was carried out.
    pub fn is_success(&self) -> bool {
        self.error_code == 0
    }

    /// The message to publish. It has the plan's id, by which the engine finds who waits for it.
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
        assert_eq!(plan.other["ReplyTo"], "back");
        assert_eq!(serde_json::to_value(&plan).unwrap(), text);
        let text = json!({
            "FormatVersion": "2.0.0", "ID": "1", "SourceID": "17", "Action": "Execution:Result", "ErrorCode": -1,
            "Body": null, "Time": "then", "Host": "web-0",
        });
        let result: ExecutionResult = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(serde_json::to_value(&result).unwrap(), text);
    }

    #[test]
    fn what_is_missing_has_a_default_but_the_ids() {
        let plan: ExecutionPlan = serde_json::from_value(json!({"ID": "17"})).unwrap();
        assert_eq!((plan.action.as_str(), plan.format_version.as_str()), ("Execute", "2.0.0"));
        assert!(serde_json::from_value::<ExecutionPlan>(json!({})).is_err());
        assert!(serde_json::from_value::<ExecutionResult>(json!({"ID": "1"})).is_err());
    }
}
