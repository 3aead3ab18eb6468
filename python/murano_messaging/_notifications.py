"""Notifications: ``client.notifier()`` tells what happened, ``client.notification_listener()`` hears it, now or later.

The wire format is that of oslo.messaging, whose services may be on the other end.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Union

from .errors import ClosedError

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._native import AioClient, Client, Notification, NotificationSender, NotificationSource

_Duration = Union[float, timedelta]


class _Sender:
    def __init__(self, client: Any, publisher_id: str, context: Mapping[str, Any] | None, options: Any) -> None:
        transport = client._rpc_transport(options.pop("options", None))
        self._native: NotificationSender = transport.notifier(publisher_id, **options)
        self._publisher_id = publisher_id
        self._context = context

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._publisher_id!r}>"


class Notifier(_Sender):
    """Tells what happened. :meth:`Client.notifier` makes it."""

    def notify(self, priority: str, event_type: str, payload: Any, *, context: Mapping[str, Any] | None = None) -> None:
        """Send a notification, and return when the broker has it for every topic.

        ``priority``: ``audit``, ``debug``, ``info``, ``warn``, ``error``, ``critical`` or ``sample``, each of which has
        a queue of its own. Without listeners it waits there. ``context``: instead of that of the notifier.

        >>> notifier = client.notifier("compute.host-1", topics=queue)
        >>> notifier.notify("info", "instance.create.end", {"id": 7})
        >>> with client.notification_listener(queue, priorities="info") as notifications:
        ...     notification = notifications.get(timeout=10)
        ...     notification.ack()
        ...     notification.payload
        {'id': 7}
        """
        self._native.notify(priority, event_type, payload, self._context if context is None else context)

    def info(self, event_type: str, payload: Any, *, context: Mapping[str, Any] | None = None) -> None:
        """Tell that something happened as it should."""
        self.notify("info", event_type, payload, context=context)

    def warn(self, event_type: str, payload: Any, *, context: Mapping[str, Any] | None = None) -> None:
        """Tell of something to look at."""
        self.notify("warn", event_type, payload, context=context)

    def error(self, event_type: str, payload: Any, *, context: Mapping[str, Any] | None = None) -> None:
        """Tell that something failed."""
        self.notify("error", event_type, payload, context=context)


class AioNotifier(_Sender):
    """Tells what happened. :meth:`Client.notifier` makes it."""

    def notify(
        self, priority: str, event_type: str, payload: Any, *, context: Mapping[str, Any] | None = None
    ) -> Coroutine[object, None, None]:
        """Send a notification; done when the broker has it for every topic. As the blocking one's ``notify``."""
        context = self._context if context is None else context
        sending: Coroutine[object, None, None] = self._native.notify(priority, event_type, payload, context)
        return sending

    def info(
        self, event_type: str, payload: Any, *, context: Mapping[str, Any] | None = None
    ) -> Coroutine[object, None, None]:
        """Tell that something happened as it should."""
        return self.notify("info", event_type, payload, context=context)

    def warn(
        self, event_type: str, payload: Any, *, context: Mapping[str, Any] | None = None
    ) -> Coroutine[object, None, None]:
        """Tell of something to look at."""
        return self.notify("warn", event_type, payload, context=context)

    def error(
        self, event_type: str, payload: Any, *, context: Mapping[str, Any] | None = None
    ) -> Coroutine[object, None, None]:
        """Tell that something failed."""
        return self.notify("error", event_type, payload, context=context)


def notifier(
    self: Client,
    publisher_id: str,
    *,
    topics: str | Iterable[str] = "notifications",
    exchange: str | None = None,
    envelope: bool = True,
    timeout: _Duration | None = None,
    context: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Notifier:
    """Prepare notifications under a publisher's name, in the wire format of oslo.messaging. Sends nothing yet.

    * ``topics``: each gets a copy. ``context``: a dict that goes with every notification.
    * ``envelope``: as oslo.messaging's driver ``messagingv2`` sends, or bare, as its driver ``messaging`` does.
    * ``timeout``: how long a notification waits for the broker, 30 seconds by default.
    * ``exchange``, ``options``: as for ``rpc``.

    >>> client.notifier("compute.host-1").info("instance.create.end", {"id": 7})
    """
    given = {"topics": topics, "exchange": exchange, "envelope": envelope, "timeout": timeout, "options": options}
    return Notifier(self, publisher_id, context, given)


def aio_notifier(
    self: AioClient,
    publisher_id: str,
    *,
    topics: str | Iterable[str] = "notifications",
    exchange: str | None = None,
    envelope: bool = True,
    timeout: _Duration | None = None,
    context: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> AioNotifier:
    """Prepare notifications under a publisher's name, in the wire format of oslo.messaging. Sends nothing yet.

    The options are those of the blocking client's ``notifier``.
    """
    given = {"topics": topics, "exchange": exchange, "envelope": envelope, "timeout": timeout, "options": options}
    return AioNotifier(self, publisher_id, context, given)


# ---- listening ------------------------------------------------------------------------------------------------------


class _Listener:
    def __init__(self, client: Any, topics: str | Iterable[str], options: dict[str, Any]) -> None:
        self._transport = client._rpc_transport(options.pop("options", None))
        self._topics = [topics] if isinstance(topics, str) else list(topics)
        self._options = options
        self._source: NotificationSource | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {', '.join(map(repr, self._topics))}>"

    def _listen(self) -> Any:
        if self._source is not None:
            raise RuntimeError("the listener listens already")
        return self._transport.listen(self._topics, **self._options)

    def _started(self) -> NotificationSource:
        if self._source is None:
            raise RuntimeError("the listener does not listen: use it in a with block, or call start()")
        return self._source


class NotificationListener(_Listener):
    """An iterator over notifications. :meth:`Client.notification_listener` makes it.

    A ``with`` block starts it and stops it.
    """

    def start(self) -> None:
        """Declare the queues, bind them, and listen."""
        self._source = self._listen()

    def stop(self) -> None:
        """Listen no more. What was not handed out goes back to its queue; what was can still be settled.

        Stopping again is harmless.
        """
        source, self._source = self._source, None
        if source is not None:
            source.stop()

    def get(self, timeout: _Duration | None = None) -> Notification | None:
        """Wait for the next notification; ``None`` when none came within ``timeout``.

        Raises ``ClosedError`` when the client was closed, or the listener stopped meanwhile.
        """
        notification: Notification | None = self._started().next(timeout)
        return notification

    def __iter__(self) -> Self:
        """Iterate until the listener is stopped or the client closed."""
        return self

    def __next__(self) -> Notification:
        """Wait for the next notification."""
        try:
            notification: Notification = self._started().next(None)
        except ClosedError:
            raise StopIteration from None
        return notification

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()


class AioNotificationListener(_Listener):
    """An asynchronous iterator over notifications. :meth:`Client.notification_listener` makes it.

    An ``async with`` block starts it and stops it.
    """

    async def start(self) -> None:
        """Declare the queues, bind them, and listen."""
        self._source = await self._listen()

    async def stop(self) -> None:
        """Listen no more. What was not handed out goes back to its queue; what was can still be settled.

        Stopping again is harmless.
        """
        source, self._source = self._source, None
        if source is not None:
            await source.stop()

    async def get(self, timeout: _Duration | None = None) -> Notification | None:
        """Wait for the next notification; ``None`` when none came within ``timeout``.

        Raises ``ClosedError`` when the client was closed, or the listener stopped meanwhile.
        """
        notification: Notification | None = await self._started().next(timeout)
        return notification

    def __aiter__(self) -> Self:
        """Iterate until the listener is stopped or the client closed."""
        return self

    async def __anext__(self) -> Notification:
        """Wait for the next notification."""
        try:
            notification: Notification = await self._started().next(None)
        except ClosedError:
            raise StopAsyncIteration from None
        return notification

    async def __aenter__(self) -> Self:
        """Start it."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop it."""
        await self.stop()


def notification_listener(
    self: Client,
    topics: str | Iterable[str] = "notifications",
    *,
    priorities: str | Iterable[str] | None = None,
    exchange: str | None = None,
    pool: str | None = None,
    prefetch: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> NotificationListener:
    """Prepare a listener to the notifications of topics. It does nothing before it is started.

    * ``priorities``: only these; all by default.
    * ``pool``: the name of a group of listeners that gets a copy of every notification and shares it out among its
      members. Its queue collects notifications while no member listens.
    * ``prefetch``: how many notifications of each queue are unsettled at a time, 100 by default.
    * ``exchange``, ``options``: as for ``rpc``.

    >>> with client.notification_listener(queue, priorities=["error", "critical"]) as notifications:
    ...     notifications.get(timeout=0.1) is None
    True
    """
    given = {"priorities": priorities, "exchange": exchange, "pool": pool, "prefetch": prefetch, "options": options}
    return NotificationListener(self, topics, given)


def aio_notification_listener(
    self: AioClient,
    topics: str | Iterable[str] = "notifications",
    *,
    priorities: str | Iterable[str] | None = None,
    exchange: str | None = None,
    pool: str | None = None,
    prefetch: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> AioNotificationListener:
    """Prepare a listener to the notifications of topics. It does nothing before it is started.

    The options are those of the blocking client's ``notification_listener``.
    """
    given = {"priorities": priorities, "exchange": exchange, "pool": pool, "prefetch": prefetch, "options": options}
    return AioNotificationListener(self, topics, given)
