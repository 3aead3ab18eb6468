"""``doctor URI``: every step between this machine and a broker, and what to do about the one that fails."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import Any

from .. import _native
from . import _connecting
from ._wording import one_line

_NAMES = {
    "name_lookup": "name lookup",
    "tcp": "TCP",
    "tls": "TLS",
    "amqp": "AMQP",
    "login": "login",
    "virtual_host": "virtual host",
    "limits": "limits",
    "permissions": "permissions",
    "alarms": "alarms",
    "publish": "publish",
    "consume": "consume",
    "close": "close",
}


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "doctor",
        parents=[_connecting.options()],
        help="check every step between this machine and a broker, and say what to do about the one that fails",
        description="Check the name, TCP, TLS and its certificates, the login, the virtual host, limits, permissions,"
        " alarms, a publish and a consume on a temporary queue, each with its time. It stops at the first failure of a"
        " host, says why and what to do, and its exit status is 1 then.",
    )
    parser.add_argument(
        "--queue",
        metavar="NAME",
        default="",
        help="the name of the temporary queue (default: one that the broker gives it)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object: ok, and the list of checks")
    parser.set_defaults(run=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    uri, options = _connecting.given(arguments)
    checks: list[dict[str, Any]] = []

    def on_check(line: str) -> None:
        check = json.loads(line)
        if not arguments.json:
            _show(check, first=not checks or checks[-1]["host"] != check["host"])
        checks.append(check)

    _native._examine(on_check, arguments.queue, uri, **options)
    failed = [check for check in checks if not check["ok"]]
    if arguments.json:
        print(json.dumps({"ok": not failed, "checks": checks}, indent=2))
    elif failed:
        print(f"FAILED: {', '.join(_name(check) + ' of ' + check['host'] for check in failed)}")
    else:
        print("all is well")
    return 1 if failed else 0


def _name(check: dict[str, Any]) -> str:
    step: str = check["step"]
    return _NAMES.get(step, step)


def _show(check: dict[str, Any], first: bool) -> None:
    if first:
        print(check["host"])
    verdict = "ok" if check["ok"] else "FAIL"
    summary = one_line(Exception(check["summary"]))
    print(f"  {verdict:<5} {_name(check):<13} {check['seconds'] * 1000:8.1f} ms  {summary}")
    for note in check["notes"]:
        print(" " * 8 + note)
    if check["advice"]:
        advice = one_line(Exception(check["advice"]))
        print(textwrap.fill(advice, 100, initial_indent=" " * 8 + "-> ", subsequent_indent=" " * 11), flush=True)
