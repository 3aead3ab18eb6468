#!/usr/bin/env bash
# Measures Murano's way of sending on ours and on the stack of 2014; BROKER names the RabbitMQ.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=target/bench-murano
cargo build --release --quiet -p murano-messaging-python
rm -rf "$folder"
mkdir -p "$folder"
cp -r python/murano_messaging python/muranocommon "$folder"
rm -f "$folder"/murano_messaging/_native*.so
cp target/release/lib_native.so "$folder/murano_messaging/_native.abi3.so"
PYTHONPATH=$folder exec python3 python/benches/murano_compared.py "$BROKER"
