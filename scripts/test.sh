#!/usr/bin/env bash
# Builds and runs every test. Tests that do not disturb a broker share one node, which this starts and stops.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --quiet -p murano-testkit --bin rabbitmq
cargo test --workspace --no-run
exec target/debug/rabbitmq exec cargo test --workspace
