"""The agent's client: queues that are not durable, a heartbeat, no waiting for a broker after an error."""

from __future__ import annotations

import random
from typing import Any, Literal, Optional, Union

import murano_messaging as mm
from murano_messaging.compat import _murano

from .subscription import Subscription


class MqClient(_murano.MqClient):
    """One connection to RabbitMQ. ``with`` connects and closes it; after an error it drops it.

    With ``ssl`` the broker's chain is verified against ``ca_certs``, a PEM file, or the system's authorities;
    ``insecure`` alone verifies nothing. Several hosts may be given as ``host``, in a list or with commas.

    While the broker takes no messages (an alarm of memory or disk), ``send`` waits; ``blocked_timeout`` is after how many
    seconds it gives up, with :class:`murano_messaging.BlockedError`.
    """

    _durable = False
    # The connection whose end was told.
    _told: Optional[mm.Client] = None

    def __init__(
        self,
        login: str,
        password: str,
        host: _murano.Host,
        port: Union[int, str],
        virtual_host: str,
        ssl: bool = False,
        ssl_version: Optional[str] = None,
        ca_certs: Optional[str] = None,
        insecure: bool = False,
        *,
        blocked_timeout: Optional[float] = None,
    ) -> None:
        tls = _murano.tls_of_kombu(ssl, ssl_version, ca_certs, insecure)
        self._configure(login, password, host, port, virtual_host, tls, blocked_timeout)

    def _more_options(self) -> dict[str, Any]:
        # Many agents must not send theirs at the same moment.
        return {"heartbeat": random.randint(20, 40)}

    def _check_exception(self) -> None:
        """Raise what ended the connection in the background, once."""
        client = self._client
        if client is not None and client.closed and client is not self._told:
            self._told = client
            # Any operation fails with it.
            client.check_exchange("amq.direct")

    def _connected(self) -> mm.Client:
        self._check_exception()
        client = super()._connected()
        if client.closed:
            raise RuntimeError(_murano.NOT_CONNECTED)
        return client

    def open(self, queue: str, prefetch_count: int = 1) -> Subscription:
        """Return a subscription to ``queue``, to be used with ``with``."""
        return Subscription(self._connected(), queue, prefetch_count, self._check_exception)

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> Literal[False]:
        if exc_type is None:
            self.close()
        elif self._client is not None:
            client, self._client = self._client, None
            _murano.drop(client)
        return False

    def declare(
        self, queue: str, exchange: str = "", enable_ha: bool = False, ttl: int = 0, *, quorum: bool = False
    ) -> None:
        """Declare a queue that is not durable, and with ``exchange`` a durable direct one, bound by the queue's name.

        A queue that nobody uses for ``ttl`` milliseconds is gone; 0 keeps it. ``quorum`` makes it a quorum queue,
        which is what ``enable_ha`` asked for, and durable.
        """
        self._declare(queue, exchange, enable_ha, ttl, quorum)

    def send(self, message: Any, key: str, exchange: str = "") -> None:
        """Publish ``message`` and wait until the broker has confirmed it."""
        self._send(message, key, exchange)
