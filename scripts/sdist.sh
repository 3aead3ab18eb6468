#!/usr/bin/env bash
# Builds the sdist into a folder: sdist.sh FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p "$1"
unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT
.venv/bin/maturin sdist --out "$unpacked" 2>/dev/null
tar -xzf "$unpacked"/*.tar.gz -C "$unpacked"
rm "$unpacked"/*.tar.gz
name=$(ls "$unpacked")
# Its workspace is a part of this one: what Cargo.lock names beyond that would make `--locked` fail.
(cd "$unpacked/$name" && cargo metadata --offline --format-version 1 >/dev/null 2>&1) || {
    echo "sdist.sh: the dependencies of the sdist are not here: run cargo fetch" >&2
    exit 1
}
out=$(realpath "$1")
cd "$unpacked"
find "$name" -type f | LC_ALL=C sort |
    tar --owner=0 --group=0 --numeric-owner --format=ustar -czf "$out/$name.tar.gz" --files-from=-
