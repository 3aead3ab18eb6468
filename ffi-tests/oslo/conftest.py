"""Stock oslo.messaging, and peers in Rust, on one RabbitMQ."""

from __future__ import annotations

import contextlib
import json
import pathlib
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

collect_ignore = []
if sys.version_info < (3, 11):
    # Said in words by scripts/python.sh: oslo.messaging has left these versions.
    collect_ignore = [name.name for name in pathlib.Path(__file__).parent.glob("test_*.py")]

#: Longer than anything takes that works.
LONG = 30


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if pathlib.Path(__file__).parent in item.path.parents:
            # The stock driver warns of itself: oslo.service of eventlet, kombu of its own options.
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))


@pytest.fixture
def rabbit_url(uri: str) -> str:
    """The transport URL of the RabbitMQ."""
    return uri.replace("amqp://", "rabbit://", 1)


@pytest.fixture
def url(rabbit_url: str) -> Any:
    """Returns the transport URL for a scheme: rabbit, murano."""
    return lambda scheme: rabbit_url.replace("rabbit://", f"{scheme}://", 1)


@pytest.fixture
def topic(unique: Any) -> str:
    """A topic that nobody else has."""
    return str(unique("topic"))


@pytest.fixture
def transport() -> Iterator[Any]:
    """Makes transports, as ``stock.transport`` does, and cleans them up."""
    import stock

    made: list[Any] = []

    def make(*arguments: Any, **options: Any) -> Any:
        made.append(stock.transport(*arguments, **options))
        return made[-1]

    yield make
    for each in made:
        each.cleanup()


@pytest.fixture
def ours(transport: Any, url: Any) -> Any:
    """A transport with the driver murano."""
    return transport(url("murano"))


class RustPeer:
    """The program ``oslo-peer``: lines of JSON in and out."""

    def __init__(self, *arguments: str) -> None:
        program = ROOT / "target" / "debug" / "examples" / "oslo-peer"
        assert program.exists(), "run: cargo build -p murano-messaging --features oslo --example oslo-peer"
        self._process = subprocess.Popen(
            [program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._lines: queue.Queue[Any] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self.next() == "ready"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)

    def next(self) -> Any:
        """The next line that it prints."""
        line = self._lines.get(timeout=LONG)
        assert line is not None, "the peer ended"
        return line

    def order(self, kind: str, method: str, args: Any = None, **more: Any) -> Any:
        """Have a client do something, and return what came of it."""
        self.send(kind, method, args, **more)
        return self.next()

    def send(self, kind: str, method: str, args: Any = None, **more: Any) -> None:
        assert self._process.stdin is not None
        line = {"do": kind, "method": method, "args": {} if args is None else args, **more}
        self._process.stdin.write(json.dumps(line) + "\n")

    def kill(self) -> None:
        self._process.kill()

    def stop(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(LONG)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.wait(LONG)
        self._reader.join(LONG)
        self._process.stdout.close()


@pytest.fixture
def rust() -> Iterator[Any]:
    """Starts peers in Rust, and stops them."""
    peers: list[RustPeer] = []

    def start(*arguments: str) -> RustPeer:
        peers.append(RustPeer(*arguments))
        return peers[-1]

    yield start
    for peer in peers:
        peer.stop()
