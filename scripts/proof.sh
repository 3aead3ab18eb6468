#!/usr/bin/env bash
# Proofs where locks are our own: proof.sh loom | miri | tsan
#
# loom  every order of memory accesses of the parts in core/tests/memory_model, up to three preemptions (LOOM_MAX_PREEMPTIONS)
# miri  undefined behaviour, in the tests of codec, window, acks and record
# tsan  data races, in tests with many threads; the standard library is built for it
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "proof.sh: $*" >&2
    exit 1
}

# A component of the nightly toolchain, or else a line that says what was skipped.
nightly_has() {
    cargo +nightly --version >/dev/null 2>&1 || rustup toolchain install nightly --profile minimal 2>/dev/null || true
    rustup component add --toolchain nightly "$@" >/dev/null 2>&1 || {
        printf '*** SKIPPED: no nightly toolchain with %s is to be had here. ***\n' "$*"
        exit 0
    }
}

case "${1:-}" in
loom)
    # Its own folder: the flags are those of every crate.
    RUSTFLAGS='--cfg engine_model' CARGO_PROFILE_DEV_OPT_LEVEL=1 \
        cargo test --target-dir target/loom -p murano-messaging --test memory_model -- --nocapture
    ;;
miri)
    nightly_has miri rust-src
    # The clock and the random numbers of the machine are used; a test of properties takes hours with its usual number of cases.
    MIRIFLAGS='-Zmiri-disable-isolation' PROPTEST_CASES=2 \
        cargo +nightly miri test --target-dir target/miri -p murano-messaging --lib -- \
        wire::frame wire::guard wire::properties wire::encode engine::publish engine::acks engine::record \
        engine::delivery_queue engine::mailbox engine::undelivered message
    ;;
tsan)
    nightly_has rust-src
    # ring's code in C and assembler is not instrumented: those tests that use TLS stay out.
    RUSTFLAGS='-Zsanitizer=thread' TSAN_OPTIONS='halt_on_error=1' \
        cargo +nightly test -Zbuild-std --target x86_64-unknown-linux-gnu --target-dir target/tsan -p murano-messaging \
        --test contract --test closing --test queued_publishes --test requests --test ending_operations -- memory
    ;;
*)
    fail "usage: $0 loom | miri | tsan"
    ;;
esac
