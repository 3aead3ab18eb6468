#!/usr/bin/env bash
# Checks licences, duplicates, bans and sources of the dependency tree with cargo-deny, and advisories where their database is
# to be had: a clone of the RustSec database in $MURANO_ADVISORY_DB, or the network.
#
# A target of its own: cargo-deny takes minutes to compile, once, into the cache. `make lint` has the same policy checked by
# scripts/dependencies.py in a second, without advisories.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/murano-messaging
tools=$cache/tools

[ -x "$tools/bin/cargo-deny" ] || cargo install --quiet --locked --root "$tools" cargo-deny@0.20.2
"$tools/bin/cargo-deny" --log-level warn check licenses bans sources
python3 scripts/dependencies.py --check
if [ -n "${MURANO_ADVISORY_DB:-}" ]; then
    mkdir -p "$cache/advisory-dbs"
    "$tools/bin/cargo-deny" --log-level warn check advisories
elif timeout 60 "$tools/bin/cargo-deny" --log-level error fetch db 2>/dev/null; then
    "$tools/bin/cargo-deny" --log-level warn check --disable-fetch advisories
else
    printf '*** SKIPPED: advisories, because the RustSec database cannot be fetched from here. ***\n'
fi
