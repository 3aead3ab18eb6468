#!/usr/bin/env bash
# The Python package in virtualenvs: python.sh test | lint | venv
# Tested with the oldest and the newest Python found; PYTHONS="python3.9 python3.13" picks others.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "python: $*" >&2
    exit 1
}

# Every supported interpreter here, oldest first: on the path, or pyenv's.
found() {
    local version python
    for version in 3.9 3.10 3.11 3.12 3.13; do
        for python in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
            if "$python" -c "import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" 2>/dev/null; then
                echo "$python"
                break
            fi
        done
    done
}

pythons() {
    if [ -n "${PYTHONS:-}" ]; then
        tr ' ' '\n' <<<"$PYTHONS"
        return
    fi
    local all
    mapfile -t all < <(found)
    [ ${#all[@]} -gt 0 ] || fail "no Python from 3.9 to 3.13 with venv is here: apt-get install python3 python3-venv"
    echo "${all[0]}"
    [ ${#all[@]} -eq 1 ] || echo "${all[-1]}"
}

# A virtualenv for an interpreter, with what tests and lints need; prints its folder.
venv() {
    local python=$1 version folder
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    folder=$PWD/target/python/$version
    if [ ! -e "$folder/ready" ] || [ ffi-tests/requirements.txt -nt "$folder/ready" ]; then
        "$python" -m venv --clear "$folder" >&2
        "$folder/bin/pip" install --quiet --disable-pip-version-check -r ffi-tests/requirements.txt >&2
        touch "$folder/ready"
    fi
    echo "$folder"
}

# Builds the native module and puts the package into a virtualenv.
install() {
    env VIRTUAL_ENV="$1" PATH="$1/bin:$PATH" "$1/bin/maturin" develop --quiet
}

case "${1:-}" in
venv)
    for python in $(pythons); do
        folder=$(venv "$python")
        install "$folder"
        echo "$folder"
    done
    ;;
test)
    for python in $(pythons); do
        folder=$(venv "$python")
        install "$folder"
        echo "python: $("$folder/bin/python" --version)"
        # Most of them wait for something most of the time.
        "$folder/bin/python" -m pytest -q -n 3 --dist loadfile ffi-tests
        # The contract once more, in processes that were monkey-patched from the start.
        for green in eventlet gevent; do
            PYTHONPATH=ffi-tests "$folder/bin/python" -m pytest -q -p "green_$green" --face "$green" ffi-tests/contract
        done
    done
    ;;
lint)
    folder=$(venv "$(pythons | tail -1)")
    install "$folder"
    "$folder/bin/ruff" check python ffi-tests
    "$folder/bin/ruff" format --check python ffi-tests
    "$folder/bin/mypy"
    PYTHONPATH=python "$folder/bin/python" -m mypy.stubtest murano_messaging --allowlist python/stubtest-allowlist
    ;;
*) fail "usage: python.sh test | lint | venv" ;;
esac
