//! `tracing` events of the core as records of Python's `logging`: `murano_messaging.engine.session` and the like.
//!
//! The engine only queues them; the service thread asks the logger whether it wants them. There are none for single
//! messages, so that switching them off costs nothing and switching them on works at any time.

use std::fmt::{self, Write};

use pyo3::{exceptions::PyRuntimeError, prelude::*};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};

use crate::service::{Job, ask};

struct ToPython;

/// The message, and the other fields behind it.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}

/// The numbers of Python's `logging`; it has no level below DEBUG.
fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

impl Subscriber for ToPython {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG && metadata.is_event()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        text.message.push_str(&text.fields);
        let metadata = event.metadata();
        let logger = metadata.target().replace("::", ".");
        ask(Job::Log { level: number(*metadata.level()), logger, text: text.message });
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// From now on the core's events go to Python.
pub fn begin() -> PyResult<()> {
    tracing::subscriber::set_global_default(ToPython)
        .map_err(|error| PyRuntimeError::new_err(format!("logging cannot be set up: {error}")))
}
