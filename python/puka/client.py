"""The client of ``murano_messaging.compat.puka``, or eventlet's where this package was imported for it."""

from __future__ import annotations

import socket

from murano_messaging.compat.puka import client as _client

__all__ = ["Client"]

Client = _client.Client

if socket.__name__.startswith("eventlet."):

    class Client(_client.Client):  # type: ignore[no-redef]
        """A client whose waits yield to eventlet's green threads."""

        _socket = socket
        _green = True
