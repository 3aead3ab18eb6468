#!/usr/bin/env bash
# Fuzzes each target of core/fuzz: fuzz.sh [SECONDS [TARGET...]]
#
# Starts from core/fuzz/seeds and core/fuzz/findings, keeps what it learns in core/fuzz/corpus (not in git), and puts an input
# that breaks a promise into core/fuzz/findings, from where `make test` replays it. NICE=19 lowers its priority.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true
tools=${XDG_CACHE_HOME:-$HOME/.cache}/murano-messaging/tools

fail() {
    echo "fuzz.sh: $*" >&2
    exit 1
}

cargo +nightly --version >/dev/null 2>&1 || rustup toolchain install nightly --profile minimal ||
    fail "libFuzzer needs a nightly toolchain: rustup toolchain install nightly"
[ -x "$tools/bin/cargo-fuzz" ] || cargo install --quiet --locked --root "$tools" cargo-fuzz@0.13.2
export PATH=$tools/bin:$PATH
cd core
# core forbids unsafe code: an address sanitizer would halve the rate to look at the crates below it (SANITIZER=address).
flags=(--sanitizer "${SANITIZER:-none}" --fuzz-dir fuzz)
cargo +nightly fuzz build --release "${flags[@]}" --quiet
binaries=fuzz/target/x86_64-unknown-linux-gnu/release
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list --fuzz-dir fuzz)

status=0
table=
for target in "${targets[@]}"; do
    mkdir -p fuzz/{corpus,seeds,findings,logs}/"$target"
    log=fuzz/logs/$target/$(date -u +%H%M%S)
    echo "fuzz.sh: $target for $seconds s"
    # A timeout of 20 s is a hang; 1 GiB is growth.
    nice -n "${NICE:-0}" "$binaries/$target" "fuzz/corpus/$target" "fuzz/seeds/$target" "fuzz/findings/$target" \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=1024 -max_len=4096 -print_final_stats=1 -verbosity=1 \
        -artifact_prefix="fuzz/findings/$target/" >"$log" 2>&1 || status=1
    table+=$(awk -v target="$target" '
        /cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") edges = $(i + 1); else if ($i == "ft:") features = $(i + 1) }
        /stat::number_of_executed_units/ { runs = $2 }
        /stat::average_exec_per_sec/ { rate = $2 }
        /stat::peak_rss_mb/ { rss = $2 }
        /Test unit written to/ { findings++; print "fuzz.sh: " $0 >"/dev/stderr" }
        END { printf "| %s | %d | %d | %d | %d | %d | %d |", target, runs, rate, edges, features, rss, findings }' "$log")$'\n'
done
echo "| target | executions | a second | edges | features | peak RSS, MiB | findings |"
echo "|---|---|---|---|---|---|---|"
printf '%s' "$table"
[ $status = 0 ] || fail "there are findings: core/fuzz/findings; the output is in core/fuzz/logs"
