//! Queues, exchanges and bindings as plain values: declared, recorded, and declared again after a lost connection.
//!
//! The builders cannot fail. What the broker could not serve is refused, with the reason, when the value is used, before
//! anything is sent; everything `RabbitMQ` 3.10 accepts is let through, raw arguments included.

mod exchange;
mod queue;
mod queue_arguments;

use crate::{
    Error, Result,
    message::{FieldTable, IntoValue, ShortString, check_table, with_entry},
};

pub use exchange::{Binding, Exchange};
pub use queue::{Overflow, Queue, QueueInfo, QueueType};
pub(crate) use queue_arguments::check_stream_offset;

/// The raw arguments of an entity, and the first one that could not be taken.
#[derive(Clone, Debug, Default, PartialEq)]
struct Arguments {
    table: FieldTable,
    defect: Option<Box<str>>,
}

impl Arguments {
    fn set(&mut self, key: String, value: impl IntoValue) {
        if let Err(error) = with_entry(&mut self.table, "argument", key, value) {
            self.defect.get_or_insert_with(|| error.to_string().into());
        }
    }

    fn check(&self) -> Result<()> {
        if let Some(defect) = &self.defect {
            return Err(Error::invalid(defect.to_string()));
        }
        check_table("argument", &self.table)
    }
}

/// For a string that a `check` has passed. A longer one would be cut into another name: it becomes the empty name, which
/// no declare or bind accepts as this one's.
fn checked_short(value: &str) -> ShortString {
    ShortString::try_new(value).unwrap_or_default()
}
