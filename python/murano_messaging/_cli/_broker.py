"""``broker --port N``: the embedded broker on a port, for tests and development."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from typing import Any

from .._native import Broker


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return int(text)


def _broker(arguments: argparse.Namespace) -> int:
    try:
        broker = Broker()
        uri = broker.listen(arguments.host, arguments.port)
    except OSError as error:
        print(f"cannot listen on {arguments.host}:{arguments.port}: {error}", file=sys.stderr)
        return 1
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    print(uri, flush=True)
    ended.wait()
    return 0


def add(commands: Any) -> None:
    """Add the command."""
    broker = commands.add_parser(
        "broker",
        help="serve the embedded broker over TCP until it is interrupted; it keeps nothing on disk",
        description="Serve the embedded broker over TCP until it is interrupted. It is for tests and development:"
        " what it holds is gone when it ends.",
    )
    broker.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    broker.add_argument(
        "--port", type=_port, default=0, help="the port to listen on (default: a free one, which is printed)"
    )
    broker.set_defaults(run=_broker)
