"""Ctrl-C and SIGTERM that end a command in order: the first asks for it, the second ends it at once."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType, TracebackType


class Interrupts:
    """While its block runs, a signal is noted and not raised."""

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, object] = {}

    def __bool__(self) -> bool:
        """Whether the end is asked for."""
        return self.number != 0

    @property
    def status(self) -> int:
        """The exit status of what was interrupted."""
        return 128 + self.number

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.number:
            raise KeyboardInterrupt
        self.number = number
        # Not `print`: the signal may have come while that was writing.
        if sys.stderr.isatty():
            os.write(2, b"\nending in order; once more to end at once\n")

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
