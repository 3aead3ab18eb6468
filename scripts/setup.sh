#!/usr/bin/env bash
# Installs what a target needs and is missing: setup.sh [rabbitmq] [bench] [python] [openssl] [debootstrap] [c++]
set -euo pipefail

fail() {
    echo "setup: $*" >&2
    exit 1
}

# Installs Debian packages without letting them start their services.
install_packages() {
    command -v apt-get >/dev/null || fail "install $* by hand: there is no apt-get here"
    local root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || fail "run as root, or install by hand: apt-get install $*"
        root=(sudo)
    fi
    echo "setup: installing $*"
    local policy=/usr/sbin/policy-rc.d made=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
        "${root[@]}" chmod +x "$policy"
        made=1
    fi
    local failed=
    "${root[@]}" apt-get update -qq || true
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null || failed=1
    [ -z "$made" ] || "${root[@]}" rm -f "$policy"
    [ -z "$failed" ] || fail "apt-get could not install $*"
}

command -v cargo >/dev/null || fail "cargo is missing: install Rust 1.88 or newer (rustup.rs)"
command -v cc >/dev/null || install_packages gcc libc6-dev

for part in "$@"; do
    case "$part" in
    rabbitmq) command -v rabbitmq-server >/dev/null || install_packages rabbitmq-server ;;
    bench) [ -e /usr/include/amqp.h ] || [ -e /usr/include/rabbitmq-c/amqp.h ] || install_packages librabbitmq-dev ;;
    python) python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3 python3-venv ;;
    c++) command -v c++ >/dev/null || install_packages g++ ;;
    openssl) command -v openssl >/dev/null || install_packages openssl ;;
    debootstrap)
        command -v debootstrap >/dev/null && command -v ip >/dev/null && [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] ||
            install_packages debootstrap debian-archive-keyring iproute2
        ;;
    *) fail "unknown part: $part" ;;
    esac
done
