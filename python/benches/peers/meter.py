"""CPU time and wall time of this process, per message."""

from __future__ import annotations

import json
import resource
import time

BODY = b"x" * 256
WINDOW = 1000
PREFETCH = 1000


class Meter:
    """Measures from ``start`` to ``stop``; set-up and warm-up come before."""

    def start(self) -> None:
        self._wall = time.perf_counter()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._cpu = usage.ru_utime + usage.ru_stime

    def stop(self, messages: int) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cpu = usage.ru_utime + usage.ru_stime - self._cpu
        wall = time.perf_counter() - self._wall
        print(
            json.dumps({"cpu_us": cpu / messages * 1e6, "rate": messages / wall, "messages": messages}),
            flush=True,
        )
