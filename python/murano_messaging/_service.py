"""What the core asks of Python: emitting log records, and calling for credentials.

One daemon thread does it. Under eventlet and gevent, once they have monkey-patched ``threading``, it is a green thread,
so that handlers and callbacks run where the rest of the program does.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import logging
import sys
import threading
import traceback
from typing import Any, Callable

from . import _native

_LOGGER = logging.getLogger("murano_messaging")
# A library leaves it to the application where its records go.
_LOGGER.addHandler(logging.NullHandler())


def start() -> None:
    """Start the service of this process; called once in it, by the first client."""
    atexit.register(_at_exit)
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        # Before Python 3.13 a forked child of multiprocessing ends without atexit. After its own children: they may use
        # what it owns.
        from multiprocessing.util import Finalize

        Finalize(None, _at_exit, exitpriority=-1)
    threading.Thread(target=_serve, name="murano-messaging-service", daemon=True).start()


def _serve() -> None:
    while True:
        job = _native.next_job()
        try:
            _do(job)
        except Exception:
            # A handler that raises must not end what the other handlers live from.
            if logging.raiseExceptions:
                traceback.print_exc()


def _do(job: tuple[Any, ...]) -> None:
    if job[0] == "log":
        _log(*job[1:])
    else:
        # A thread of its own: it may take its time, and records must not wait for it.
        threading.Thread(target=_credentials, args=job[1:], name="murano-messaging-credentials", daemon=True).start()


def _log(level: int, name: str, text: str) -> None:
    logger = logging.getLogger(name)
    if logger.isEnabledFor(level):
        logger.handle(logger.makeRecord(name, level, "(murano-messaging)", 0, text, (), None))


def _credentials(function: Callable[[], Any], loop: asyncio.AbstractEventLoop | None, reply: _native.Reply) -> None:
    try:
        answer = function()
        if inspect.isawaitable(answer):
            if loop is None:
                if inspect.iscoroutine(answer):
                    answer.close()
                raise TypeError("a coroutine function can only be used with the asyncio client")
            answer = asyncio.run_coroutine_threadsafe(_awaited(answer), loop).result()
        username, password = answer
        reply.answer(username, password)
    except Exception as error:
        # Only its class: the text may quote what it was given.
        reply.fail(type(error).__name__)
        _LOGGER.exception("the credentials callback failed")


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def listen(events: Any, callback: Callable[[Any], object]) -> None:
    """Call ``callback`` with each event, in a thread of its own, until the client is closed."""

    def call() -> None:
        for event in events:
            try:
                callback(event)
            except Exception:
                _LOGGER.exception("a callback for events failed")

    threading.Thread(target=call, name="murano-messaging-events", daemon=True).start()


def _at_exit() -> None:
    _native._at_exit()
    while (job := _native.pending_job()) is not None:
        if job[0] == "log":
            _do(job)
