#!/usr/bin/env bash
# Builds and runs every Rust test. Those that do not disturb a broker share one node: the one that MURANO_TEST_AMQP names, or
# one that this starts and stops.
set -euo pipefail
cd "$(dirname "$0")/.."

# The Python module does not link as a program, and the benchmarks have no tests.
packages=(murano-messaging murano-testkit)
all=("${packages[@]/#/--package=}")

if [ "${1:-}" != run ]; then
    cargo build --quiet -p murano-testkit --bin rabbitmq
    cargo test "${all[@]}" --no-run
    [ -n "${MURANO_TEST_AMQP:-}" ] || exec target/debug/rabbitmq exec "$0" run
fi

# Cargo has no word for "all but this one".
mapfile -t others < <(cargo metadata --no-deps --format-version 1 | python3 -c '
import json, sys
for package in json.load(sys.stdin)["packages"]:
    for target in package["targets"] if package["name"] in sys.argv else ():
        if target["kind"] == ["test"] and target["name"] != "faults":
            print("--test", target["name"], sep="\n")
' "${packages[@]}")

# The faults mostly wait, for nodes that start and for networks that are cut: they run beside all the others.
faults=$(mktemp)
trap 'rm -f "$faults"' EXIT
cargo test "${all[@]}" --test faults >"$faults" 2>&1 &
status=0
cargo test "${all[@]}" --no-fail-fast --lib --bins "${others[@]}" || status=1
cargo test "${all[@]}" --doc || status=1
wait $! || status=1
cat "$faults"
exit $status
