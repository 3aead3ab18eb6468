#!/usr/bin/env bash
# RabbitMQ 4, from a newer Debian in a folder of its own: rabbitmq4.sh SUITE test | exec COMMAND...
#
# SUITE  the Debian: trixie has 4.0, sid a newer one, which changes
# test   runs the contract tests, the fault tests and the Python contract tests on it; skips them, and says so, where the
#        machine does not allow it
# exec   starts a node and runs COMMAND, with the node's URI in MURANO_TEST_AMQP; nodes that COMMAND starts through the testkit
#        are of the same version
#
# The Debian is unpacked once, into $MURANO_RABBITMQ_CACHE (default: murano-messaging in $XDG_CACHE_HOME or ~/.cache), from the
# mirror that this machine's apt uses. To unpack a newer sid, delete its folder. Mounts, processes and ports are in namespaces
# of their own: they disturb nothing outside, and the kernel removes them when the script ends, however it ends. There is no
# network in there beyond the loopback interface.
set -euo pipefail
cd "$(dirname "$0")/.."

suite=${1:-}
mode=${2:-}
[ -n "$suite" ] && shift 2 || {
    sed -n '2,/^set/s/^# \?//p' "$0" >&2
    exit 2
}
cache=${MURANO_RABBITMQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/murano-messaging}
root=$cache/rabbitmq-$suite

fail() {
    echo "rabbitmq4: $*" >&2
    exit 1
}

# What this machine cannot do is no fault of the code under test.
cannot() {
    [ "$mode" = test ] || fail "$*"
    printf '\n*** SKIPPED: all tests on RabbitMQ 4 (%s), because %s. ***\n' "$suite" "$*"
    exit 0
}

# The first of apt's sources that is Debian itself.
mirror() {
    apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 'Created-By: Packages' | sed -n 's/^Debian|Debian|//p' | head -1
}

unpack() {
    mkdir -p "$cache"
    exec 9>"$cache/$suite.lock"
    flock 9
    [ ! -e "$root" ] || return 0
    scripts/setup.sh debootstrap
    [ -n "$(mirror)" ] || apt-get update -qq
    local from
    from=$(mirror)
    [ -n "$from" ] || cannot "no source of this machine's apt is Debian"
    eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
    export http_proxy https_proxy
    echo "rabbitmq4: unpacking Debian $suite with RabbitMQ into $root (some minutes, once)"
    rm -rf --one-file-system "$root.new"
    # What it mounts and starts goes with it, also when it is interrupted.
    unshare --mount --pid --fork --kill-child debootstrap --variant=minbase --include=rabbitmq-server,procps "$suite" "$root.new" "$from" >"$cache/$suite.log" 2>&1 || {
        tail -5 "$cache/$suite.log" >&2
        rm -rf --one-file-system "$root.new"
        fail "debootstrap failed; all it said is in $cache/$suite.log. Is the mirror of this machine's apt reachable?"
    }
    rm -f "$root.new"/var/cache/apt/archives/*.deb
    mv "$root.new" "$root"
}

# Inside the namespaces.
inside() {
    trap 'exit 130' INT TERM
    mount --bind /tmp "$root/tmp"
    mount --rbind /dev "$root/dev"
    mount -t proc proc "$root/proc"
    grep -q '^127.0.0.1.*localhost' "$root/etc/hosts" 2>/dev/null || echo '127.0.0.1 localhost' >>"$root/etc/hosts"
    ip link set lo up
    export MURANO_TEST_RABBITMQ_ROOT=$root CARGO_NET_OFFLINE=true
    unset MURANO_TEST_AMQP BROKER
    target/debug/rabbitmq exec "$@"
}

run_suites() {
    local failed=0
    cargo test -p murano-messaging --test contract -- rabbitmq || failed=1
    cargo test -p murano-messaging --test faults || failed=1
    PYTHONPATH=ffi-tests .venv/bin/python -m pytest -n 3 --dist loadfile ffi-tests/contract ffi-tests/test_doctor.py -k 'not memory' || failed=1
    return "$failed"
}

case "$mode" in
test | exec)
    [ "$(id -u)" = 0 ] || cannot "unpacking and mounting a Debian takes root"
    command -v debootstrap >/dev/null || command -v apt-get >/dev/null || cannot "there is neither debootstrap nor apt-get here"
    unshare --mount --pid --net --fork --mount-proc true 2>/dev/null || cannot "this machine allows no namespaces (unshare failed)"
    unpack
    version=$(chroot "$root" dpkg-query --show --showformat '${Version}' rabbitmq-server)
    cargo build --quiet -p murano-testkit --bin rabbitmq
    if [ "$mode" = test ]; then
        cargo test --quiet -p murano-messaging --test contract --test faults --no-run
        scripts/python.sh develop
        set -- "$0" "$suite" run
    fi
    echo "rabbitmq4: RabbitMQ $version of Debian $suite"
    # The nodes' folders: what watches over them ends with the namespaces, too early to remove them.
    TMPDIR=$(mktemp -d /tmp/rabbitmq4.XXXXXX)
    export TMPDIR
    chmod 755 "$TMPDIR"
    trap 'rm -rf --one-file-system "$TMPDIR"' EXIT
    trap 'exit 130' INT TERM
    unshare --mount --pid --net --fork --kill-child --mount-proc "$0" "$suite" inside "$@"
    ;;
inside)
    inside "$@"
    ;;
run)
    run_suites
    ;;
*)
    fail "unknown: $mode (test or exec)"
    ;;
esac
