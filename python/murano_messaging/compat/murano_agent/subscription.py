"""Subscriptions."""

from __future__ import annotations

from typing import Any, Callable, Optional

import murano_messaging as mm
from murano_messaging.compat import _murano

from .message import Message


class Subscription(_murano.KombuSubscription):
    """The messages of a queue; used within ``with``."""

    _message = Message

    def __init__(
        self,
        connection: Any,
        queue: str,
        prefetch_count: int = 1,
        exception_func: Optional[Callable[[], None]] = None,
    ) -> None:
        super().__init__(connection, queue, prefetch_count)
        self._check_exception = exception_func

    def get_message(self, timeout: Optional[float] = None) -> Any:
        """Return the next message; ``None`` when none came within ``timeout`` seconds."""
        if self._check_exception is not None:
            self._check_exception()
        if self._consumer is not None and self._client.closed:
            raise RuntimeError(_murano.NOT_CONNECTED)
        return super().get_message(timeout)

    def _leave(self, consumer: mm.Consumer, exc_type: Any) -> None:
        # After an error the broker is not waited for: dropping the consumer ends it.
        if exc_type is None:
            super()._leave(consumer, exc_type)
