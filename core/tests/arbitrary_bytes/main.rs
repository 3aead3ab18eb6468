//! Whatever a server sends, the client does not panic, does not hang, and does not grow: tens of thousands of servers
//! that send noise, made-up frames, or a conversation that is spoilt here and there.
//!
//! Each case has a seed, which a failure prints; `MURANO_TEST_SEED` runs that one alone, and `MURANO_TEST_CASES` more or
//! fewer of each kind than the default.

#[path = "../hostile_server/bytes.rs"]
#[allow(dead_code)] // Shared with the hostile server.
mod bytes;
mod circles;
mod mutate;
mod server;

use std::{
    future::Future,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use fastrand::Rng;
use murano_messaging::{Client, ErrorKind, Message, Options, Queue, Recovery};

use server::{Behaviour, Lair};

/// The deadline of every operation; of the client's clock, which does not tick while there is something to do.
const DEADLINE: Duration = Duration::from_secs(2);

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

/// Waits for an operation, which may fail but not hang.
async fn ends<T>(
    what: &str,
    operation: impl Future<Output = Result<T, murano_messaging::Error>>,
) -> Option<T> {
    let Ok(result) = tokio::time::timeout(DEADLINE + DEADLINE / 2, operation).await else {
        panic!("{what} hangs");
    };
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            // Nobody has closed it: that would be an answer that got lost.
            assert_ne!(error.kind(), ErrorKind::Closed, "{what}: {error}");
            None
        }
    }
}

/// Uses a client in all the ways there are.
async fn use_up(client: &Client, rng: &mut Rng) {
    let consuming = async |no_ack: bool, cancels: bool| {
        let Some(consumer) = ends("consume", client.consume("q").no_ack(no_ack).prefetch(5).start()).await
        else {
            return;
        };
        for _ in 0..3 {
            match tokio::time::timeout(Duration::from_millis(50), consumer.next()).await {
                Ok(Some(Ok(delivery))) => {
                    // Without acks this is an error, as it should be.
                    let _ = if cancels { delivery.ack() } else { delivery.requeue() };
                }
                Ok(_) => break,
                Err(_) => {}
            }
        }
        if cancels {
            ends("set_prefetch", consumer.set_prefetch(9)).await;
            ends("cancel", consumer.cancel()).await;
        } else if !no_ack {
            ends("recover", consumer.recover(true)).await;
        }
    };
    let publishing = async || {
        let mut pending = Vec::new();
        for _ in 0..4 {
            let message = Message::new(vec![b'p'; 5000]);
            pending.extend(ends("admission", client.publish_deferred("", "q", message)).await);
        }
        for confirmation in pending {
            ends("publish", confirmation).await;
        }
    };
    let declaring = async || {
        ends("declare", client.declare_queue(&Queue::new("q"))).await;
        ends("look up", client.queue_info("q")).await;
    };
    let getting = async || {
        if let Some(Some(delivery)) = ends("get", client.get_with_ack("q")).await {
            // A stale one does nothing.
            let _ = delivery.ack();
        }
        ends("update the secret", client.update_secret("s", "r")).await;
    };
    let (cancels, no_ack) = (rng.bool(), rng.bool());
    tokio::join!(
        consuming(false, cancels),
        consuming(no_ack, !cancels),
        publishing(),
        declaring(),
        getting()
    );
}

async fn case(behaviour: Behaviour, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let recovers = rng.u8(..4) == 0;
    let options = Options::new()
        .connector(Lair::new(behaviour, rng.u64(..)))
        .seed(rng.u64(..))
        .connect_timeout(DEADLINE)
        .operation_timeout(DEADLINE)
        .max_body_size(100_000)
        .delivery_buffer(10_000)
        .heartbeat(Duration::from_secs(rng.u64(..3)))
        .separate_publish_connection(rng.bool())
        .recovery(Recovery { enabled: recovers, ..Recovery::default() });
    let Some(client) = ends("connect", options.connect()).await else {
        return;
    };
    use_up(&client, &mut rng).await;
    // Whatever its outcome: it has one.
    let closed = tokio::time::timeout(DEADLINE + DEADLINE / 2, client.close()).await;
    assert!(closed.is_ok(), "close hangs");
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
        let result = runtime.block_on(async { tokio::spawn(case(behaviour(seed), seed)).await });
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
