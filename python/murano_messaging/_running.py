"""``client.run()``: a handler for each message of a queue, several at a time, until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import signal
import threading
import time
from collections.abc import Coroutine, Iterator
from typing import Any, Callable

from ._native import AioClient, AioConsumer, AioDelivery, Client, Consumer, Delivery
from ._processing import process
from .errors import InvalidArgumentError

log = logging.getLogger("murano_messaging.run")

# How often a run looks whether it is to end: a handler of signals must do no more than leave a note.
_LOOK = 0.1


def _checked(concurrency: int, prefetch: int | None) -> int:
    if not isinstance(concurrency, int) or isinstance(concurrency, bool):
        raise TypeError(f"concurrency must be an int, not {type(concurrency).__name__}")
    if concurrency < 1:
        raise InvalidArgumentError(f"concurrency is {concurrency}: give 1 or more")
    # One more for each handler is on its way while it works.
    return min(2 * concurrency, 65535) if prefetch is None else prefetch


def _failed(delivery: Any, queue: str, requeue: bool) -> None:
    log.exception(
        "the handler of queue %r failed with message %r: %s",
        queue,
        delivery.message_id,
        "put back" if requeue else "rejected",
    )


@contextlib.contextmanager
def _noting_sigterm() -> Iterator[Callable[[], bool]]:
    """Say whether SIGTERM came, where the program does not handle it itself and this thread could."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield lambda: False
        return
    signal.signal(signal.SIGTERM, lambda number, _frame: came.append(number))
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


# ---- threads and green threads --------------------------------------------------------------------------------------


def run(
    self: Client,
    queue: str,
    handler: Callable[[Delivery], object],
    *,
    concurrency: int = 1,
    requeue: bool = False,
    prefetch: int | None = None,
    stop: threading.Event | None = None,
    drain_timeout: float = 30.0,
    **options: Any,
) -> None:
    """Call ``handler`` with each delivery of ``queue``, in ``concurrency`` threads, until it is told to end.

    A delivery is acked when its handler returns, and rejected when it raises, which is logged with the logger
    ``murano_messaging.run``; with ``requeue`` it is put back instead. A handler may settle its delivery itself. Where
    ``threading`` is monkey-patched by eventlet or gevent, the threads are green.

    It ends by SIGTERM (in the main thread, where the program does not handle that itself), when ``stop`` is set, when
    the client is closed or drained, and by Ctrl-C, which is raised then. Handlers that have begun come to their end
    first, for at most ``drain_timeout`` seconds; what they had not begun goes back to the queue. The client stays open.

    * ``prefetch``: twice the ``concurrency`` by default. ``options``: those of ``consume``.

    Raises what ends the consumer, ``ConsumerCancelledError`` for instance, and what ``consume`` raises.

    >>> client.publish(b"x", routing_key=queue)
    >>> import threading
    >>> done = threading.Event()
    >>> client.run(queue, lambda delivery: done.set(), concurrency=4, stop=done)
    """
    consumer = self.consume(queue, prefetch=_checked(concurrency, prefetch), **options)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for delivery in consumer:
                _handle(handler, delivery, queue, requeue)
        except BaseException as error:
            errors.append(error)

    workers = [
        threading.Thread(target=work, name=f"murano-messaging-run-{number}", daemon=True) for number in range(concurrency)
    ]
    with _noting_sigterm() as sigterm_came:
        try:
            for worker in workers:
                worker.start()
            while not sigterm_came() and not errors and not (stop is not None and stop.is_set()):
                working = next((worker for worker in workers if worker.is_alive()), None)
                if working is None:
                    break
                working.join(_LOOK)
        finally:
            _end(consumer, [worker for worker in workers if worker.ident is not None], queue, drain_timeout)
    if errors:
        raise errors[0]


def _handle(handler: Callable[[Delivery], object], delivery: Delivery, queue: str, requeue: bool) -> None:
    try:
        with process(delivery, requeue=requeue):
            handler(delivery)
    except Exception:
        _failed(delivery, queue, requeue)


def _end(consumer: Consumer, workers: list[threading.Thread], queue: str, drain_timeout: float) -> None:
    # As `cancel`, but that the client is closed is as good.
    consumer.__exit__(None, None, None)
    until = time.monotonic() + drain_timeout
    for worker in workers:
        worker.join(max(until - time.monotonic(), 0))
    left = sum(worker.is_alive() for worker in workers)
    if left:
        log.warning("%d handlers of queue %r have not ended after %g s", left, queue, drain_timeout)


# ---- asyncio --------------------------------------------------------------------------------------------------------


def aio_run(
    self: AioClient,
    queue: str,
    handler: Callable[[AioDelivery], object],
    *,
    concurrency: int = 1,
    requeue: bool = False,
    prefetch: int | None = None,
    stop: asyncio.Event | None = None,
    drain_timeout: float = 30.0,
    **options: Any,
) -> Coroutine[object, None, None]:
    """Call ``handler``, a coroutine function or another one, with each delivery of ``queue``, in ``concurrency`` tasks.

    A delivery is acked when its handler is done, and rejected when it raises, which is logged with the logger
    ``murano_messaging.run``; with ``requeue`` it is put back instead. A handler may settle its delivery itself. One
    that is no coroutine function runs in the loop too: it must not wait.

    It ends by SIGTERM (in the main thread, where the program does not handle that itself), when ``stop`` is set, and
    when the client is closed or drained. Handlers that have begun come to their end first, for at most
    ``drain_timeout`` seconds, after which they are cancelled; what they had not begun goes back to the queue. When the
    task of this call is cancelled, they are too, and their messages are put back. The client stays open.

    * ``prefetch``: twice the ``concurrency`` by default. ``options``: those of ``consume``.

    Raises what ends the consumer, ``ConsumerCancelledError`` for instance, and what ``consume`` raises.
    """
    consumer = self.consume(queue, prefetch=_checked(concurrency, prefetch), **options)
    return _aio_run(consumer, queue, handler, concurrency, requeue, stop, drain_timeout)


async def _aio_run(
    consumer: AioConsumer,
    queue: str,
    handler: Callable[[AioDelivery], object],
    concurrency: int,
    requeue: bool,
    stop: asyncio.Event | None,
    drain_timeout: float,
) -> None:
    await consumer

    async def work() -> None:
        async for delivery in consumer:
            try:
                async with process(delivery, requeue=requeue):
                    outcome = handler(delivery)
                    if inspect.isawaitable(outcome):
                        await outcome
            except Exception:
                _failed(delivery, queue, requeue)

    workers = {asyncio.create_task(work()) for _ in range(concurrency)}
    with _noting_sigterm() as sigterm_came:
        try:
            while not sigterm_came() and not (stop is not None and stop.is_set()):
                done, pending = await asyncio.wait(workers, timeout=_LOOK, return_when=asyncio.FIRST_EXCEPTION)
                if not pending or any(task.exception() for task in done):
                    break
            await _aio_end(consumer, workers, queue, drain_timeout)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await consumer.__aexit__(None, None, None)
    for worker in workers:
        if not worker.cancelled() and (error := worker.exception()) is not None:
            raise error


async def _aio_end(consumer: AioConsumer, workers: set[asyncio.Task[None]], queue: str, drain_timeout: float) -> None:
    await consumer.__aexit__(None, None, None)
    _, pending = await asyncio.wait(workers, timeout=drain_timeout)
    if pending:
        log.warning("%d handlers of queue %r have not ended after %g s", len(pending), queue, drain_timeout)
