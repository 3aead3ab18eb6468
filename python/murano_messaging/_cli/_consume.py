"""``consume URI QUEUE``: messages to standard output, a line of JSON each."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from typing import Any

import murano_messaging as mm

from . import _connecting
from ._interrupting import Interrupts
from ._messages import to_line
from ._progress import Progress

# How soon an interrupt is seen while nothing comes.
_SLICE = 0.2


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "consume",
        parents=[_connecting.options()],
        help="write messages of a queue to standard output, a line of JSON each",
        description="Write messages to standard output, a line of JSON each. With --ack a message leaves the queue once"
        " its line is written; without, all are put back at the end. Ctrl-C ends it in order: what was not written stays"
        " in the queue.",
    )
    parser.add_argument("queue", metavar="QUEUE", help="the queue")
    parser.add_argument("--ack", action="store_true", help="take the messages off the queue")
    parser.add_argument("--count", type=_connecting.count, help="end after so many messages")
    parser.add_argument("--idle", type=_connecting.seconds, metavar="SECONDS", help="end when nothing came for so long")
    parser.add_argument("--body", action="store_true", help="write the bodies only, with a line end behind each")
    parser.add_argument("--offset", metavar="first|last|next|N", help="where to begin in a stream (default: next)")
    parser.add_argument(
        "--prefetch", type=_connecting.count, default=100, help="how many messages may be on their way (default: 100)"
    )
    parser.set_defaults(run=_consume)


def _write(deliveries: list[mm.Delivery], body: bool) -> None:
    out = sys.stdout.buffer
    for delivery in deliveries:
        out.write((delivery.body if body else to_line(delivery).encode()) + b"\n")
    # Before the acks: what is not written stays in the queue.
    out.flush()


def _consume(arguments: argparse.Namespace) -> int:
    # Those that are looked at only are all unsettled together.
    prefetch = min(arguments.prefetch if arguments.ack else 65535, arguments.count or 65535)
    left = arguments.count
    offset = arguments.offset
    options: dict[str, Any] = {}
    if offset is not None:
        options["stream_offset"] = int(offset) if offset.isascii() and offset.isdigit() else offset
    looked_at: list[mm.Delivery] = []
    progress = Progress("messages", arguments.count)
    with (
        _connecting.connect(arguments) as client,
        Interrupts() as interrupts,
        client.consume(arguments.queue, prefetch=prefetch, **options) as consumer,
    ):
        came = time.monotonic()
        while not interrupts and left != 0:
            deliveries = consumer.get_many(100 if left is None else min(left, 100), timeout=_SLICE)
            if not deliveries:
                if arguments.idle is not None and time.monotonic() - came >= arguments.idle:
                    break
                continue
            came = time.monotonic()
            _write(deliveries, arguments.body)
            if arguments.ack:
                for delivery in deliveries:
                    delivery.ack()
            else:
                looked_at += deliveries
            progress.add(len(deliveries))
            if left is not None:
                left -= len(deliveries)
        for delivery in looked_at:
            # One that a lost connection has taken back is back already.
            with contextlib.suppress(mm.MessagingError):
                delivery.nack(requeue=True)
    progress.end()
    return interrupts.status if interrupts else 0
