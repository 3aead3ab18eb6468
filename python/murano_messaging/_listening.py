"""Callbacks for events in asyncio: a task of the loop calls them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import Any, Callable

_LOGGER = logging.getLogger("murano_messaging")

# A loop knows its tasks weakly.
_tasks: set[asyncio.Task[None]] = set()


async def _call(events: Any, callback: Callable[[Any], object]) -> None:
    async for event in events:
        try:
            answer = callback(event)
            if inspect.isawaitable(answer):
                await answer
        except Exception:
            _LOGGER.exception("a callback for events failed")


def listen(events: Any, callback: Callable[[Any], object]) -> None:
    """Call ``callback`` with each event, in a task of the running loop, until the client is closed."""
    task = asyncio.get_running_loop().create_task(_call(events, callback), name="murano-messaging-events")
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
