"""Subscriptions."""

from __future__ import annotations

from murano_messaging.compat import _murano

from .message import Message


class Subscription(_murano.Subscription):
    """The messages of a queue; used within ``with``."""

    _message = Message
