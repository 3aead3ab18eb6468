"""The connections of this process, one client for each URL with its options, shared by all transports and threads."""

from __future__ import annotations

import logging
import os
import random
import sys
import threading
import time
import uuid
from typing import Any, Optional

import oslo_messaging

import murano_messaging as mm

from .patience import FOREVER, Patience

LOG = logging.getLogger(__name__)

#: The pause between two attempts at a broker that cannot be reached, in seconds.
PAUSE = 1.0

#: How often the same reason is logged, in seconds.
LOG_EVERY = 60.0

#: How long a close waits for what is still unconfirmed, in seconds.
CLOSE = 5.0

Key = tuple[tuple[str, Any], ...]


class Connection:
    """A client that is opened at its first use, and what is known of the broker."""

    def __init__(self, options: Key) -> None:
        """Connect nothing yet."""
        self._options = dict(options)
        self._client: Optional[mm.Client] = None
        self._opening = threading.Lock()
        self._closed = False
        self.users = 0
        #: Exchanges that are there, as far as is known.
        self.exchanges: set[str] = set()
        #: Queues of notifications that were declared.
        self.queues: set[tuple[str, str]] = set()
        #: What exists otherwise and was warned of.
        self.warned: set[str] = set()
        #: The broker refuses queues that are neither durable nor exclusive (RabbitMQ 4.3): they are declared durable.
        self.refuses_transient = False

    def client(self, patience: Patience) -> mm.Client:
        """Return the client; the first caller connects it, and others wait for that."""
        client = self._client
        if client is not None and not client.closed:
            return client
        if self._closed:
            raise oslo_messaging.MessageDeliveryFailure("the transport was cleaned up")
        while not self._opening.acquire(timeout=min(patience.left_away(), threading.TIMEOUT_MAX)):
            if patience.left_away() <= 0:
                raise patience.ended()
        try:
            if self._client is None or self._client.closed:
                self._client = self._open(patience)
            return self._client
        finally:
            self._opening.release()

    def is_up(self) -> bool:
        """Whether the connection is open now."""
        client = self._client
        return client is not None and client.connected

    def _open(self, patience: Patience) -> mm.Client:
        options = dict(self._options)
        uri, limit = _shuffled(options.pop("uri")), options.pop("connect_timeout")
        # A broker that is being set up refuses logins for a while.
        recovery = mm.Recovery(refused_for=FOREVER, max_delay=options.pop("max_delay"))
        name = f"{os.path.basename(sys.argv[0])}:{os.getpid()}:{uuid.uuid4()}"
        logged: tuple[str, float] = ("", 0.0)
        cause: mm.MessagingError | None = None
        while True:
            left = patience.left_away()
            try:
                client = mm.connect(
                    uri,
                    connect_timeout=max(min(limit, left), 0.01),
                    connection_name=name,
                    recovery=recovery,
                    **options,
                )
            except mm.InvalidArgumentError:
                raise
            except mm.MessagingError as error:
                # An attempt that had no time says nothing of the broker, unlike the one before.
                if cause is None or left >= limit:
                    cause = error
                if self._closed or patience.left_away() <= 0:
                    raise patience.ended(cause) from cause
                now = time.monotonic()
                if logged[0] != str(error) or now - logged[1] > LOG_EVERY:
                    LOG.error("The broker cannot be reached, trying again: %s", error)
                    logged = (str(error), now)
                time.sleep(min(PAUSE * (0.5 + random.random() / 2), patience.left_away()))
                continue
            # It is a new broker, for all that is known.
            self.exchanges.clear()
            self.queues.clear()
            return client

    def close(self) -> None:
        """Close the client."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            try:
                client.close(timeout=CLOSE if client.connected else PAUSE)
            except mm.MessagingError as error:
                LOG.warning("The connection was not closed in order: %s", error)


def _shuffled(uri: str) -> str:
    """Change the order of the hosts, so that the processes of a service spread."""
    scheme, hosts = uri.split("://")
    each = hosts.split(",")
    random.shuffle(each)
    return f"{scheme}://{','.join(each)}"


class _Registry:
    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.open: dict[Key, Connection] = {}


_registry = _Registry()


def _renew() -> None:
    global _registry
    _registry = _Registry()


# A forked child has connections of its own: those of its parent are not its to use or to close.
os.register_at_fork(after_in_child=_renew)


def _of_this_process() -> _Registry:
    # Servers that fork in C do not tell Python.
    if _registry.pid != os.getpid():
        _renew()
    return _registry


def acquire(options: Key) -> Connection:
    """Return the connection with these options, to be released."""
    registry = _of_this_process()
    with registry.lock:
        connection = registry.open.get(options)
        if connection is None:
            connection = registry.open[options] = Connection(options)
        connection.users += 1
        return connection


def release(options: Key, connection: Connection) -> None:
    """Let go of a connection; the last user closes it."""
    registry = _of_this_process()
    with registry.lock:
        connection.users -= 1
        if connection.users > 0:
            return
        if registry.open.get(options) is connection:
            del registry.open[options]
    connection.close()
