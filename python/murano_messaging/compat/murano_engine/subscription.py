"""Subscriptions."""

from __future__ import annotations

from typing import Any

from murano_messaging.compat import _murano

from .message import Message


class Subscription(_murano.KombuSubscription):
    """The messages of a queue; used within ``with``."""

    _message = Message

    def __init__(self, connection: Any, queue: str, prefetch_count: int = 1) -> None:
        super().__init__(connection, queue, prefetch_count)
