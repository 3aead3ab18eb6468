#!/usr/bin/env bash
# Builds and runs every Rust test. Those that do not disturb a broker share one node: the one that MURANO_TEST_AMQP names, or
# one that this starts and stops.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --quiet -p murano-testkit --bin rabbitmq
cargo test --workspace --no-run
[ -n "${MURANO_TEST_AMQP:-}" ] || exec target/debug/rabbitmq exec cargo test --workspace
exec cargo test --workspace
