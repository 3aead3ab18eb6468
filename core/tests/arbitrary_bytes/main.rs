//! Whatever a server sends, the client does not panic, does not hang, and does not grow: tens of thousands of servers
//! that send noise, made-up frames, or a conversation that is spoilt here and there.
//!
//! Each case has a seed, which a failure prints; `MURANO_TEST_SEED` runs that one alone, and `MURANO_TEST_CASES` more or
//! fewer of each kind than the default.

#[path = "../hostile_server/bytes.rs"]
#[allow(dead_code)] // Shared with the hostile server.
mod bytes;
mod case;
mod circles;
mod mutate;
mod server;

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use fastrand::Rng;
use server::{Behaviour, Lair};

/// How long a case may take, by the clock on the wall: one that is longer at it turns in circles.
const PATIENCE: Duration = Duration::from_secs(20);

/// What all cases together may leave behind, with what the allocator keeps.
const SLACK: u64 = 64 * 1024 * 1024;

/// A panic is the case's that runs.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

static PANICKED: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn panicked() -> Vec<String> {
    std::mem::take(&mut PANICKED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Memory of this process in bytes, without the files it has mapped.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Ends the process when `seed` stays the same for too long: a task that never waits cannot be stopped otherwise.
fn watch(seed: &'static AtomicU64, done: mpsc::Receiver<()>) {
    std::thread::spawn(move || {
        let mut last = u64::MAX;
        while let Err(mpsc::RecvTimeoutError::Timeout) = done.recv_timeout(PATIENCE) {
            let now = seed.load(Ordering::Relaxed);
            if now == last {
                eprintln!("seed {now} does not end: run it with MURANO_TEST_SEED={now}");
                std::process::abort();
            }
            last = now;
        }
    });
}

/// Runs cases of a behaviour, on a clock that jumps over waits.
fn run(cases: u64, behaviour: impl Fn(u64) -> Behaviour) {
    static SEED: AtomicU64 = AtomicU64::new(0);
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (ended, done) = mpsc::channel();
    watch(&SEED, done);
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICKED.lock().unwrap_or_else(PoisonError::into_inner).push(info.to_string());
    }));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let from_env = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let chosen = from_env("MURANO_TEST_SEED");
    let cases = from_env("MURANO_TEST_CASES").unwrap_or(cases);
    let mut before = 0;
    let mut failed = None;
    for number in 0..cases {
        let seed = chosen.unwrap_or(number);
        SEED.store(seed, Ordering::Relaxed);
        let result = runtime.block_on(async {
            let mut rng = Rng::with_seed(seed);
            let lair = Lair::new(behaviour(seed), rng.fork());
            tokio::spawn(case::run(lair, rng)).await
        });
        let panics = panicked();
        if result.is_err() || !panics.is_empty() {
            failed = Some(format!("seed {seed} ({:?}): {panics:?}", behaviour(seed)));
            break;
        }
        if chosen.is_some() {
            break;
        }
        // The first thousand fill what is filled once.
        if number == 1000 {
            before = resident();
        }
    }
    std::panic::set_hook(report);
    // The watchdog may have gone with a failure.
    let _ = ended.send(());
    assert!(failed.is_none(), "{}", failed.unwrap_or_default());
    let grown = resident().saturating_sub(before);
    assert!(chosen.is_some() || grown < SLACK, "grown by {grown} bytes in {cases} cases");
}

#[test]
fn noise() {
    run(10_000, |_| Behaviour::Noise);
}

#[test]
fn made_up_frames() {
    run(6_000, |_| Behaviour::Frames);
}

#[test]
fn spoilt_conversations() {
    run(10_000, |seed| Behaviour::Spoilt([3, 10, 30, 100, 0][seed as usize % 5]));
}
