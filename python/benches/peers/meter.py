"""CPU time and wall time of this process per message, and how often its threads were woken."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import time

BODY = b"x" * 256
WINDOW = 1000
PREFETCH = 200


def wakes() -> dict[str, int]:
    """How often the threads of this process have gone to sleep, and so been woken: the main thread, and the others."""
    counts = {"main": 0, "others": 0}
    with contextlib.suppress(OSError):
        for task in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/status") as status:
                fields = dict(line.split(":", 1) for line in status)
                which = "main" if int(task) == os.getpid() else "others"
                counts[which] += int(fields["voluntary_ctxt_switches"])
    return counts


class Meter:
    """Measures from ``start`` to ``stop``; set-up and warm-up come before."""

    def start(self) -> None:
        self._wakes = wakes()
        self._wall = time.perf_counter()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._cpu = usage.ru_utime + usage.ru_stime

    def stop(self, messages: int) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cpu = usage.ru_utime + usage.ru_stime - self._cpu
        wall = time.perf_counter() - self._wall
        woken = wakes()
        sample = {
            "cpu_us": cpu / messages * 1e6,
            "rate": messages / wall,
            "main_wakes": (woken["main"] - self._wakes["main"]) / messages * 1000,
            "other_wakes": (woken["others"] - self._wakes["others"]) / messages * 1000,
        }
        print(json.dumps(sample), flush=True)
