"""``ping URI``: whether a broker can be used, in one line and an exit status."""

from __future__ import annotations

import argparse
import time
from typing import Any

from . import _connecting


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "ping",
        parents=[_connecting.options()],
        help="connect, log in and leave: for health checks",
        description="Connect, log in, open the virtual host, and leave. Exit status 0 and one line on standard output,"
        " or 1 and one line on standard error.",
    )
    parser.set_defaults(run=_ping)


def _ping(arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    with _connecting.connect(arguments, recovery=False, short_lived=True) as client:
        took = time.monotonic() - began
        server = client.server()
        properties = server.properties if server is not None else {}
        vhost = client.vhost
    product, version = (str(properties.get(key, "?")) for key in ("product", "version"))
    line = f"ok: {product} {version}, virtual host {vhost!r}, in {took * 1000:.0f} ms"
    print("".join(letter if letter.isprintable() else "?" for letter in line))
    return 0
