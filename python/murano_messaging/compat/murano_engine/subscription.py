"""Subscriptions."""

from __future__ import annotations

from murano_messaging.compat import _murano

from .message import Message


class Subscription(_murano.KombuSubscription):
    """The messages of a queue; used within ``with``."""

    _message = Message
