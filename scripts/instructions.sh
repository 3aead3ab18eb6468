#!/usr/bin/env bash
# Counts the instructions of one message (valgrind's callgrind) and compares them with core/benches/instructions/figures.txt.
# Fails when one needs over 3 % more. UPDATE=1 writes the figures instead.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v valgrind >/dev/null || { echo "instructions: valgrind is not installed"; exit 1; }
figures=core/benches/instructions/figures.txt
program=${PROGRAM:-target/release/murano-instructions}
[ -n "${PROGRAM:-}" ] || cargo build --release --quiet -p murano-instructions
few=1000 many=5000

collected() { # work, messages
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$1" "$2" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

failed=0 written=
for work in publish untimed wait consume; do
    # What is done once per run is in both, and is gone from the difference.
    less=$(collected $work $few) more=$(collected $work $many)
    now=$(((more - less) / (many - few)))
    written+="$work $now"$'\n'
    before=$(sed -n "s/^$work //p" "$figures" 2>/dev/null || true)
    if [ -z "$before" ]; then
        printf '%-8s %6d instructions per message\n' "$work" "$now"
        continue
    fi
    printf '%-8s %6d instructions per message, %s x the %d on file\n' "$work" "$now" \
        "$(awk "BEGIN { printf \"%.3f\", $now / $before }")" "$before"
    [ $((now * 100)) -le $((before * 103)) ] || failed=1
done
if [ -n "${UPDATE:-}" ]; then
    {
        echo "# Instructions per message of a client in the same thread as a scripted peer, whose few dozen are included:"
        echo "# 'publish' with 500 in flight, 'untimed' without deadlines, 'wait' for each confirm, 'consume' with an ack each. Bodies of 256 bytes."
        printf '%s' "$written"
    } >"$figures"
elif [ $failed = 1 ]; then
    echo "instructions: over 3 % more than on file; UPDATE=1 writes new figures if that is wanted"
    exit 1
fi
