#!/usr/bin/env bash
# oslo.messaging's own functional tests with our driver, under threads and under eventlet; then our tests of the driver
# in their whole size: oslo.sh [functional]
#
# functional  oslo.messaging's tests only
#
# The tests come with the package. In a copy of them the scheme murano counts as rabbit, so that nothing is skipped, and
# the executor and monkey-patching are ours to choose.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

fail() {
    echo "oslo.sh: $*" >&2
    exit 1
}

if [ -z "${MURANO_TEST_AMQP:-}" ]; then
    scripts/python.sh develop
    cargo build --quiet -p murano-testkit --bin rabbitmq
    cargo build --quiet -p murano-messaging --example oslo-peer
    exec target/debug/rabbitmq exec "$0" "$@"
fi

.venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "oslo.messaging needs Python 3.11 or newer"
stamp=$(cksum <python/requirements-oslo.txt)
if [ "$(cat .venv-oslo/stamp 2>/dev/null)" != "$stamp" ]; then
    rm -rf .venv-oslo
    "$(readlink -f .venv/bin/python)" -m venv .venv-oslo
    .venv-oslo/bin/python -m pip install --quiet --disable-pip-version-check -r python/requirements-oslo.txt
    echo "$stamp" >.venv-oslo/stamp
fi
log=$(mktemp)
VIRTUAL_ENV=$root/.venv-oslo .venv/bin/maturin develop --manifest-path python/Cargo.toml >"$log" 2>&1 || {
    cat "$log"
    fail "the native module could not be built"
}
rm -f "$log"

copy=$root/target/oslo-functional
rm -rf "$copy"
mkdir -p "$copy"
tests=$(.venv-oslo/bin/python -c 'import importlib.util; print(importlib.util.find_spec("oslo_messaging").submodule_search_locations[0])')/tests
mkdir -p "$copy/upstream/functional/notify"
for file in utils.py functional/__init__.py functional/utils.py functional/test_functional.py functional/notify/__init__.py \
    functional/notify/test_logger.py; do
    sed -e 's/oslo_messaging\.tests/upstream/g' \
        -e 's/startswith("rabbit:\/\/")/startswith(("rabbit:\/\/", "murano:\/\/"))/' \
        -e "s/executor='eventlet'/executor=os.environ['OSLO_TEST_EXECUTOR']/" \
        -e "s/\[self\], 'eventlet'/[self], os.environ['OSLO_TEST_EXECUTOR']/" \
        "$tests/$file" >"$copy/upstream/$file"
done
cat >"$copy/upstream/__init__.py" <<'PYTHON'
import os

if os.environ.get("OSLO_TEST_EVENTLET"):
    import eventlet

    eventlet.monkey_patch()
PYTHON

export RPC_TRANSPORT_URL=${MURANO_TEST_AMQP/amqp:/murano:} NOTIFY_TRANSPORT_URL=${MURANO_TEST_AMQP/amqp:/murano:}
failed=
# As many tests as the release that python/requirements-oslo.txt names has.
expected=31

# Runs the tests, and says how many passed; one that is skipped, or not found, is a failure: functional NAME
functional() {
    local out=$copy/$1.log
    # One of them starts `python3 -m oslo_metrics`.
    if (cd "$copy" && PATH=$root/.venv-oslo/bin:$PATH "$root/.venv-oslo/bin/python" -W ignore -m unittest upstream.functional.test_functional \
        upstream.functional.notify.test_logger) >"$out" 2>&1 && grep -q "^Ran $expected tests " "$out" && grep -qx OK "$out"; then
        echo "oslo.messaging's functional tests, $1: $(grep -E '^Ran ' "$out"): OK"
    else
        cat "$out"
        echo "oslo.messaging's functional tests, $1: FAILED ($expected must pass, none skipped)"
        failed=1
    fi
}

OSLO_TEST_EXECUTOR=threading functional threads
OSLO_TEST_EVENTLET=1 OSLO_TEST_EXECUTOR=eventlet functional eventlet
[ "${1:-}" = functional ] ||
    MURANO_WHOLE=1 PYTHONPATH=ffi-tests .venv/bin/python -m pytest -rP -q --timeout 1200 ffi-tests/oslo/test_problems*.py || failed=1
[ -z "$failed" ]
