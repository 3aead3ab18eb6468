"""Messages: a received body is given as it came, with its signature and where to reply to."""

from __future__ import annotations

from typing import Any, Optional

import murano_messaging as mm
from murano_messaging.compat import _murano


class Message(_murano.Message):
    """A message to send, or one that came."""

    def __init__(self, connection: Any = None, message_handle: Optional[mm.Delivery] = None) -> None:
        super().__init__(connection, message_handle)
        self._reply_to = None if message_handle is None else message_handle.reply_to
        self._signature = None if message_handle is None else message_handle.headers.get("signature")

    def _read_body(self, handle: mm.Delivery) -> Any:
        try:
            return handle.text()
        except UnicodeDecodeError:
            return handle.body

    @property
    def reply_to(self) -> Optional[str]:
        """The queue that an answer goes to."""
        return self._reply_to

    @property
    def signature(self) -> Any:
        """The header ``signature``."""
        return self._signature
