"""What the three generations of Murano's messaging wrapper have in common; each variant says where it differs.

They were classes around Puka (2014) and around kombu (engine and agent). Here they are classes around the native
client: one connection each, with recovery on.
"""

from __future__ import annotations

import datetime
import json
import logging
import threading
import warnings
from typing import Any, Callable, Literal, Optional, Union
from urllib.parse import parse_qsl, unquote

import murano_messaging as mm
from murano_messaging import _green

from . import _json, _patience, _words
from ._warnings import InsecureTLSWarning

log = logging.getLogger("murano-common.messaging")

NOT_CONNECTED = "Not connected to RabbitMQ"
NOT_IN_WITH = "Subscription object must be used within 'with' block"

Host = _words.Host

# What ``ssl_version`` may be called, and whether TLS 1.2 or 1.3 can serve it.
_SSL_VERSIONS = {"tlsv1_2": True, "sslv23": True, "tlsv1": False, "tlsv1_1": False, "sslv2": False, "sslv3": False}

# What all clients here have in common: one connection each, and many of them live for one message.
_COMMON = {"separate_publish_connection": False, "short_lived": True}

# That of `murano_messaging.connect`.
_OPERATION_TIMEOUT = 30.0

# What an option is called in URLs, where that is something else.
_OF_URL = {"connection_timeout": "connect_timeout"}

# Murano imported its AMQP library through eventlet.patcher: its waits yielded in processes that patched nothing else.
_green.without_patching = True


class Message:
    """A message to send, or one that came."""

    def __init__(self, client: Any = None, message_handle: Optional[mm.Delivery] = None) -> None:
        self._client = client
        self._message_handle = message_handle
        if message_handle is None:
            self.id = None
            self.body = None
        else:
            self.id = self._read_id(message_handle)
            self.body = self._read_body(message_handle)

    @staticmethod
    def _read_id(handle: mm.Delivery) -> Optional[str]:
        """The id is in the header or in the property: the generations do not agree."""
        found = handle.headers.get("message_id") or handle.message_id
        return found if found is None or isinstance(found, str) else str(found)

    def _read_body(self, handle: mm.Delivery) -> Any:
        try:
            return json.loads(handle.body)
        except (ValueError, RecursionError):
            log.exception("message %r is not JSON", self.id)
            return None

    @property
    def body(self) -> Any:
        return self._body

    @body.setter
    def body(self, value: Any) -> None:
        self._body = value

    @property
    def id(self) -> Any:
        return self._id

    @id.setter
    def id(self, value: Any) -> None:
        self._id = value or ""

    def ack(self) -> None:
        """Tell the broker that the message is done with."""
        if self._message_handle is None:
            raise RuntimeError("a message that was not received cannot be acked")
        self._message_handle.ack()


class Subscription:
    """The messages of a queue; used within ``with``."""

    _message: type[Message] = Message

    def __init__(self, client: Any, queue: str, prefetch_count: int = 1) -> None:
        self._client = client
        self._queue = queue
        self._prefetch_count = prefetch_count
        self._consumer: Optional[mm.Consumer] = None

    def __enter__(self) -> Any:
        self._consumer = self._client.consume(str(self._queue), prefetch=self._prefetch_count)
        return self

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> Literal[False]:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            self._leave(consumer, exc_type)
        return False

    def _leave(self, consumer: mm.Consumer, _exc_type: Any) -> None:
        try:
            # As `cancel`, but that the client is closed is as good.
            consumer.__exit__(None, None, None)
        except mm.MessagingError as error:
            # Nothing is consumed any more; and what led out of the block must not be replaced by this.
            log.warning("the subscription to %r was not ended in order: %s", self._queue, error)

    def _outside_with(self, _timeout: Optional[float]) -> None:
        raise RuntimeError(NOT_IN_WITH)

    def get_message(self, timeout: Optional[float] = None) -> Any:
        """Return the next message; ``None`` when none came within ``timeout`` seconds.

        What ended the subscription, a queue that was deleted for instance, is raised by this call and all after it.
        """
        consumer = self._consumer
        if consumer is None:
            return self._outside_with(timeout)
        try:
            handle = consumer.get(timeout=None if timeout is None else max(timeout, 0))
        except mm.InvalidArgumentError:
            raise
        except mm.MessagingError as error:
            if self._consumer is not consumer:
                # The block was left under the waiting thread.
                if timeout is None:
                    raise RuntimeError(NOT_IN_WITH) from None
                return None
            if isinstance(error, mm.ClosedError):
                raise RuntimeError(NOT_CONNECTED) from None
            raise
        return None if handle is None else self._message(self._client, handle)


class KombuSubscription(Subscription):
    """A subscription of the two generations that were made with kombu."""

    def _outside_with(self, timeout: Optional[float]) -> None:
        if timeout is None:
            super()._outside_with(timeout)
        # Nothing is consumed: nothing comes.
        _patience.pause(max(timeout or 0, 0))


class MqClient:
    """One connection to RabbitMQ."""

    _subscription: type[Subscription] = Subscription
    _durable = True

    _options: dict[str, Any]
    _url: Optional[str]
    _client: Optional[mm.Client]
    # Seconds that a message waits for the end of an alarm; None for ever.
    _blocked_timeout: Optional[float]
    # Seconds after the first attempt to connect in which another may begin.
    _connect_within = float("inf")

    def _configure(
        self,
        login: str,
        password: str,
        host: Host,
        port: Union[int, str],
        virtual_host: str,
        tls: dict[str, Any],
        blocked_timeout: Optional[float],
    ) -> None:
        """Take a constructor's arguments. They used to become a URL: what was percent-encoded for that still works."""
        self._url = None
        self._client = None
        self._options = {
            "hosts": _words.hosts(host, _words.port_number(port)),
            "username": unquote(str(login)),
            "password": unquote(str(password)),
            "vhost": unquote(str(virtual_host)) or "/",
            **_COMMON,
            **tls,
            **self._more_options(),
        }
        self._blocked_timeout = blocked_timeout

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Any:
        """Make a client for ``amqp://user:password@host1:port,host2:port/vhost``; ``amqps://`` for TLS.

        ``options`` are those of :func:`murano_messaging.connect`. The broker's certificate is verified, with its name,
        unless the URL or the options say otherwise. ``blocked_timeout`` is that of the constructor; without it, a
        ``timeout`` among the options bounds what an alarm is waited for.
        """
        client = cls.__new__(cls)
        client._url = url
        client._client = None
        said = {_OF_URL.get(name, name) for name, _ in parse_qsl(url.partition("?")[2])}
        more = {name: value for name, value in client._more_options().items() if name not in said}
        blocked_timeout = options.pop("blocked_timeout", options.get("timeout"))
        client._blocked_timeout = None if blocked_timeout is None else _seconds(blocked_timeout)
        client._options = {**_COMMON, **more, **options}
        return client

    def _more_options(self) -> dict[str, Any]:
        return {}

    def _text(self, body: Any) -> str:
        return _json.dumps(body)

    def __enter__(self) -> Any:
        self.connect()
        return self

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> Literal[False]:
        self.close()
        return False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._client!r}>"

    def connect(self) -> None:
        """Connect, unless that is done. Where no broker answers, it is tried again for 2 seconds."""
        if self._client is None or self._client.closed:
            self._client = _patience.connect(self._make, self._connect_within)

    def _make(self) -> mm.Client:
        try:
            return mm.connect(self._url, **self._options)
        except mm.MessagingError as error:
            if self._url is not None:
                raise
            raise _words.in_words_of_murano(error, self._options.get("ca_file")) from None

    def close(self) -> None:
        """Close the connection, if there is one."""
        client, self._client = self._client, None
        if client is not None:
            try:
                client.close()
            except mm.MessagingError as error:
                # It is gone, which is what was asked for.
                log.warning("the connection was not closed in order: %s", error)

    def _connected(self) -> mm.Client:
        if self._client is None:
            raise RuntimeError(NOT_CONNECTED)
        return self._client

    def _declare(self, queue: str, exchange: Optional[str], enable_ha: bool, ttl: int, quorum: bool) -> None:
        client = self._connected()
        options: dict[str, Any] = {"durable": self._durable or quorum}
        if quorum:
            options["type"] = "quorum"
        elif enable_ha is True:
            # For RabbitMQ 2; later ones take no notice of it.
            options["arguments"] = {"x-ha-policy": "all"}
        if ttl > 0:
            options["expires"] = datetime.timedelta(milliseconds=ttl)
        client.declare_queue(str(queue), **options)
        if exchange:
            client.declare_exchange(str(exchange), "direct", durable=True)
            client.bind(str(queue), str(exchange), str(queue))

    def _send(
        self,
        message: Any,
        key: str,
        exchange: str,
        timeout: Optional[float] = None,
        signing_func: Optional[Callable[[str], Any]] = None,
    ) -> None:
        client = self._connected()
        text = self._text(message.body)
        message_id = str(message.id)
        headers = {"message_id": message_id}
        if signing_func:
            headers["signature"] = signing_func(text)
        try:
            _patience.publish(
                client,
                text,
                timeout,
                _seconds(self._options.get("timeout", _OPERATION_TIMEOUT)),
                self._blocked_timeout,
                exchange=str(exchange),
                routing_key=str(key),
                headers=headers,
                # A property has at most 255 bytes; the header, which Murano used first, has no such bound.
                message_id=message_id if len(message_id.encode()) <= 255 else None,
                # Kombu gives bodies that say so to its callers as text.
                content_type="text/plain",
                content_encoding="utf-8",
            )
        except mm.UnroutableError:
            log.warning(
                "message %r was dropped: there is no queue %r%s; it may have expired",
                message_id,
                str(key),
                f" at exchange {str(exchange)!r}" if exchange else "",
            )
        except (mm.OperationTimeoutError, mm.BlockedError) as error:
            if timeout is None:
                raise
            log.warning("message %r to %r was not confirmed within %s s: %s", message_id, str(key), timeout, error)

    def open(self, queue: str, prefetch_count: int = 1) -> Any:
        """Return a subscription to ``queue``, to be used with ``with``."""
        return self._subscription(self._connected(), queue, prefetch_count)


def _seconds(duration: Union[float, datetime.timedelta]) -> float:
    return duration.total_seconds() if isinstance(duration, datetime.timedelta) else float(duration)


def tls_of_2014(ssl: bool, ca_certs: Optional[str]) -> dict[str, Any]:
    """With ``ca_certs`` the chain is verified, without it nothing is; the name never."""
    if not ssl:
        return {}
    return _verified(ca_certs) if ca_certs else _unverified()


def tls_of_kombu(ssl: bool, ssl_version: Optional[str], ca_certs: Optional[str], insecure: bool) -> dict[str, Any]:
    """The chain is verified unless ``insecure`` is given alone; the name never.

    ``insecure`` with ``ca_certs`` made a certificate optional, which a server shows all the same.
    """
    if not ssl:
        return {}
    if ssl_version and not _SSL_VERSIONS.get(ssl_version.lower(), False):
        raise RuntimeError(f"Invalid SSL version: {ssl_version}")
    return _unverified() if insecure and not ca_certs else _verified(ca_certs)


def _verified(ca_certs: Optional[str]) -> dict[str, Any]:
    if not ca_certs:
        _warn(
            "the system's authorities are trusted for a broker of any name: whoever has a certificate of one can read "
            "and change everything; give ca_certs, or use from_url, which verifies the name"
        )
    # Brokers are often reached by address, with a certificate of a private authority or pinned.
    return {"tls": True, "ca_file": ca_certs, "verify_hostname": False, "pinned": bool(ca_certs) or None}


def _unverified() -> dict[str, Any]:
    _warn("the broker's certificate is not verified: whoever is on the way can read and change everything; give ca_certs")
    return {"tls": True, "insecure": True}


def _warn(text: str) -> None:
    # At the line that calls the constructor.
    warnings.warn(text, InsecureTLSWarning, stacklevel=5)


def drop(client: mm.Client) -> None:
    """Close in the background, so that nobody waits for a broker that may be gone."""

    def close() -> None:
        try:
            client.close()
        except mm.MessagingError:
            log.debug("a dropped connection was not closed in order", exc_info=True)

    threading.Thread(target=close, name="murano-messaging-drop", daemon=True).start()
