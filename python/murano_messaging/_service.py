"""What the core asks of Python: emitting log records, and calling for credentials.

One daemon thread does it. Under eventlet and gevent, once they have monkey-patched ``threading``, it is a green thread in
each hub that connects, so that handlers and callbacks run where the rest of the program does.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import sys
import threading
import time
import traceback
from concurrent import futures
from typing import Any, Callable

from . import _green, _native, errors

_LOGGER = logging.getLogger("murano_messaging")
# A library leaves it to the application where its records go.
_LOGGER.addHandler(logging.NullHandler())

# Seconds that a coroutine may take which is asked for credentials; the connect has given up long before.
_PATIENCE = 60.0

# Seconds at the end of the interpreter for a handler or callback that is running.
_LAST_CALL = 3.0

# The threads that run the application's handlers and callbacks now, each with its process.
_calling: set[tuple[int, object]] = set()


class _Calling:
    """Around a call of the application's code by a thread of the service's own.

    The interpreter must not end during it: if it waits as green threads do, the end of its thread would unwind the stack
    of greenlets, and crash.
    """

    def __enter__(self) -> None:
        self._entry = (os.getpid(), self)
        _calling.add(self._entry)

    def __exit__(self, *_: object) -> None:
        _calling.discard(self._entry)


_Around = Callable[[], "contextlib.AbstractContextManager[None]"]


def start() -> None:
    """Start the service of this process; called once in it, by the first client."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        # A forked child of multiprocessing ends without what was registered with atexit. After its own children and
        # everything else: they may use what it owns.
        from multiprocessing.util import Finalize

        Finalize(None, _child_at_exit, exitpriority=-100)
    renew()


def _child_at_exit() -> None:
    # Before Python 3.13 the threads of the child are joined only after this, and from here on they come back from no
    # call. Joining them one by one would not do: those of an executor end when this tells them to.
    threading._shutdown()  # type: ignore[attr-defined]
    _native._at_exit()


def renew() -> None:
    """See to it that somebody serves who can be counted on here; called at each connect.

    A thread does in any case: a hub ends with its thread, and takes its green threads with it.
    """
    _look_at_levels()
    spawn = _green.spawner(_native.in_main_thread())
    for its in (None,) if spawn is None else (None, spawn):
        server = _native.new_server(its is not None)
        if server is None:
            continue
        try:
            _start(its, "murano-messaging-service", _serve, server)
        except BaseException:
            _native.end_server(server)
            raise


def _start(spawn: Callable[..., Any] | None, name: str, function: Callable[..., None], *arguments: Any) -> None:
    """Have something done beside: by a green thread that ``spawn`` starts, otherwise by a thread.

    The function's first argument is what it enters around calls of the application's code.
    """
    arguments = (_Calling if spawn is None else contextlib.nullcontext, *arguments)

    def named() -> None:
        threading.current_thread().name = name
        function(*arguments)

    # Not with the patched `threading`: it waits until its thread runs, which a hub cannot, and makes a hub in any thread.
    start_native = _green.start_native()
    if spawn is not None:
        spawn(named)
    elif start_native is not None:
        start_native(named, ())
    else:
        threading.Thread(target=function, args=arguments, name=name, daemon=True).start()


def _serve(calling: _Around, server: int) -> None:
    try:
        while True:
            job = _native.next_job(server)
            try:
                with calling():
                    _do(job)
            except Exception:
                # A handler that raises must not end what the other handlers live from.
                if logging.raiseExceptions:
                    traceback.print_exc()
            # While this waits, it keeps nothing of the application's alive.
            del job
    except errors.ForkedError:
        # The thread that drives the connections has ended, and what this has served with it.
        return
    except (KeyboardInterrupt, SystemExit):
        # They are the program's: a hub raises them in its main green thread.
        _native.end_server(server)
        renew()
        raise
    except BaseException:
        _native.end_server(server)
        raise


def _do(job: tuple[Any, ...]) -> None:
    if job[0] == "log":
        _log(*job[1:])
        if _native.log_level_is_old():
            _look_at_levels()
    else:
        # A thread of its own: it may take its time, and records must not wait for it.
        _start(_green.spawner(_native.in_main_thread()), "murano-messaging-credentials", _credentials, *job[1:])


def _look_at_levels() -> None:
    """Tell the core which records nobody wants."""
    manager = _LOGGER.manager
    ours = [logger for name, logger in list(manager.loggerDict.items()) if name.startswith("murano_messaging.")]
    loggers = [_LOGGER, *(logger for logger in ours if isinstance(logger, logging.Logger))]
    _native.set_log_level(max(manager.disable + 1, min(logger.getEffectiveLevel() for logger in loggers)))


def _log(level: int, name: str, text: str) -> None:
    logger = logging.getLogger(name)
    if logger.isEnabledFor(level):
        logger.handle(logger.makeRecord(name, level, "(murano-messaging)", 0, text, (), None))


def _credentials(
    calling: _Around,
    function: Callable[[], Any] | None,
    loop: asyncio.AbstractEventLoop | None,
    reply: _native.Reply,
) -> None:
    if function is None:
        reply.fail("it was collected with its client")
        return
    try:
        with calling():
            answer = function()
            if inspect.isawaitable(answer):
                answer = _run(_awaited(answer), loop)
        try:
            username, password = answer
            reply.answer(username, password)
        except (TypeError, ValueError):
            reply.fail("it must return the user name and the password, both of them str")
    except Exception as error:
        # Only its class: the text may quote what it was given.
        reply.fail(type(error).__name__)
        stack = "".join(traceback.format_tb(error.__traceback__))
        _LOGGER.error("the credentials callback failed with %s:\n%s", type(error).__name__, stack)


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def _run(coroutine: Any, loop: asyncio.AbstractEventLoop | None) -> Any:
    if loop is None or not loop.is_running():
        return asyncio.run(asyncio.wait_for(coroutine, _PATIENCE))
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        return future.result(_PATIENCE)
    except futures.TimeoutError:
        future.cancel()
        raise


def listen(events: Any, callback: Callable[[Any], object]) -> None:
    """Call ``callback`` with each event, in a thread of its own, until the client is closed."""

    def call(calling: _Around) -> None:
        for event in events:
            try:
                with calling():
                    callback(event)
            except Exception:
                _LOGGER.exception("a callback for events failed")

    _start(_green.spawner(_native.in_main_thread()), "murano-messaging-events", call)


def finish() -> None:
    """Emit what is left at the end of the interpreter, and wait for the handlers and callbacks that still run."""
    until = time.monotonic() + _LAST_CALL
    while True:
        while (job := _native.pending_job()) is not None:
            if job[0] == "log":
                _do(job)
        if time.monotonic() > until or not any(process == os.getpid() for process, _ in list(_calling)):
            return
        _native.pause(0.001)
