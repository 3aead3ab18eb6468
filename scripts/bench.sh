#!/usr/bin/env bash
# Measures everything and writes the page: bench.sh FOLDER_OF_THE_SAMPLES PAGE
#
# BROKER names the RabbitMQ; without it, each part has a private one. ARGS and PYTHON_ARGS go to the two benchmarks. QUICK=1: one
# round with few messages, and not the comparison with the stack of 2014.
set -euo pipefail
cd "$(dirname "$0")/.."
samples=$1
page=$2

mkdir -p "$samples"
rm -f "$samples"/*.json
cargo build --quiet -p murano-testkit --bin rabbitmq
cargo build --release --quiet -p murano-bench

read -ra rust <<<"${ARGS:-}"
read -ra python <<<"${PYTHON_ARGS:-}"
if [ -n "${QUICK:-}" ]; then
    rust=(--rounds 1 --messages 5000 "${rust[@]}")
    python=(--rounds 1 --messages 1000 "${python[@]}")
fi
with_broker=()
[ -n "${BROKER:-}" ] || with_broker=(target/debug/rabbitmq exec)

"${with_broker[@]}" target/release/murano-bench --json "$samples/rust.json" "${rust[@]}"
[ -n "${QUICK:-}" ] || "${with_broker[@]}" scripts/bench-murano.sh
scripts/python.sh bench --json "$PWD/$samples/python.json" "${python[@]}"
scripts/python.sh bench page "$samples" "$page"
