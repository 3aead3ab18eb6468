//! What is fuzzed. Each target is a function of bytes that panics where a promise is broken; libFuzzer calls it with what it
//! makes up, and `core/tests/fuzz_corpus.rs` with what is on file.
//!
//! | target | its bytes |
//! |---|---|
//! | [`frames`] | a stream of frames, read whole and in parts, and as `amq-protocol` reads it |
//! | [`tables`] | a field table: the guard in front of the parser, and the parser |
//! | [`properties`] | a content header |
//! | [`client_bytes`] | what a server sends to a client |
//! | [`client_frames`] | choices of a server that knows methods, channels and what a client has asked for |
//! | [`broker_bytes`] | what a client sends to the embedded broker |
//! | [`broker_frames`] | choices of a client that knows methods, channels and arguments |
//! | [`uri`] | an AMQP URI |
//! | [`murano`] | a Murano document, a key in PEM, a signature |
//! | [`oslo`] | an oslo.messaging envelope |

pub mod broker_bytes;
pub mod broker_frames;
pub mod client_bytes;
pub mod client_frames;
pub mod frames;
pub mod murano;
pub mod oslo;
pub mod properties;
pub mod tables;
pub mod uri;

#[path = "../../tests/hostile_server/bytes.rs"]
#[allow(dead_code, reason = "shared with the hostile server")]
mod bytes;
#[path = "../../tests/arbitrary_bytes/case.rs"]
mod case;
mod choices;
#[path = "../../tests/arbitrary_bytes/mutate.rs"]
mod mutate;
#[path = "../../tests/arbitrary_bytes/server.rs"]
#[allow(dead_code, reason = "shared with the arbitrary servers")]
mod server;

use std::future::Future;

use choices::Rng;

/// A name, and what to do with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
#[allow(dead_code, reason = "for the replay")]
pub const TARGETS: [Target; 10] = [
    ("broker_bytes", broker_bytes::run),
    ("broker_frames", broker_frames::run),
    ("client_bytes", client_bytes::run),
    ("client_frames", client_frames::run),
    ("frames", frames::run),
    ("murano", murano::run),
    ("oslo", oslo::run),
    ("properties", properties::run),
    ("tables", tables::run),
    ("uri", uri::run),
];

/// Runs a conversation on a clock that jumps over waits. A panic of any task of it is a finding.
fn converse<F: Future<Output = ()> + 'static>(conversation: F) {
    use std::sync::atomic::{AtomicBool, Ordering};

    /// tokio catches a task's panic, which is then seen by nobody who does not wait for the task.
    static PANICKED: AtomicBool = AtomicBool::new(false);
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICKED.store(true, Ordering::Relaxed);
            report(info);
        }));
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(conversation);
    drop(runtime);
    assert!(!PANICKED.swap(false, Ordering::Relaxed), "a task panicked: see above");
}
