"""The loop over several clients."""

from __future__ import annotations

import select
from collections.abc import Sequence
from typing import Any, NoReturn


def loop(clients: Sequence[Any], *, select: Any = select) -> NoReturn:
    """Run the callbacks of all clients for ever.

    Raises ``ConnectionBroken`` when one of them has no connection any more, after the callbacks that say so.
    """
    while True:
        for client in clients:
            client.run_any_callbacks()
        writing = [client for client in clients if client.needs_write()]
        readable, writable, _ = select.select(clients, writing, clients)
        for client in readable:
            client.on_read()
        for client in writable:
            client.on_write()
