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
# How it grows with the size of bodies, and what another kind of queue changes.
if [ -z "${QUICK:-}" ]; then
    for size in 64 4096 65536 1048576; do
        messages=$((size > 100000 ? 300 : size > 10000 ? 3000 : 20000))
        "${with_broker[@]}" target/release/murano-bench --work publish,consume --size $size --messages $messages \
            --json "$samples/rust-$size-bytes.json" "${rust[@]}"
    done
    # Not consume: with some peers, which close their channel at once, acked messages are back in the queue afterwards.
    "${with_broker[@]}" target/release/murano-bench --quorum --work publish,publish-wait --messages 10000 \
        --json "$samples/rust-quorum.json" "${rust[@]}"
    "${with_broker[@]}" target/release/murano-bench --transient --work publish,publish-wait,consume --messages 20000 \
        --json "$samples/rust-transient.json" "${rust[@]}"
fi
[ -n "${QUICK:-}" ] || "${with_broker[@]}" scripts/bench-murano.sh
scripts/python.sh bench --json "$PWD/$samples/python.json" "${python[@]}"
scripts/python.sh bench page "$samples" "$page"
