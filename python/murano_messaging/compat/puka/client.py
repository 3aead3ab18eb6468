"""The client: promises and callbacks, on the engine of murano_messaging."""

from __future__ import annotations

import contextlib
import os
import socket
import warnings
from typing import Any, Callable

from ..._native import PukaClient
from .._warnings import InsecureTLSWarning
from .connection import SslConnectionParameters, parse_amqp_url


class SendBuffer:
    """What was published and waits for ``on_write``, ``wait`` or ``loop`` to send it. Only its length can be read."""

    __slots__ = ("_client",)

    def __init__(self, client: Client) -> None:
        """Look at what ``client`` has to send, now and later."""
        self._client = client

    def __len__(self) -> int:
        """Return about how many bytes wait; 0 if and only if ``needs_write()`` is false."""
        return self._client._unsent()

    def __repr__(self) -> str:
        """Return what Puka's looks like."""
        return f"<SimpleBuffer of {len(self)} bytes>"


class Client(PukaClient):
    """A connection to RabbitMQ.

    What takes time returns the number of a promise, for :meth:`wait` and its like; with ``callback`` given,
    ``callback(number, result)`` is called by them.

    ``pubacks`` changes nothing: publishes are always confirmed. ``body_type`` says what bodies are handed out as:
    ``bytes``, ``str``, or by default ``str`` where they are UTF-8 and ``bytes`` where they are not.
    """

    frame_max = 131072
    _socket: Any = socket
    """The module ``socket``; eventlet's where this was imported for it."""
    _green = False

    def __init__(
        self,
        amqp_url: str = "amqp:///",
        pubacks: bool | None = None,
        client_properties: dict[str, Any] | None = None,
        heartbeat: float = 0,
        ssl_parameters: SslConnectionParameters | None = None,
        *,
        body_type: type[bytes] | type[str] | None = None,
    ) -> None:
        """Take what to connect to; :meth:`connect` does it."""
        self.pubacks = pubacks
        parts = parse_amqp_url(amqp_url)
        self.username, self.password, self.vhost, self.host, self.port, self.ssl = parts
        self.client_properties = client_properties
        self.heartbeat = heartbeat
        _seconds(heartbeat)
        self._ssl_parameters = ssl_parameters
        self._own_socket: Any = None
        self._configure(body_type, self._green)

    def connect(self, *, callback: Callable[[int, Any], object] | None = None) -> int:
        """Start to connect. The name of the host is looked up at once; raises ``socket.gaierror``."""
        given = {
            "hosts": self._addresses(),
            "username": self.username,
            "password": self.password,
            "vhost": self.vhost,
            "heartbeat": _seconds(self.heartbeat),
            "client_properties": self.client_properties,
            "tls": self._tls() if self.ssl else None,
            "callback": callback,
        }
        return self._connect(given)

    def _addresses(self) -> list[tuple[str, int]]:
        found: list[Any] = []
        if socket.has_ipv6:
            with contextlib.suppress(socket.gaierror):
                found += self._lookup(socket.AF_INET6)
        try:
            found += self._lookup(socket.AF_INET)
        except socket.gaierror:
            if not found:
                raise
        return list(dict.fromkeys((address[0], address[1]) for *_, address in found))

    def _lookup(self, family: int) -> list[Any]:
        found: list[Any] = self._socket.getaddrinfo(self.host, self.port, family, socket.SOCK_STREAM)
        return found

    def _tls(self) -> dict[str, Any]:
        parameters = self._ssl_parameters or SslConnectionParameters()
        if not parameters.ca_certs:
            message = (
                f"the certificate of {self.host} is not verified: whoever is on the way can read and change "
                "everything. Give SslConnectionParameters().ca_certs, a file with the CA that issued it"
            )
            warnings.warn(message, InsecureTLSWarning, stacklevel=3)
        if parameters.keyfile and not parameters.certfile:
            raise ValueError("keyfile is the key of a certificate: set certfile too")
        given = {name: getattr(parameters, name) for name in ("certfile", "keyfile", "ca_certs")}
        files = {name: os.fsdecode(path) if path else None for name, path in given.items()}
        for path in filter(None, files.values()):
            # The engine reads it later; that it cannot be read is told to whoever has given it.
            with open(path, "rb"):
                pass
        return {
            **files,
            "server_name": self.host,
            "check_hostname": getattr(parameters, "check_hostname", False),
        }

    @property
    def send_buf(self) -> SendBuffer:
        """What waits to be sent, as far as programs look at it: how much that is."""
        return SendBuffer(self)

    @property
    def x_server_props(self) -> dict[str, Any]:
        """What the broker said of itself."""
        properties = self._server_properties
        if properties is None:
            raise AttributeError("x_server_props: there is no connection")
        known: dict[str, Any] = properties
        return known

    @property
    def x_server_version(self) -> Any:
        """The version of the broker, as a list of numbers."""
        try:
            return [int(part) for part in self.x_server_props["version"].split(".")]
        except (KeyError, ValueError):
            return (Ellipsis,)

    @property
    def x_pubacks(self) -> Any:
        """Whether publishes are confirmed, as it was asked for."""
        capabilities = self.x_server_props.get("capabilities", {})
        return capabilities.get("publisher_confirms", False) if self.pubacks is None else self.pubacks

    def socket(self) -> Any:
        """Return a socket that stands for this client in ``select``, and is not the connection's: see :meth:`fileno`."""
        if self._own_socket is None:
            self._own_socket = self._socket.socket(fileno=os.dup(self.fileno()))
        return self._own_socket


def _seconds(heartbeat: float | None) -> int:
    """Return the heartbeat as AMQP has it; 0 is none."""
    if heartbeat is None:
        return 0
    if not isinstance(heartbeat, (int, float)):
        raise TypeError(f"heartbeat is a number of seconds, not {type(heartbeat).__name__}")
    if not 0 <= heartbeat < 2**16 or heartbeat != int(heartbeat):
        raise ValueError(f"heartbeat is {heartbeat}: give whole seconds, 1 to 65535, or 0 for none")
    return int(heartbeat)
