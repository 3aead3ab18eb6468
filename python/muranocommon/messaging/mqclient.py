"""The client of 2014: durable queues, ``send`` with a timeout, no error when no broker answers."""

from __future__ import annotations

import datetime
import time
from typing import Any, Optional, Union
from urllib.parse import parse_qsl

import murano_messaging as mm
from murano_messaging.compat import _murano

from .subscription import Subscription

_CONNECT_TIMEOUT = 10.0


class MqClient(_murano.MqClient):
    """One connection to RabbitMQ. ``with`` connects and closes it.

    With ``ssl`` the broker's chain is verified if ``ca_certs``, a PEM file, is given. Several hosts may be given as
    ``host``, in a list or with commas; those without a port of their own have ``port``.

    While the broker takes no messages (an alarm of memory or disk), ``send`` waits, unless it has a ``timeout``;
    ``blocked_timeout`` is after how many seconds it gives up, with :class:`murano_messaging.BlockedError`.
    """

    _subscription = Subscription
    _connect_within = _CONNECT_TIMEOUT
    # When the last attempt to connect began.
    _began = 0.0

    def __init__(
        self,
        login: str,
        password: str,
        host: _murano.Host,
        port: Union[int, str],
        virtual_host: str,
        ssl: bool = False,
        ca_certs: Optional[str] = None,
        *,
        blocked_timeout: Optional[float] = None,
    ) -> None:
        tls = _murano.tls_of_2014(ssl, ca_certs)
        self._configure(login, password, host, port, virtual_host, tls, blocked_timeout)

    def _more_options(self) -> dict[str, Any]:
        return {"connect_timeout": _CONNECT_TIMEOUT}

    def connect(self) -> None:
        """Connect. If no broker answers within 10 seconds, the client simply stays unconnected."""
        try:
            super().connect()
        except mm.ConnectFailedError as error:
            if time.monotonic() - self._began < self._connect_seconds() * 0.99:
                raise
            _murano.log.warning("not connected: %s", error)

    def _make(self) -> mm.Client:
        self._began = time.monotonic()
        return super()._make()

    def _connect_seconds(self) -> float:
        given = self._options.get("connect_timeout")
        if given is None:
            query = dict(parse_qsl((self._url or "").partition("?")[2]))
            return int(query.get("connection_timeout", _CONNECT_TIMEOUT * 1000)) / 1000
        return given.total_seconds() if isinstance(given, datetime.timedelta) else float(given)

    def declare(
        self,
        queue: str,
        exchange: Optional[str] = None,
        enable_ha: bool = False,
        ttl: int = 0,
        *,
        quorum: bool = False,
    ) -> None:
        """Declare a durable queue, and with ``exchange`` a direct one it is bound to by its own name.

        A queue that nobody uses for ``ttl`` milliseconds is gone; 0 keeps it. ``quorum`` makes it a quorum queue,
        which is what ``enable_ha`` asked for.
        """
        self._declare(queue, exchange, enable_ha, ttl, quorum)

    def send(self, message: Any, key: str, exchange: str = "", timeout: Optional[float] = None) -> None:
        """Publish ``message`` and wait until the broker has confirmed it, at most ``timeout`` seconds."""
        # What is left of a time may be less than nothing; the message is sent all the same, as it was.
        self._send(message, key, exchange, timeout=None if timeout is None else max(timeout, 0))
