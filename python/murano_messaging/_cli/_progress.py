"""A line that counts, on a terminal only."""

from __future__ import annotations

import sys
import time


class Progress:
    """Counts messages on standard error, if that is a terminal."""

    def __init__(self, what: str, total: int | None = None) -> None:
        self._what = what
        self._total = total
        self._began = time.monotonic()
        self._shown = 0.0
        self._terminal = sys.stderr.isatty()
        self.done = 0

    def add(self, number: int = 1) -> None:
        """So many more are done."""
        self.done += number
        now = time.monotonic()
        if self._terminal and now - self._shown > 0.2:
            self._shown = now
            self._show(now)

    def _show(self, now: float) -> None:
        of = f" of {self._total}" if self._total else ""
        rate = self.done / max(now - self._began, 0.001)
        print(f"\r\033[K{self.done}{of} {self._what}, {rate:.0f}/s", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Show the last state and go to the next line."""
        if self._terminal:
            self._show(time.monotonic())
            print(file=sys.stderr, flush=True)
