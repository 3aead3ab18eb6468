"""Messages: the body is JSON."""

from __future__ import annotations

from typing import Any, Optional

import murano_messaging as mm
from murano_messaging.compat import _murano


class Message(_murano.Message):
    """A message to send, or one that came."""

    def __init__(self, connection: Any = None, message_handle: Optional[mm.Delivery] = None) -> None:
        super().__init__(connection, message_handle)
