//! What Murano's engine and its agents say to each other, for Rust services that join in: execution plans and their
//! results, the queues they travel through, and signatures (feature `murano`).
//!
//! ```
//! # #[cfg(feature = "broker")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use murano_messaging::{Client, murano::{self, ExecutionPlan, ExecutionResult}};
//!
//! let client = Client::connect("memory://murano").await?;
//! let queue = murano::agent_queue("7f1c", "web-0");
//! client.declare_queue(&murano::queue(&queue)).await?;
//! client.publish("", &queue, ExecutionPlan::new("Deploy web", "return 'done'").message()?).await?;
//!
//! // The agent may boot later.
//! let delivery = client.get_with_ack(&queue).await?.expect("the plan");
//! let plan = ExecutionPlan::from_delivery(&delivery)?;
//! let result = ExecutionResult::done(&plan, "done");
//! delivery.ack()?;
//! assert_eq!(result.source_id, plan.id);
//! # Ok::<(), murano_messaging::Error>(()) }).unwrap();
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | `documents` | [`ExecutionPlan`], [`ExecutionResult`] |
//! | `signing` | [`SigningKey`], [`VerifyingKey`] |

mod documents;
mod signing;

use std::time::Duration;

use serde::Serialize;

use crate::{Delivery, Message, Queue, Result, Value};

pub use documents::{ExecutionPlan, ExecutionResult};
pub use signing::{SignatureError, SigningKey, VerifyingKey};

/// For how long Murano's queues outlive their last use: a day.
pub const QUEUE_TTL: Duration = Duration::from_secs(86_400);

/// The queue that the agent of a host takes its plans from: `e<environment>-h<host>`, in lower case.
pub fn agent_queue(environment: &str, host: &str) -> String {
    format!("e{environment}-h{host}").to_lowercase()
}

/// The queue that results go to: `-execution-results-<name>`, in lower case.
pub fn results_queue(name: &str) -> String {
    format!("-execution-results-{}", name.to_lowercase())
}

/// A queue as Murano's engine declares it: durable, and expiring when it was not used for [`QUEUE_TTL`].
pub fn queue(name: &str) -> Queue {
    Queue::new(name).expires(QUEUE_TTL)
}

/// The id of a message, which some generations of Murano have as a property and others as a header.
pub fn message_id(delivery: &Delivery) -> Option<&str> {
    let header = header(delivery, "message_id").and_then(|value| match value {
        Value::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        _ => None,
    });
    header.filter(|id| !id.is_empty()).or_else(|| delivery.message_id().filter(|id| !id.is_empty()))
}

fn header<'a>(delivery: &'a Delivery, key: &str) -> Option<&'a Value> {
    delivery.properties().headers().as_ref()?.inner().get(key)
}

/// A message with a JSON document that every generation of Murano reads.
fn message<T: Serialize>(id: &str, document: &T) -> Result<Message> {
    Ok(Message::json(document)?.content_encoding("utf-8").message_id(id).header("message_id", id))
}
