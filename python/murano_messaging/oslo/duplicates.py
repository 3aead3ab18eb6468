"""Messages that come again after a lost connection, told by their ``_unique_id``."""

from __future__ import annotations

import threading
from typing import Optional

import murano_messaging as mm

#: How many ids are remembered. The driver rabbit remembers 16, which a redelivered prefetch window exceeds.
REMEMBERED = 1024


class Duplicates:
    """The messages of one listener that are being worked on, and the last that are done."""

    def __init__(self) -> None:
        """Know none."""
        self._lock = threading.Lock()
        self._done: dict[str, None] = {}
        self._begun: dict[str, list[mm.Delivery]] = {}

    def is_new(self, unique_id: Optional[str], delivery: mm.Delivery) -> bool:
        """Whether a message that arrives is to be worked on. A copy of one that is done is acked here."""
        if not unique_id:
            return True
        with self._lock:
            copies = self._begun.get(unique_id)
            if copies is not None:
                # It is acked with the first, and goes back to the queue if this process dies.
                copies.append(delivery)
                return False
            if unique_id not in self._done:
                return True
        delivery.ack()
        return False

    def begin(self, unique_id: Optional[str], delivery: mm.Delivery) -> bool:
        """Begin to work on a message; ``False`` for a copy, as in :meth:`is_new`."""
        if not unique_id:
            return True
        with self._lock:
            if unique_id not in self._done and unique_id not in self._begun:
                self._begun[unique_id] = []
                return True
        return self.is_new(unique_id, delivery)

    def end(self, unique_id: Optional[str]) -> None:
        """Remember a message as done."""
        if not unique_id:
            return
        with self._lock:
            copies = self._begun.pop(unique_id, [])
            self._done[unique_id] = None
            if len(self._done) > REMEMBERED:
                del self._done[next(iter(self._done))]
        for copy in copies:
            copy.ack()

    def give_up(self, unique_id: Optional[str]) -> None:
        """Forget a message that was put back."""
        if not unique_id:
            return
        with self._lock:
            copies = self._begun.pop(unique_id, [])
        for copy in copies:
            copy.requeue()
