#!/usr/bin/env bash
# Puts the Python packages and a freshly built native module into a folder, for PYTHONPATH: stage.sh FOLDER debug|release
# Minutes the first time, seconds afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1
profile=$2

flags=()
[ "$profile" = debug ] || flags=("--$profile")
cargo build --quiet -p murano-messaging-python "${flags[@]}" || {
    echo "stage: the native module does not build: see the errors above, or try \`cargo build -p murano-messaging-python\`" >&2
    exit 1
}
rm -rf "$folder"
mkdir -p "$folder"
cp -r python/murano_messaging python/muranocommon "$folder"
rm -f "$folder"/murano_messaging/_native*.so
cp "target/$profile/lib_native.so" "$folder/murano_messaging/_native.abi3.so"
