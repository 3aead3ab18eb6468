#!/usr/bin/env bash
# The Python package: python.sh develop | servers | docs | test | oldest | lint | wheel | bench
#
# develop  makes .venv with all tools and builds the module into python/murano_messaging
# servers  makes .venv-servers with uWSGI, gunicorn and Celery, for the tests of their workers
# docs     builds the site of the documentation into target/site, from the stubs: the module is not needed
# test     runs ffi-tests on the newest Python found, and the contract under eventlet and gevent (eventlet on the oldest too)
# oldest   runs what depends on the interpreter on the oldest Python found
# lint     ruff, mypy, stubtest
# wheel    builds dist/*.whl (manylinux) and dist/*.tar.gz, and tries them on every Python found
# bench    measures against puka, pika, py-amqp, kombu, amqpstorm and aio-pika
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

fail() {
    echo "python.sh: $*" >&2
    exit 1
}

# Every CPython from 3.9 on, one of each minor version, oldest first: "3.9 /path/to/python".
pythons() {
    local candidate version
    for candidate in ~/.pyenv/versions/3.*/bin/python "$(command -v python3 || true)" \
        $(compgen -c python3. 2>/dev/null | grep -xE 'python3\.[0-9]+' | sort -u | xargs -r -n1 which 2>/dev/null || true); do
        [ -x "$candidate" ] || continue
        version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2]) if sys.implementation.name == "cpython" and sys.version_info >= (3, 9) else None' 2>/dev/null) || continue
        [ "$version" = None ] || [ -z "$version" ] || echo "$version $candidate"
    done | sort -t. -k2,2n -k1,1 | awk '!seen[$1]++'
}

# Makes a virtualenv with what the files list, or brings it up to date: venv FOLDER PYTHON REQUIREMENTS...
venv() {
    local folder=$1 python=$2 stamp
    shift 2
    stamp=$(cat "$@" | cksum; "$python" -V)
    [ "$(cat "$folder/stamp" 2>/dev/null)" = "$stamp" ] && return
    echo "python.sh: $folder from $python"
    rm -rf "$folder"
    "$python" -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check $(printf -- '-r %s ' "$@")
    echo "$stamp" >"$folder/stamp"
}

found=$(pythons)
[ -n "$found" ] || fail "no CPython 3.9 or newer is here: install python3 and python3-venv"
read -r newest newest_python <<<"$(tail -1 <<<"$found")"
read -r oldest oldest_python <<<"$(head -1 <<<"$found")"

tools() {
    venv .venv "$newest_python" python/requirements-dev.txt python/requirements-test.txt
}

develop() {
    tools
    local log
    log=$(mktemp)
    # Quiet unless it fails.
    VIRTUAL_ENV=$root/.venv .venv/bin/maturin develop --manifest-path python/Cargo.toml >"$log" 2>&1 || {
        cat "$log"
        fail "the native module could not be built"
    }
    rm -f "$log"
}

# Apart from .venv: uWSGI takes a minute to compile, and only its own tests need it.
servers() {
    venv .venv-servers "$newest_python" python/requirements-servers.txt
}

# A virtualenv for tests on another Python: it runs the module that `develop` built, which serves them all.
also() {
    venv ".venv-$1" "$2" python/requirements-test.txt
    echo "$root/python" >"$(".venv-$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/murano_messaging.pth"
}

# Most tests wait for something most of the time, so there are more workers than cores.
run_tests() {
    local python=$1
    shift
    PYTHONPATH=ffi-tests "$python" -m pytest -n 4 --dist loadfile "$@"
}

# The contract where every wait yields to other green threads: run_green PYTHON eventlet|gevent
run_green() {
    PYTHONPATH=ffi-tests "$1" -m pytest -p "green_$2" --face "$2" ffi-tests/contract
}

# What depends on the interpreter; the rest is the same native module, whichever Python loads it.
of_the_interpreter=(
    ffi-tests/contract
    ffi-tests/test_{arguments,asyncio,driving,errors,exit,fork,green,signals,threads,types}.py
    ffi-tests/puka/test_{puka_client,loops,puka_green}.py
    ffi-tests/murano/test_murano_{wrappers,json,eventlet}.py
)

# Builds the wheel with its SBOM: wheel FOLDER_OF_THE_BUILD FOLDER_OF_THE_WHEEL
wheel() {
    mkdir -p "$1"
    python3 scripts/dependencies.py --sbom >"$1/murano-messaging.cdx.json"
    # No folder of this machine in what is built. zig links against an old glibc, so that the wheel runs wherever Python 3.9
    # does.
    CARGO_TARGET_DIR=$1 PATH=$root/.venv/bin:$PATH \
        RUSTFLAGS="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo --remap-path-prefix=$root=murano-messaging" \
        .venv/bin/maturin build --quiet --release --zig --compatibility manylinux_2_28 --out "$2" \
        --sbom-include "$1/murano-messaging.cdx.json"
}

case "${1:-}" in
develop)
    develop
    ;;
servers)
    servers
    ;;
docs)
    venv .venv-docs "$newest_python" python/requirements-docs.txt
    rm -rf target/site
    # The theme is maintained; what it announces is the next generator.
    NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict --config-file scripts/site/mkdocs.yml
    ;;
test)
    develop
    servers
    [ "$oldest" = "$newest" ] || also "$oldest" "$oldest_python"
    cargo build --quiet -p murano-testkit --bin rabbitmq
    cargo build --quiet -p murano-messaging --example codec-peer --example conductor --example demo --example murano-peer --example oslo-peer
    # One node for all of it.
    [ -n "${MURANO_TEST_AMQP:-}" ] || exec target/debug/rabbitmq exec "$0" run
    exec "$0" run
    ;;
run)
    MURANO_TEST_PYTHONS=$(awk '{print $2}' <<<"$found") run_tests .venv/bin/python ffi-tests
    run_green .venv/bin/python eventlet
    run_green .venv/bin/python gevent
    # The rest of what depends on the interpreter is `make test-oldest`.
    [ "$oldest" = "$newest" ] || run_green ".venv-$oldest/bin/python" eventlet
    [ "${newest#3.}" -ge 11 ] || printf '\n*** SKIPPED on Python %s, which oslo.messaging has left: ffi-tests/oslo. ***\n' "$newest"
    why=$(scripts/old-stack.sh 2>&1 >/dev/null) || {
        [ $? = 3 ] || fail "$why"
        printf '\n*** SKIPPED, because there is no Python 2.7: the tests of components of 2014 beside ours. ***\n%s\n' "$why"
    }
    ;;
oldest)
    [ "$oldest" != "$newest" ] || { echo "*** SKIPPED: one Python is here only, $newest, and make test has it. ***"; exit 0; }
    develop
    also "$oldest" "$oldest_python"
    cargo build --quiet -p murano-testkit --bin rabbitmq
    cargo build --quiet -p murano-messaging --example murano-peer
    [ -n "${MURANO_TEST_AMQP:-}" ] || exec target/debug/rabbitmq exec "$0" run-oldest
    exec "$0" run-oldest
    ;;
run-oldest)
    run_tests ".venv-$oldest/bin/python" "${of_the_interpreter[@]}"
    ;;
lint)
    develop
    .venv/bin/ruff format --check --quiet python ffi-tests examples
    .venv/bin/ruff check --quiet python ffi-tests examples
    .venv/bin/python scripts/stubs.py --check
    .venv/bin/mypy
    MYPYPATH=python .venv/bin/stubtest murano_messaging --mypy-config-file pyproject.toml --allowlist python/stubtest-allowlist
    ;;
wheel)
    tools
    .venv/bin/python -m pip install --quiet --disable-pip-version-check ziglang
    rm -rf dist
    wheel target/wheel dist
    # Built again from nothing: equal, byte for byte.
    rm -rf target/wheel-again
    wheel target/wheel-again target/wheel-again/dist
    cmp dist/*.whl target/wheel-again/dist/*.whl || fail "the wheel is not reproducible: two builds differ"
    sha256sum dist/*.whl
    rm -rf target/wheel-again
    scripts/sdist.sh dist
    cargo build --quiet -p murano-testkit --bin rabbitmq
    export MURANO_TEST_DIST=$root/dist MURANO_TEST_PYTHONS=$(awk '{print $2}' <<<"$found")
    [ -n "${MURANO_TEST_AMQP:-}" ] || exec target/debug/rabbitmq exec "$0" check-wheel
    exec "$0" check-wheel
    ;;
check-wheel)
    .venv/bin/python -m pytest ffi-tests/package
    ls -l dist
    ;;
bench)
    shift
    exec python/benches/run.sh "$@"
    ;;
*)
    fail "usage: $0 develop | servers | docs | test | oldest | lint | wheel | bench [ARGUMENT...]"
    ;;
esac
