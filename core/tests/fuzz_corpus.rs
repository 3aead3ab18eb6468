//! Replays what `make fuzz` starts from and what it has found (`core/fuzz/seeds`, `core/fuzz/findings`), in stable Rust.

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A case takes milliseconds; one that is longer at it turns in circles, and cannot be stopped otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

static REPLAYED: AtomicU64 = AtomicU64::new(0);

fn abort_when_stuck() {
    std::thread::spawn(|| {
        loop {
            let before = REPLAYED.load(Ordering::Relaxed);
            std::thread::sleep(PATIENCE);
            if REPLAYED.load(Ordering::Relaxed) == before {
                eprintln!("the file that was named last does not end");
                std::process::abort();
            }
        }
    });
}

#[test]
fn seeds_and_past_findings_break_no_promise() {
    abort_when_stuck();
    for (name, run) in targets::TARGETS {
        let mut replayed = 0;
        for folder in ["seeds", "findings"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder).join(name);
            let Ok(files) = fs::read_dir(&folder) else { continue };
            let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
            files.sort();
            for file in files {
                // Shown when the test fails.
                println!("{}", file.display());
                run(&fs::read(&file).unwrap());
                replayed += 1;
                REPLAYED.fetch_add(1, Ordering::Relaxed);
            }
        }
        assert!(replayed > 0, "{name} has no seeds");
    }
}
