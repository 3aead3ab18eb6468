//! Engine and embedded broker over in-memory streams under a paused clock, everything driven by one seed.
//!
//! | module | what it is |
//! |---|---|
//! | [`plan`] | what a seed means: the publishers, the consumers, and when which faults come |
//! | [`faulty`] | byte streams that are cut, stalled and chopped |
//! | [`ledger`] | what happened, and whether it may |
//! | [`run`] | one run of a plan |
//! | [`workload`] | what the applications do with messages |
//! | [`churn`] | what they do with queues, exchanges and bindings |
//! | [`poison`] | a message that ends every connection that it is delivered on |
//! | [`watch`] | the frames in a trace |

mod churn;
mod faulty;
mod ledger;
mod plan;
mod poison;
mod run;
mod watch;
mod workload;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

/// The longest runs, whose bytes pass one at a time, take a twentieth of it in the debug build, of the clock on the wall.
const STUCK: Duration = Duration::from_secs(180);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// What a seed's run violates; empty if nothing.
fn violations(seed: u64) -> Vec<String> {
    match catch_unwind(AssertUnwindSafe(|| run::run(seed))) {
        Ok(outcome) => outcome.violations,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            vec![format!("panic: {}", text.unwrap_or_default())]
        }
    }
}

/// `SEEDS` seeds from `FIRST_SEED` on, on every core.
#[test]
fn nothing_is_lost_whatever_the_seed() {
    let (first, count) = (number("FIRST_SEED", 1), number("SEEDS", 200));
    let next = AtomicU64::new(first);
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let mut failed: Vec<(u64, Vec<String>)> = Vec::new();
    let (sender, finished) = mpsc::channel();
    let running: Vec<Mutex<Option<(u64, Instant)>>> = (0..threads).map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| {
        for slot in &running {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    *slot.lock().unwrap() = Some((seed, Instant::now()));
                    let violations = violations(seed);
                    *slot.lock().unwrap() = None;
                    sender.send((seed, violations)).unwrap();
                }
            });
        }
        drop(sender);
        loop {
            match finished.recv_timeout(Duration::from_secs(1)) {
                Ok((_, violations)) if violations.is_empty() => {}
                Ok((seed, violations)) => {
                    println!("seed {seed}: {}", violations[0]);
                    failed.push((seed, violations));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            // The paused clock cannot end a run that spins.
            let stuck = running.iter().filter_map(|slot| *slot.lock().unwrap());
            if let Some((seed, _)) = stuck.into_iter().find(|(_, since)| since.elapsed() > STUCK) {
                println!("seed {seed}: spins, or takes longer than {STUCK:?}");
                std::process::exit(101);
            }
        }
    });
    failed.sort();
    let rate = count as f64 / began.elapsed().as_secs_f64();
    println!("{count} seeds from {first}, {rate:.0} a second, {} failed", failed.len());
    for (seed, violations) in failed.iter().take(5) {
        println!(
            "Seed {seed} broke {} promises. Replay it with: make simulate SEEDS=1 FIRST={seed} TRACE=1",
            violations.len()
        );
        for violation in violations.iter().take(10) {
            println!("    {}.", violation.trim_end_matches("; "));
        }
    }
    if count == 1 && watch::is_tracing() {
        println!(
            "The trace: the time in the run, then what happened; '3 -> channel 1' is a frame to the broker on connection 3."
        );
        println!("{}", run::run(first).trace.join("\n"));
    }
    assert!(failed.is_empty(), "failed seeds: {:?}", failed.iter().map(|(seed, _)| seed).collect::<Vec<_>>());
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1..=20 {
        let (one, other) = (run::run(seed), run::run(seed));
        let differ = one.trace.iter().zip(&other.trace).position(|(one, other)| one != other);
        if let Some(at) = differ {
            panic!("seed {seed}: line {at} is '{}' and then '{}'", one.trace[at], other.trace[at]);
        }
        assert_eq!(one.trace.len(), other.trace.len(), "seed {seed}");
    }
}

/// The faults must happen, or the runs prove nothing.
#[test]
fn the_seeds_cover_what_can_happen() {
    let mut seen = run::Coverage::default();
    for seed in 1..=60 {
        seen.add(&run::run(seed).coverage);
    }
    println!("{seen:?}");
    seen.assert_all();
}
