"""``bench URI``: how fast a broker and this machine are together."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import deque
from typing import Any

import murano_messaging as mm

from . import _connecting
from ._interrupting import Interrupts
from ._progress import Progress

_PERCENTILES = (50.0, 99.0, 99.9)


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "bench",
        parents=[_connecting.options()],
        help="measure publishing, consuming and round trips",
        description="Measure publishing with many messages in flight, consuming what was published, publishing one at a"
        " time, and round trips, on a temporary queue that is deleted at the end. CPU is that of this process.",
    )
    parser.add_argument("--seconds", type=_connecting.seconds, default=3.0, help="for each measurement (default: 3)")
    parser.add_argument("--size", type=_connecting.count, default=256, metavar="BYTES", help="of a body (default: 256)")
    parser.add_argument(
        "--type", choices=("classic", "quorum"), default="classic", help="of the queue (default: classic)"
    )
    parser.add_argument("--transient", action="store_true", help="messages that the broker need not keep on disk")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--plot", metavar="FILE.svg", help="draw the latencies")
    parser.set_defaults(run=_bench)


class _Measured:
    """One measurement: how many, how long, at what cost, and how late each was."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.messages = 0
        self.latencies: list[float] = []
        self._progress = Progress(name)
        self._began = time.perf_counter()
        self._cpu = time.process_time()
        self.seconds = self.cpu = 0.0

    def add(self, number: int = 1) -> None:
        self.messages += number
        self._progress.add(number)

    def end(self) -> _Measured:
        self.seconds = time.perf_counter() - self._began
        self.cpu = time.process_time() - self._cpu
        self.latencies.sort()
        self._progress.end()
        return self

    def percentile(self, percent: float) -> float | None:
        """In milliseconds."""
        if not self.latencies:
            return None
        place = min(len(self.latencies) - 1, math.ceil(len(self.latencies) * percent / 100) - 1)
        return self.latencies[place] * 1000

    def summary(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "messages": self.messages,
            "seconds": round(self.seconds, 6),
            "per_second": round(self.messages / self.seconds, 1) if self.seconds else 0.0,
            "cpu_us_per_message": round(self.cpu / self.messages * 1e6, 2) if self.messages else None,
            "latency_ms": {
                f"p{percent:g}": None if (found := self.percentile(percent)) is None else round(found, 3)
                for percent in _PERCENTILES
            },
        }


class _Bench:
    def __init__(self, client: mm.Client, queue: str, arguments: argparse.Namespace, interrupts: Interrupts) -> None:
        self._client = client
        self._queue = queue
        self._body = bytes(arguments.size)
        self._seconds: float = arguments.seconds
        self._timeout: float = arguments.timeout
        self._options: dict[str, Any] = {"routing_key": queue, "persistent": not arguments.transient}
        self._interrupts = interrupts

    def _goes_on(self, until: float) -> bool:
        return not self._interrupts and time.perf_counter() < until

    def publish(self) -> _Measured:
        measured = _Measured("publish, many in flight")
        pending: deque[mm.Confirmation] = deque()
        until = time.perf_counter() + self._seconds
        while self._goes_on(until):
            pending.append(self._client.publish_nowait(self._body, **self._options))
            while pending and (len(pending) > 1000 or pending[0].done()):
                pending.popleft().result()
                measured.add()
        while pending:
            pending.popleft().result()
            measured.add()
        return measured.end()

    def consume(self, total: int) -> _Measured:
        measured = _Measured("consume and ack")
        with self._client.consume(self._queue, prefetch=1000) as consumer:
            while measured.messages < total and not self._interrupts:
                deliveries = consumer.get_many(1000, timeout=self._timeout)
                if not deliveries:
                    break
                for delivery in deliveries:
                    delivery.ack()
                measured.add(len(deliveries))
        return measured.end()

    def publish_and_wait(self) -> _Measured:
        measured = _Measured("publish and wait for each")
        until = time.perf_counter() + self._seconds
        while self._goes_on(until):
            began = time.perf_counter()
            self._client.publish(self._body, **self._options)
            measured.latencies.append(time.perf_counter() - began)
            measured.add()
        measured.end()
        self._client.purge_queue(self._queue)
        return measured

    def round_trip(self) -> _Measured:
        measured = _Measured("round trip")
        with self._client.consume(self._queue, prefetch=1) as consumer:
            until = time.perf_counter() + self._seconds
            while self._goes_on(until):
                began = time.perf_counter()
                confirmation = self._client.publish_nowait(self._body, **self._options)
                delivery = consumer.get(timeout=self._timeout)
                if delivery is None:
                    raise mm.OperationTimeoutError(f"no delivery within {self._timeout:g} s")
                measured.latencies.append(time.perf_counter() - began)
                delivery.ack()
                confirmation.result()
                measured.add()
        return measured.end()


def _bench(arguments: argparse.Namespace) -> int:
    with _connecting.connect(arguments) as client, Interrupts() as interrupts:
        # Gone by itself if this process cannot delete it.
        queue = f"murano-messaging-bench-{time.time_ns():x}"
        client.declare_queue(queue, type=arguments.type, expires=300)
        try:
            bench = _Bench(client, queue, arguments, interrupts)
            published = bench.publish()
            results = [published, bench.consume(published.messages), bench.publish_and_wait(), bench.round_trip()]
        finally:
            client.delete_queue(queue)
        server = client.server()
    broker = " ".join(str(server.properties.get(key, "?")) for key in ("product", "version")) if server else "?"
    if arguments.plot:
        with open(arguments.plot, "w", encoding="utf-8") as file:
            file.write(_svg([one for one in results if one.latencies], f"{broker}, {arguments.size} bytes"))
    if arguments.json:
        found = {"broker": broker, "size": arguments.size, "type": arguments.type, "transient": arguments.transient}
        print(json.dumps({**found, "results": [one.summary() for one in results]}, indent=2))
    else:
        _table(results, f"{broker}, {arguments.type} queue, {arguments.size} bytes")
    return interrupts.status if interrupts else 0


def _table(results: list[_Measured], title: str) -> None:
    print(title)
    heads = ("messages", "per second", "CPU µs", *(f"p{percent:g} ms" for percent in _PERCENTILES))
    print(" " * 26 + "".join(f"{head:>12}" for head in heads))
    for one in results:
        summary = one.summary()
        cells = [f"{one.messages}", f"{summary['per_second']:.0f}", f"{summary['cpu_us_per_message'] or 0:.1f}"]
        cells += ["-" if late is None else f"{late:.3f}" for late in summary["latency_ms"].values()]
        print(f"{one.name:<26}" + "".join(f"{cell:>12}" for cell in cells))


# ---- the plot --------------------------------------------------------------------------------------------------------

_WIDTH, _HEIGHT, _MARGIN = 640, 360, 60
_COLOURS = ("#1f6fb4", "#c2571a")
_NINES = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99)


def _x(percent: float) -> float:
    """The percentiles on a scale of nines."""
    nines = -math.log10(max(1 - percent / 100, 1e-4)) / 4
    return _MARGIN + nines * (_WIDTH - 2 * _MARGIN)


def _svg(results: list[_Measured], title: str) -> str:
    """The latency at each percentile, both on logarithmic scales."""
    values = [late * 1000 for one in results for late in (one.latencies[0], one.latencies[-1])] or [0.1, 1]
    low = math.floor(math.log10(max(min(values), 1e-3)))
    high = max(math.ceil(math.log10(max(values))), low + 1)

    def y(late: float) -> float:
        part = (math.log10(max(late, 1e-3)) - low) / (high - low)
        return _HEIGHT - _MARGIN - part * (_HEIGHT - 2 * _MARGIN)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}">',
        "<style>text { font: 12px sans-serif }</style>",
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_MARGIN}" y="24">Latency by percentile: {_escaped(title)}</text>',
    ]
    for power in range(low, high + 1):
        at = y(10.0**power)
        parts.append(f'<path d="M{_MARGIN} {at:.1f}H{_WIDTH - _MARGIN}" stroke="#ddd"/>')
        parts.append(f'<text x="{_MARGIN - 6}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g} ms</text>')
    parts += [
        f'<text x="{_x(percent):.1f}" y="{_HEIGHT - _MARGIN + 18}" text-anchor="middle">{percent:g}%</text>'
        for percent in _NINES
    ]
    for number, one in enumerate(results):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(
            f"{_x(percent):.1f},{y(one.percentile(percent) or 0):.1f}"
            for percent in (100 * (1 - 10 ** (-step / 10)) for step in range(1, 41))
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(
            f'<text x="{_MARGIN + 12}" y="{_MARGIN + 8 + 18 * number}" fill="{colour}">{_escaped(one.name)}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
