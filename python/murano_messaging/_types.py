"""Plain values that clients take and give."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, Optional, Union


class QueueInfo(NamedTuple):
    """What a declare tells about a queue."""

    name: str
    """The queue's name; of a server-named queue, the one the broker gave."""
    message_count: int
    """Messages that wait to be delivered; those delivered and not yet acked are not counted."""
    consumer_count: int
    """Consumers that can get messages."""


class QueueDepth(NamedTuple):
    """What a queue of an embedded broker holds at a moment."""

    ready: int
    """Messages that wait to be delivered."""
    unacked: int
    """Messages that were delivered and are not settled."""
    consumers: int
    """Consumers."""


class Returned(NamedTuple):
    """A mandatory message that the broker could not route."""

    reply_code: int
    """Why: 312 ``NO_ROUTE``."""
    reply_text: str
    """The broker's text."""
    exchange: str
    """The exchange it was published to; the default exchange is the empty name."""
    routing_key: str
    """The routing key it was published with."""
    body: bytes
    """The message body."""
    properties: dict[str, Any]
    """The properties that are there, under the names that ``publish`` takes them by."""


class ServerInfo(NamedTuple):
    """What a broker says of itself."""

    version: tuple[int, int]
    """The protocol's version: ``(0, 9)``."""
    properties: dict[str, Any]
    """Product, version, capabilities and the like."""
    mechanisms: tuple[str, ...]
    """The SASL mechanisms it offers."""
    locales: tuple[str, ...]
    """The locales it offers."""


class Stats(NamedTuple):
    """What a client did since it was made, over all reconnects."""

    published: int
    """Publishes that were taken into the window."""
    confirmed: int
    """Publishes that the broker confirmed."""
    returned: int
    """Mandatory messages that came back."""
    nacked: int
    """Publishes that the broker refused."""
    republished: int
    """Publishes that were sent again after a lost connection or channel."""
    in_flight: int
    """Publishes in the window now."""
    in_flight_bytes: int
    """Their body bytes."""
    bytes_published: int
    """Body bytes published."""
    delivered: int
    """Deliveries received."""
    bytes_delivered: int
    """Body bytes received."""
    acked: int
    """Deliveries that were acked, nacked, rejected or requeued."""
    undelivered_bytes: int
    """Body bytes that were received and not handed out yet."""
    reconnects: int
    """Connections that were lost and made again."""
    recorded: int
    """Queues, exchanges and bindings on record for recovery."""
    main_connected: bool
    """Whether the main connection (topology and consuming) is open now."""
    publish_connected: Optional[bool]
    """Whether the publishing connection is open now; ``None`` before the first publish, and where there is one only."""


@dataclass(frozen=True)
class Recovery:
    """What happens after a connection was lost. Durations are in seconds, or ``timedelta``."""

    enabled: bool = True
    """Whether to reconnect at all."""
    retry_initial: bool = False
    """Whether the first connect is retried too, instead of failing at once."""
    max_attempts: Optional[int] = None
    """Give up after so many attempts in a row; ``None`` for never."""
    max_elapsed: Optional[Union[float, timedelta]] = None
    """Give up after so long without a connection; ``None`` for never."""
    initial_delay: Union[float, timedelta] = 0.05
    """The delay before the second attempt (the first is made at once); it doubles, with jitter."""
    max_delay: Union[float, timedelta] = 5.0
    """The longest delay."""
    refused_for: Union[float, timedelta] = 600.0
    """For how long a refused login or virtual host is retried: a node that is starting refuses too."""
    republish: bool = True
    """Whether publishes that were not confirmed are sent again; otherwise they fail, outcome unknown."""
