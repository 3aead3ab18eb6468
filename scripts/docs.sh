#!/usr/bin/env bash
# Builds the documentation into target/site: guides, the references of Python and Rust. It is read without a server and without
# a network.
set -euo pipefail
cd "$(dirname "$0")/.."

# Of this crate only, whatever was documented before.
rm -rf target/doc
RUSTDOCFLAGS='-D warnings' cargo doc --quiet -p murano-messaging --no-deps --all-features
scripts/python.sh docs
cp -r target/doc target/site/rust
if grep -rlE '(src|rel="stylesheet" href)="(https?:)?//' target/site --include='*.html'; then
    echo 'docs: these pages fetch something from elsewhere' >&2
    exit 1
fi
echo "target/site/index.html"
