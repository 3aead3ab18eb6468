"""``top URI [QUEUE...]``: a connection and queues, live."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import murano_messaging as mm

from . import _connecting
from ._interrupting import Interrupts
from ._wording import one_line


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "top",
        parents=[_connecting.options()],
        help="watch a connection to the broker and the depths of queues",
        description="Show, again and again, whether the connection is up and how long the broker takes to answer on it,"
        " whether it blocks publishers, how often it was lost, and how many messages and consumers queues have. On a"
        " terminal the screen is drawn anew; elsewhere lines are added.",
    )
    parser.add_argument("queues", metavar="QUEUE", nargs="*", help="queues to watch")
    parser.add_argument("--interval", type=_connecting.seconds, default=1.0, metavar="SECONDS", help="(default: 1)")
    parser.add_argument("--count", type=_connecting.count, help="end after so many looks")
    parser.set_defaults(run=_top)


def _look(client: mm.Client, queues: list[str], before: dict[str, int], elapsed: float, timeout: float) -> list[str]:
    """One look, in lines."""
    began = time.perf_counter()
    try:
        client.check_exchange("amq.direct", timeout=timeout)
        answer = f"answers in {(time.perf_counter() - began) * 1000:.1f} ms"
    except mm.MessagingError as error:
        answer = f"does not answer: {one_line(error)}"
    stats = client.stats()
    state = "connected" if client.connected else "NOT connected"
    blocked = ", BLOCKS publishers" if client.blocked else ""
    lines = [f"{time.strftime('%H:%M:%S')}  {state}, {answer}{blocked}, reconnects {stats.reconnects}"]
    if queues:
        width = max(5, *(len(name) for name in queues))
        lines.append(f"  {'queue':<{width}} {'ready':>10} {'change/s':>10} {'consumers':>10}")
        for name in queues:
            try:
                info = client.queue_info(name, timeout=timeout)
            except mm.MessagingError as error:
                lines.append(f"  {name:<{width}} {one_line(error)}")
                before.pop(name, None)
                continue
            change = (info.message_count - before[name]) / elapsed if name in before and elapsed else 0.0
            before[name] = info.message_count
            lines.append(f"  {name:<{width}} {info.message_count:>10} {change:>+10.0f} {info.consumer_count:>10}")
    return lines


def _top(arguments: argparse.Namespace) -> int:
    terminal = sys.stdout.isatty()
    before: dict[str, int] = {}
    with _connecting.connect(arguments) as client, Interrupts() as interrupts:
        looks = 0
        looked = time.monotonic()
        while not interrupts and (arguments.count is None or looks < arguments.count):
            now = time.monotonic()
            lines = _look(client, arguments.queues, before, now - looked, arguments.timeout)
            looked = now
            looks += 1
            print(("\033[H\033[2J" if terminal else "") + "\n".join(lines), flush=True)
            if looks != arguments.count:
                until = now + arguments.interval
                while not interrupts and (left := until - time.monotonic()) > 0:
                    # A handler that raises nothing does not end a sleep.
                    time.sleep(min(left, 0.2))
    return 0
