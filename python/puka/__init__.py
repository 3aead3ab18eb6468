"""Puka's interface on the engine of murano_messaging (``murano_messaging.compat.puka``).

Under ``eventlet.patcher.import_patched("puka")`` its waits yield to other green threads, as they do when eventlet has
monkey-patched.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence
from typing import Any, NoReturn

from murano_messaging.compat.puka import *  # noqa: F403
from murano_messaging.compat.puka import __all__ as _all
from murano_messaging.compat.puka import _loop
from murano_messaging.compat.puka import client as _client

from . import connection, exceptions, spec_exceptions, urlparse  # noqa: F401

__all__ = list(_all)

if socket.__name__.startswith("eventlet."):

    class Client(_client.Client):  # type: ignore[no-redef]
        """A client whose waits yield to eventlet's green threads."""

        _socket = socket
        _green = True

    def loop(clients: Sequence[Any]) -> NoReturn:  # type: ignore[misc]
        """Run the callbacks of all clients for ever."""
        _loop.loop(clients, select=select)
