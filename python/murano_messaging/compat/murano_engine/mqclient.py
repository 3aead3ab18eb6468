"""The engine's client: durable queues, signed messages."""

from __future__ import annotations

from typing import Any, Callable, Optional, Union

from murano_messaging.compat import _json, _murano

from .subscription import Subscription


class MqClient(_murano.MqClient):
    """One connection to RabbitMQ. ``with`` connects and closes it.

    With ``ssl`` the broker's chain is verified against ``ca_certs``, a PEM file, or the system's authorities;
    ``insecure`` alone verifies nothing. Several hosts may be given as ``host``, in a list or with commas.

    While the broker takes no messages (an alarm of memory or disk), ``send`` waits; ``blocked_timeout`` is after how many
    seconds it gives up, with :class:`murano_messaging.BlockedError`.
    """

    _subscription = Subscription

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

    def _text(self, body: Any) -> str:
        return _json.dumps_primitive(body)

    def declare(
        self, queue: str, exchange: str = "", enable_ha: bool = False, ttl: int = 0, *, quorum: bool = False
    ) -> None:
        """Declare a durable queue, and with ``exchange`` a direct one it is bound to by its own name.

        A queue that nobody uses for ``ttl`` milliseconds is gone; 0 keeps it. ``quorum`` makes it a quorum queue,
        which is what ``enable_ha`` asked for.
        """
        self._declare(queue, exchange, enable_ha, ttl, quorum)

    def send(
        self,
        message: Any,
        key: str,
        exchange: str = "",
        signing_func: Optional[Callable[[str], Any]] = None,
    ) -> None:
        """Publish ``message`` and wait until the broker has confirmed it.

        ``signing_func`` gets the text of the body; what it returns is the header ``signature``.
        """
        self._send(message, key, exchange, signing_func=signing_func)
