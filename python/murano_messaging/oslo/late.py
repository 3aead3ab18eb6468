"""Replies whose outcome is open: they keep no worker of the server.

One thread looks every now and then what the broker said of them, and sends those again whose queue is missing.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Callable

LOG = logging.getLogger(__name__)

#: How often they are looked at, in seconds; the pause before a reply is sent again.
PAUSE = 0.25


class LateReplies:
    """The replies of a driver that are not confirmed yet."""

    def __init__(self) -> None:
        """Have none."""
        self._lock = threading.Lock()
        self._sends: list[Callable[[], bool]] = []
        self._running = False
        self._none = threading.Event()
        self._none.set()

    def add(self, send: Callable[[], bool]) -> None:
        """Call ``send`` every now and then until it says that it is done."""
        with self._lock:
            self._sends.append(send)
            self._none.clear()
            if self._running:
                return
            self._running = True
        threading.Thread(target=self._run, name="murano-late-replies", daemon=True).start()

    def wait(self, seconds: float) -> None:
        """Give them so long to be sent."""
        self._none.wait(seconds)

    def _run(self) -> None:
        while True:
            time.sleep(PAUSE)
            with self._lock:
                sends, self._sends = self._sends, []
            left = [send for send in sends if not self._is_done(send)]
            with self._lock:
                self._sends = left + self._sends
                if not self._sends:
                    self._running = False
                    self._none.set()
                    return

    @staticmethod
    def _is_done(send: Callable[[], bool]) -> bool:
        try:
            return send()
        except Exception:
            LOG.exception("A reply could not be sent")
            return True
