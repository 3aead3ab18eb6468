"""``publish URI QUEUE``: messages from standard input or files, each confirmed."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

import murano_messaging as mm

from . import _connecting
from ._connecting import Failure
from ._interrupting import Interrupts
from ._messages import PROPERTIES, from_line
from ._progress import Progress
from ._wording import one_line

_NUMBERS = {"priority": int, "expiration": float, "timestamp": int}


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "publish",
        parents=[_connecting.options()],
        help="publish messages from standard input or files, each confirmed by the broker",
        description="Publish to a queue, or to an exchange with --exchange. Without anything else, standard input is the"
        " body of one message. Exit status 0 means that the broker has confirmed every message, and that a queue took"
        " it.",
    )
    parser.add_argument("queue", metavar="QUEUE", nargs="?", help="the queue to publish to, through the default exchange")
    parser.add_argument("--exchange", help="publish to this exchange instead")
    parser.add_argument("--routing-key", default=None, help="with this routing key (default: none)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json-lines", action="store_true", help="each line is a message, as `consume` writes them")
    form.add_argument("--lines", action="store_true", help="each line is the body of a message")
    form.add_argument("--file", action="append", metavar="FILE", help="the body of a message; can be given several times")
    form.add_argument("--body", help="the body of the message")
    parser.add_argument("--count", type=_connecting.count, default=1, help="publish all that so many times")
    parser.add_argument("--header", action="append", default=[], metavar="NAME=TEXT", help="a header of every message")
    parser.add_argument(
        "--property",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"a property of every message: {', '.join(sorted(PROPERTIES - {'headers', 'persistent'}))}",
    )
    parser.add_argument("--transient", action="store_true", help="messages that a restart of the broker may lose")
    parser.add_argument("--no-mandatory", action="store_true", help="do not fail when no queue takes a message")
    parser.add_argument("--confirm", action="store_true", help="wait for the broker's confirms: it is always done")
    parser.set_defaults(run=_publish)


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Failure(f"{option} is NAME=VALUE, not {text!r}")
    return name, value


def _common(arguments: argparse.Namespace) -> dict[str, Any]:
    """What all messages have in common."""
    if (arguments.queue is None) == (arguments.exchange is None):
        raise Failure("give the name of a queue behind the URI, or --exchange with --routing-key")
    if arguments.queue is not None and arguments.routing_key is not None:
        raise Failure("--routing-key goes with --exchange: a queue's name is its routing key")
    common: dict[str, Any] = {
        "exchange": arguments.exchange or "",
        "routing_key": arguments.queue if arguments.exchange is None else (arguments.routing_key or ""),
        "persistent": not arguments.transient,
    }
    if arguments.no_mandatory:
        common["mandatory"] = False
    if arguments.header:
        common["headers"] = dict(_pair(text, "--header") for text in arguments.header)
    for text in arguments.property:
        name, value = _pair(text, "--property")
        if name not in PROPERTIES - {"headers", "persistent"}:
            raise Failure(f"--property {name} is not known")
        try:
            common[name] = _NUMBERS.get(name, str)(value)
        except ValueError:
            raise Failure(f"--property {name} is a number, not {value!r}") from None
    return common


def _input() -> Iterator[bytes]:
    yield from sys.stdin.buffer


def _messages(arguments: argparse.Namespace) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """Each message: what it is called in errors, its body, and arguments of its own."""
    if arguments.json_lines:
        for number, line in enumerate(_input(), 1):
            if line.strip():
                try:
                    text = line.decode()
                except UnicodeDecodeError:
                    raise Failure(f"line {number} is not UTF-8") from None
                body, own = from_line(text, f"line {number}")
                if arguments.queue is not None or arguments.exchange is not None:
                    # Where a message was consumed from is not where it is to go.
                    own.pop("exchange", None)
                    if arguments.routing_key is not None or arguments.exchange is None:
                        own.pop("routing_key", None)
                yield f"line {number}", body, own
    elif arguments.lines:
        for number, line in enumerate(_input(), 1):
            yield f"line {number}", line.rstrip(b"\r\n"), {}
    elif arguments.file:
        for path in arguments.file:
            with open(path, "rb") as file:
                yield path, file.read(), {}
    elif arguments.body is not None:
        yield "the message", arguments.body.encode(), {}
    else:
        yield "standard input", sys.stdin.buffer.read(), {}


def _repeated(arguments: argparse.Namespace) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    if arguments.count == 1:
        yield from _messages(arguments)
        return
    all_of_it = list(_messages(arguments))
    for _ in range(arguments.count):
        yield from all_of_it


def _merged(common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    merged = {**common, **own}
    if "headers" in common and "headers" in own:
        merged["headers"] = {**own["headers"], **common["headers"]}
    return merged


class _Publishing:
    """Publishes in flight, oldest first, and what they came to."""

    def __init__(self, client: mm.Client) -> None:
        self._client = client
        self._pending: deque[tuple[str, mm.Confirmation]] = deque()
        self._progress = Progress("messages confirmed")
        self.failed = 0
        self.first = ""

    def send(self, name: str, body: bytes, options: dict[str, Any]) -> None:
        try:
            self._pending.append((name, self._client.publish_nowait(body, **options)))
        except (mm.MessagingError, TypeError) as error:
            self._failure(name, error)
        while self._pending and (self._pending[0][1].done() or len(self._pending) > 1000):
            self._settle()

    def _settle(self) -> None:
        name, confirmation = self._pending.popleft()
        try:
            confirmation.result()
        except mm.MessagingError as error:
            self._failure(name, error)
        else:
            self._progress.add()

    def _failure(self, name: str, error: Exception) -> None:
        self.failed += 1
        if not self.first:
            unknown = " (it may have been published all the same)" if getattr(error, "outcome_unknown", False) else ""
            self.first = f"{name}: {one_line(error)}{unknown}"

    def finish(self) -> int:
        """Wait for what is in flight; returns how many were confirmed."""
        while self._pending:
            self._settle()
        self._progress.end()
        return self._progress.done


def _publish(arguments: argparse.Namespace) -> int:
    common = _common(arguments)
    bad_input = None
    with _connecting.connect(arguments) as client, Interrupts() as interrupts:
        publishing = _Publishing(client)
        try:
            for name, body, own in _repeated(arguments):
                publishing.send(name, body, _merged(common, own))
                if publishing.failed or interrupts:
                    break
        except (Failure, OSError) as error:
            # What was read before it is published all the same, and counted.
            bad_input = error
        confirmed = publishing.finish()
    if publishing.failed:
        more = f"; {publishing.failed - 1} more failed" if publishing.failed > 1 else ""
        raise Failure(f"{publishing.first}; {confirmed} were confirmed{more}")
    if bad_input is not None:
        raise Failure(f"{one_line(bad_input)}; {confirmed} messages before it were confirmed")
    if interrupts:
        print(f"murano-messaging publish: interrupted; {confirmed} messages were confirmed", file=sys.stderr)
        return interrupts.status
    return 0
