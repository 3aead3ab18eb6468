"""The exchanges and queues that peers with the driver rabbit declare, and therefore expect.

A declaration that differs in one property is refused by the broker (406). What exists otherwise is used as it is.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from oslo_messaging._drivers import amqpdriver

from .options import QueueOptions, Settings, is_random


@dataclass(frozen=True)
class Exchange:
    """An exchange."""

    name: str
    type: str
    durable: bool
    auto_delete: bool


@dataclass(frozen=True)
class Queue:
    """A queue; ``options`` are further arguments of ``declare_queue``."""

    name: str
    durable: bool
    auto_delete: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    stream: bool = False


@dataclass(frozen=True)
class Destination:
    """A queue with the exchange and the routing key that lead to it."""

    exchange: Exchange
    queue: Queue
    routing_key: str


class Topology:
    """What a configuration declares, and how."""

    def __init__(self, settings: Settings) -> None:
        """Declare nothing yet."""
        self._settings = settings
        self._manager = amqpdriver.QManager(*settings.queue_manager) if settings.queue_manager else None

    @property
    def has_stable_names(self) -> bool:
        """Whether the next process of this service has the same queue names."""
        return self._manager is not None

    # ---- what there is -------------------------------------------------------------------------------------------

    def control_exchange(self, name: str) -> Exchange:
        """Return the exchange that queues of topics are bound to."""
        return Exchange(name, "topic", self._settings.durable, self._settings.auto_delete)

    def topic(
        self, exchange: str, topic: str, server: Optional[str] = None, wanted: Optional[QueueOptions] = None
    ) -> Destination:
        """Return the queue of a topic, or of one of its servers."""
        name = f"{topic}.{server}" if server else topic
        expires = self._settings.topic_ttl
        if server and is_random(server):
            expires = expires or self._settings.random_server_ttl
        queue = self._topic_queue(name, expires)
        if isinstance(wanted, QueueOptions):
            given = {"expires": wanted.expires, "message_ttl": wanted.message_ttl, "max_length": wanted.max_length}
            options = {key: value for key, value in given.items() if value is not None}
            queue = replace(queue, options={**queue.options, **options})
        return Destination(self.control_exchange(exchange), queue, name)

    def notifications(self, exchange: str, topic: str, pool: Optional[str] = None) -> Destination:
        """Return the queue of a topic with its priority, or that of a pool of listeners."""
        queue = self._topic_queue(pool, self._settings.pool_ttl) if pool else self._topic_queue(topic, 0)
        return Destination(self.control_exchange(exchange), queue, topic)

    def _topic_queue(self, name: str, expires: float) -> Queue:
        options = self._quorum() if self._settings.quorum else self._mirrored()
        if expires:
            options["expires"] = expires
        return Queue(name, self._settings.durable, self._settings.auto_delete, options)

    def fanout_exchange(self, topic: str) -> Exchange:
        """Return the exchange that copies a cast to every server of a topic."""
        return Exchange(f"{topic}_fanout", "fanout", self._settings.transient_quorum, auto_delete=True)

    def fanout(self, topic: str) -> Destination:
        """Return the queue of one server for fanout casts; a stream is shared by all servers of the topic."""
        exchange = self.fanout_exchange(topic)
        if not self._settings.stream_fanout:
            return Destination(exchange, self._transient(f"{topic}_fanout_{self._unique()}"), topic)
        options: dict[str, Any] = {"type": "stream"}
        if self._settings.transient_ttl:
            options["arguments"] = {"x-max-age": f"{self._settings.transient_ttl}s"}
        return Destination(exchange, Queue(f"{topic}_fanout", True, options=options, stream=True), topic)

    def replies(self) -> Queue:
        """Return a queue for the replies to calls."""
        return self._transient(f"reply_{self._unique()}")

    def _unique(self) -> str:
        return str(self._manager.get()) if self._manager else uuid.uuid4().hex

    def _transient(self, name: str) -> Queue:
        durable = self._settings.transient_quorum
        options = self._quorum() if durable else self._mirrored()
        if self._settings.transient_ttl:
            options["expires"] = self._settings.transient_ttl
        return Queue(name, durable, options=options)

    def _quorum(self) -> dict[str, Any]:
        options: dict[str, Any] = {"type": "quorum"}
        if self._settings.quorum_arguments:
            options["arguments"] = dict(self._settings.quorum_arguments)
        return options

    def _mirrored(self) -> dict[str, Any]:
        return {"arguments": {"x-ha-policy": "all"}} if self._settings.ha_queues else {}
