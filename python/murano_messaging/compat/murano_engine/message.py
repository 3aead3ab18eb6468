"""Messages: the body is JSON."""

from __future__ import annotations

from murano_messaging.compat import _murano


class Message(_murano.Message):
    """A message to send, or one that came."""
