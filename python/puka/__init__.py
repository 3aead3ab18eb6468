"""Puka's interface on the engine of murano_messaging (``murano_messaging.compat.puka``).

Under ``eventlet.patcher.import_patched("puka")`` its waits yield to other green threads, as they do when eventlet has
monkey-patched.
"""

from __future__ import annotations

import select
from collections.abc import Sequence
from typing import Any, NoReturn

from murano_messaging.compat.puka import *  # noqa: F403
from murano_messaging.compat.puka import __all__ as _all
from murano_messaging.compat.puka import _loop

from . import connection, exceptions, spec_exceptions, urlparse  # noqa: F401
from .client import Client  # noqa: F401

__all__ = list(_all)


def loop(clients: Sequence[Any]) -> NoReturn:  # type: ignore[no-redef]
    """Run the callbacks of all clients, until one of them has lost its connection: raises its ``ConnectionBroken``."""
    # The module of this package, which eventlet may have replaced.
    _loop.loop(clients, select=select)
