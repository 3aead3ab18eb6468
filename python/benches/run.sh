#!/usr/bin/env bash
# Builds the module with optimization and measures it against its peers: run.sh [ARGUMENT...]; see bench.py --help
# run.sh page SAMPLES PAGE writes docs/benchmarks.md; see page.py
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
venv=$root/.venv-bench

# Puka needs Python 3.11 or older, which knows its way of checking certificates.
python=
for candidate in ~/.pyenv/versions/3.1[10].*/bin/python python3.11 python3.10 python3; do
    command -v "$candidate" >/dev/null && python=$(command -v "$candidate")
    [ -z "$python" ] || break
done
[ -n "$python" ] || { echo "bench: no python3 is here" >&2; exit 1; }

stamp=$(cksum <python/benches/requirements.txt; "$python" -V)
if [ "$(cat "$venv/stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r python/benches/requirements.txt
    echo "$stamp" >"$venv/stamp"
fi

if [ "${1:-}" = page ]; then
    shift
    exec "$venv/bin/python" python/benches/page.py "$@"
fi

# A copy of the package with an optimized module; the one in the tree stays as the tests left it.
package=$root/target/python-bench
scripts/stage.sh "$package" release

export PYTHONPATH=$package
if [ -n "${BROKER:-}" ]; then
    exec "$venv/bin/python" python/benches/bench.py "$@"
fi
cargo build --quiet -p murano-testkit --bin rabbitmq
exec target/debug/rabbitmq exec "$venv/bin/python" python/benches/bench.py "$@"
