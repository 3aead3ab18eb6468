//! `tracing` events of the core as records of Python's `logging`: `murano_messaging.engine.session` and the like.
//!
//! The engine only queues them; the service thread asks the logger whether it wants them. What is below every logger's level
//! is not even formatted. Levels change without telling anybody: the service looks at them at each connect, and with the
//! records that come; once a second one below the level gets through so that it does.

use std::{
    fmt::{self, Write},
    sync::{
        LazyLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use pyo3::{exceptions::PyRuntimeError, prelude::*};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
    subscriber::Interest,
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

/// The lowest level that any logger wants.
static WANTED: AtomicI64 = AtomicI64::new(0);
/// When [`WANTED`] is to be looked at again, in milliseconds since [`BEGIN`].
static OLD_AT: AtomicU64 = AtomicU64::new(0);
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
const LASTS: Duration = Duration::from_secs(1);

fn now() -> u64 {
    BEGIN.elapsed().as_millis() as u64
}

/// The service knows that no logger wants records below `level`.
#[pyfunction]
pub fn set_log_level(level: i64) {
    WANTED.store(level, Ordering::Relaxed);
    OLD_AT.store(now() + LASTS.as_millis() as u64, Ordering::Relaxed);
}

/// Whether the service should look at the levels again.
#[pyfunction]
pub fn log_level_is_old() -> bool {
    now() >= OLD_AT.load(Ordering::Relaxed)
}

impl Subscriber for ToPython {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if *metadata.level() <= Level::DEBUG && metadata.is_event() {
            Interest::sometimes()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        if *metadata.level() > Level::DEBUG || !metadata.is_event() {
            return false;
        }
        i64::from(number(*metadata.level())) >= WANTED.load(Ordering::Relaxed) || log_level_is_old()
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
