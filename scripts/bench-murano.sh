#!/usr/bin/env bash
# Measures sending as Murano does it, on this library and on the stack of 2014; BROKER names the RabbitMQ.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${BROKER:?names the RabbitMQ to measure on: run make bench, which starts one, or set BROKER=amqp://...}"
folder=target/bench-murano
scripts/stage.sh "$folder" release
PYTHONPATH=$folder exec python3 python/benches/murano_compared.py "$BROKER"
