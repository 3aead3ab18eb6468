#!/usr/bin/env bash
# Puts Murano's messaging of 2014 into target/old-stack, once: murano-common on Puka, for Python 2.7. Prints the interpreter.
# MURANO_PYTHON2 names one that is found nowhere else. Exit code 3: there is none.
set -euo pipefail
cd "$(dirname "$0")/.."

usable() {
    "$1" -c 'import pip, sys; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null
}

python=
if [ -n "${MURANO_PYTHON2:-}" ]; then
    usable "$MURANO_PYTHON2" || {
        echo "old-stack: MURANO_PYTHON2=$MURANO_PYTHON2 is no Python 2.7 with pip: correct or unset it" >&2
        exit 1
    }
    python=$MURANO_PYTHON2
else
    # One of pyenv's shims may be there for an interpreter that is not.
    for candidate in "$(command -v python2.7 || true)" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7.*/bin/python2.7; do
        if [ -n "$candidate" ] && usable "$candidate"; then
            python=$candidate
            break
        fi
    done
fi
[ -n "$python" ] || {
    cat >&2 <<'END'
old-stack: there is no Python 2.7 with pip here, and newer Debians have no package of it.
  With pyenv (github.com/pyenv/pyenv):  pyenv install 2.7.18
  If you have one elsewhere:            export MURANO_PYTHON2=/path/to/python2.7
END
    exit 3
}

folder=target/old-stack
mkdir -p target
exec 9>target/old-stack.lock
flock 9
if [ ! -e "$folder/muranocommon" ]; then
    rm -rf "$folder" "$folder.new"
    mkdir "$folder.new"
    pip() { PYTHONWARNINGS=ignore "$python" -m pip --disable-pip-version-check "$@" >&2; }
    pip install -q --no-deps --target "$folder.new" \
        anyjson==0.3.3 eventlet==0.13.0 future==0.18.3 greenlet==1.1.3 puka==0.0.8
    # Its set-up needs a pbr that is gone: it is unpacked.
    pip download -q --no-deps --no-binary :all: --dest "$folder.new" murano-common==0.4.1
    tar -xzf "$folder.new"/murano-common-0.4.1.tar.gz -C "$folder.new" --strip-components=1 \
        murano-common-0.4.1/muranocommon
    mv "$folder.new" "$folder"
fi
echo "$python"
