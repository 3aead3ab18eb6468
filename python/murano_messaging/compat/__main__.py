"""``python -m murano_messaging.compat check``: whose the packages are that this library replaces, and what to do.

Run it with the Python of the environment that is to be used. Its exit status is 0 where each replaced package is ours
alone, and 1 where something is to be done first; nothing is changed, and no original is imported.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import metadata
from importlib.machinery import PathFinder

from murano_messaging._overwritten import PACKAGES

_BEFORE = {
    "puka": "publishes are confirmed at the price of a second message, a lost connection is an error, no heartbeat",
    "muranocommon": "messages are transient and unconfirmed: one to a queue that is missing is lost without a word",
}
_WRAPPERS = {
    "murano.common.messaging": "murano_messaging.compat.murano_engine",
    "muranoagent.common.messaging": "murano_messaging.compat.murano_agent",
}
_OURS = "murano-messaging"


def owners(package: str) -> dict[str, str]:
    """The distributions that have files of a package, with their versions."""
    found = {}
    for distribution in metadata.distributions():
        if any(file.parts[:1] == (package,) for file in distribution.files or ()):
            found[(distribution.metadata["Name"] or "?").lower().replace("_", "-")] = distribution.version
    return found


def _origin(package: str) -> str | None:
    found = PathFinder.find_spec(package)
    return found.origin if found is not None else None


def _is_ours(origin: str) -> bool:
    with open(origin, encoding="utf-8", errors="replace") as file:
        return "murano_messaging" in file.read()


def _check_replaced(package: str, distribution: str) -> str | None:
    """Print a line on one package; what is to be done about it."""
    origin, owned_by = _origin(package), owners(package)
    versions = ", ".join(f"{name} {version}" for name, version in sorted(owned_by.items()))
    again = f"{sys.executable} -m pip install --force-reinstall --no-deps WHEEL"
    others = sorted(set(owned_by) - {_OURS})
    if origin is None:
        print(f"{package:14} is not there")
        return f"install the wheel of murano-messaging again: {again}"
    if not _is_ours(origin):
        print(f"{package:14} the original ({versions or origin}): {_BEFORE[package]}")
        name = others[0] if others else distribution
        return f"{package} is not ours: pip uninstall {name}, then {again}"
    if others:
        print(f"{package:14} ours, but its files belong to {versions}")
        return f"two distributions have files of {package}: pip uninstall {others[0]}, which removes them, then {again}"
    print(f"{package:14} ours ({versions or os.path.dirname(origin)})")
    return None


def _show_wrapper(original: str, ours: str) -> None:
    top, *rest = original.split(".")
    origin = _origin(top)
    if origin is None or not os.path.isdir(os.path.join(os.path.dirname(origin), *rest)):
        return
    versions = ", ".join(f"{name} {version}" for name, version in sorted(owners(top).items()))
    print(f"{original} stays the original ({versions or os.path.dirname(origin)}): import {ours}, or call adopt()")


def check() -> int:
    """Print what is there, and what to do; the exit status."""
    tasks = [task for package, name in PACKAGES.items() if (task := _check_replaced(package, name))]
    for original, ours in _WRAPPERS.items():
        _show_wrapper(original, ours)
    for task in tasks:
        print(f"to do: {task}")
    return 1 if tasks else 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m murano_messaging.compat", description=__doc__)
    parser.add_argument("command", choices=["check"])
    parser.parse_args()
    return check()


if __name__ == "__main__":
    sys.exit(main())
