#!/usr/bin/env bash
# Runs examples/demo.rs, then examples/murano/demo.py with the Python conductor and then with the Rust one; BROKER names a RabbitMQ.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=target/demo
python=$folder/venv/bin/python
if ! "$python" -c 'import eventlet' 2>/dev/null; then
    echo "demo: installing eventlet into $folder"
    rm -rf "$folder/venv"
    python3 -m venv "$folder/venv" || {
        echo "demo: python3 could not make a virtualenv: install Python 3.9 or newer with its venv module (apt-get install python3-venv)" >&2
        exit 1
    }
    "$python" -m pip install --quiet --disable-pip-version-check eventlet
fi
echo 'demo: building'
scripts/stage.sh "$folder/python" debug
cargo build --quiet -p murano-messaging --example conductor --example demo

echo '== Plans wait in a queue with a TTL; two workers come, do each exactly once, and go; the queue expires'
BROKER=${BROKER:-memory://demo} target/debug/examples/demo

echo
echo '== A miniature Murano: APIs, conductors and agents as processes, some of which are killed; the conductors in Python'
export PYTHONPATH="$folder/python"
broker=(${BROKER:+"--broker=$BROKER"})
"$python" examples/murano/demo.py "${broker[@]}"
echo
echo '== The same with the conductors in Rust'
"$python" examples/murano/demo.py "${broker[@]}" --conductor target/debug/examples/conductor
