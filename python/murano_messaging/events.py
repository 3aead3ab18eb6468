"""What happens to a client's connections: the classes that ``client.events()`` yields.

``role`` is ``"main"`` (topology and consuming) or ``"publish"``: a client has up to two connections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from .errors import MessagingError

__all__ = [
    "Blocked",
    "Closed",
    "Connected",
    "Connecting",
    "ConsumerCancelled",
    "ConsumerResumed",
    "DeliveryBufferFull",
    "Event",
    "HeadersDefect",
    "Lost",
    "OversizeRejected",
    "QueueRenamed",
    "Recovered",
    "Recovering",
    "Unblocked",
]


@dataclass(frozen=True)
class Event:
    """The base of all events."""


@dataclass(frozen=True)
class Connecting(Event):
    """A connection is being made."""

    role: str
    host: str


@dataclass(frozen=True)
class Connected(Event):
    """A connection is open."""

    role: str
    host: str


@dataclass(frozen=True)
class Blocked(Event):
    """The broker blocks publishers: a memory or disk alarm."""

    role: str
    reason: str


@dataclass(frozen=True)
class Unblocked(Event):
    """The broker takes publishes again."""

    role: str


@dataclass(frozen=True)
class Lost(Event):
    """A connection was lost."""

    role: str
    reason: MessagingError


@dataclass(frozen=True)
class Recovering(Event):
    """The next attempt to reconnect, after ``delay`` seconds."""

    role: str
    attempt: int
    delay: float
    last_error: Optional[MessagingError]


@dataclass(frozen=True)
class Recovered(Event):
    """A connection is back with its topology and consumers."""

    role: str
    exchanges: int
    queues: int
    bindings: int
    consumers: int
    republished: int
    """Unconfirmed publishes that are being sent again."""
    failed: tuple[tuple[str, MessagingError], ...]
    """What could not be restored and was skipped, and why."""


@dataclass(frozen=True)
class QueueRenamed(Event):
    """A server-named queue was declared again and has another name."""

    old: str
    new: str


@dataclass(frozen=True)
class ConsumerCancelled(Event):
    """A consumer was cancelled by the broker."""

    consumer_tag: str
    queue: str
    resumes: bool
    """Whether it goes on when its queue is there again."""


@dataclass(frozen=True)
class ConsumerResumed(Event):
    """A consumer goes on after it had been cancelled."""

    consumer_tag: str
    queue: str


@dataclass(frozen=True)
class DeliveryBufferFull(Event):
    """The delivery buffer is full, because a consumer is not being read; told once a minute at most."""

    consumer_tag: str
    queue: str
    undelivered: int


@dataclass(frozen=True)
class OversizeRejected(Event):
    """A message with a body over the bound was rejected without requeue."""

    queue: str
    size: int
    limit: int


@dataclass(frozen=True)
class HeadersDefect(Event):
    """A message with unreadable properties or headers was delivered."""

    queue: str
    reason: str


@dataclass(frozen=True)
class Closed(Event):
    """The client is closed; ``reason`` is ``None`` when its owner closed it."""

    role: str
    reason: Optional[MessagingError]
