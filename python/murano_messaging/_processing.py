"""``delivery.process()``: a block that settles its delivery."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Any, Generic, TypeVar

from .errors import AlreadySettledError, InvalidArgumentError

D = TypeVar("D")


class Processing(Generic[D]):
    """A block at whose end a delivery is acked or, after an exception, rejected."""

    def __init__(self, delivery: D, requeue: bool) -> None:
        self._delivery: Any = delivery
        self._requeue = requeue

    def __enter__(self) -> D:
        """Return the delivery."""
        delivery: D = self._delivery
        return delivery

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Settle it, unless the block has."""
        try:
            if kind is None:
                self._delivery.ack()
            else:
                # What ends the program, or a task, says nothing about the message.
                self._refuse(self._requeue or not issubclass(kind, Exception))
        except AlreadySettledError:
            pass

    def _refuse(self, requeue: bool) -> None:
        try:
            self._delivery.nack(requeue)
        except InvalidArgumentError:
            # A stream takes nothing back, and without acks there is nothing to settle: the exception is what counts.
            with contextlib.suppress(InvalidArgumentError):
                self._delivery.ack()

    async def __aenter__(self) -> D:
        """Return the delivery."""
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Settle it, unless the block has."""
        self.__exit__(kind, error, traceback)


def process(self: D, *, requeue: bool = False) -> Processing[D]:
    """Settle the delivery at the end of a ``with`` or ``async with`` block: acked, or rejected if an exception leaves it.

    A rejected message is dropped, or dead-lettered if its queue says so; with ``requeue`` it goes back into its queue. An
    exception that is no :class:`Exception` (a cancelled task, Ctrl-C) puts it back in any case. The exception goes on. A
    block may settle its delivery itself, which is left as it is then.

    >>> client.publish(b"x", routing_key=queue)
    >>> with client.get(queue).process() as delivery:
    ...     delivery.body
    b'x'
    """
    return Processing(self, requeue)
