"""The client of ``murano_messaging.compat.puka``, or eventlet's where this package was imported for it."""

from __future__ import annotations

import socket

from murano_messaging.compat.puka import client as _client

__all__ = ["Client"]

if socket.__name__.startswith("eventlet."):

    class Client(_client.Client):
        """A client whose waits yield to eventlet's green threads."""

        _socket = socket
        _green = True

else:
    Client = _client.Client  # type: ignore[misc]
