#!/usr/bin/env bash
# Puts the messaging of Murano's engine and agent, which is on kombu, into target/kombu-stack, once: kombu-stack.sh PYTHON
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1

folder=target/kombu-stack
mkdir -p target
exec 9>target/kombu-stack.lock
flock 9
[ ! -e "$folder/muranoagent" ] || exit 0
rm -rf "$folder" "$folder.new"
mkdir "$folder.new"
"$python" -m pip --disable-pip-version-check download -q --no-deps --only-binary :all: --dest "$folder.new" \
    murano==16.0.0 murano-agent==12.0.0 >&2
for wheel in "$folder.new"/*.whl; do
    "$python" -m zipfile -e "$wheel" "$folder.new"
done
# Only the messaging, and nothing that it does not import.
mkdir -p "$folder.new"/stack/{murano/common,muranoagent/common,oslo_log,oslo_service}
cp -r "$folder.new"/murano/common/{i18n.py,messaging} "$folder.new/stack/murano/common/"
cp -r "$folder.new/muranoagent/common/messaging" "$folder.new/stack/muranoagent/common/"
touch "$folder.new"/stack/{murano,murano/common,muranoagent,muranoagent/common,oslo_log,oslo_service}/__init__.py
# These come with much of OpenStack, for a name each.
echo "from logging import getLogger" >"$folder.new/stack/oslo_log/log.py"
echo "_SSL_PROTOCOLS = {}" >"$folder.new/stack/oslo_service/sslutils.py"
mv "$folder.new/stack" "$folder"
rm -rf "$folder.new"
