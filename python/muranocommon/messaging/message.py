"""Messages: the id is sent as the header ``message_id``, the body as JSON."""

from __future__ import annotations

from murano_messaging.compat import _murano


class Message(_murano.Message):
    """A message to send, or one that came."""
