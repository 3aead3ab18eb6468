"""A RabbitMQ client whose engine owns confirms, acks and recovery.

>>> import murano_messaging as mm
>>> with mm.connect(URI) as client:
...     _ = client.declare_queue(QUEUE, expires=60)
...     client.publish({"answer": 42}, routing_key=QUEUE)    # confirmed on return
...     with client.consume(QUEUE, prefetch=10) as deliveries:
...         delivery = deliveries.get(timeout=10)
...         delivery.ack()
...         delivery.json()
{'answer': 42}

The calls of this module return when they are done; :mod:`murano_messaging.aio` has the same for asyncio. Under eventlet
and gevent, once they have monkey-patched, waiting calls let other green threads run.

Durations are in seconds (``int`` or ``float``) or :class:`datetime.timedelta`.

What happens to connections is logged by the loggers ``murano_messaging.*``. Records that no level wants are not even
made; that a level was changed is noticed at the next connect, or within a second.
"""

from __future__ import annotations

import atexit as _atexit

# Its hook at the end of the interpreter must be older than ours, which still logs.
import logging as _logging  # noqa: F401
import os as _os

try:
    from . import _native
except ImportError as _error:
    # Python's own words, or those of the module.
    if "subinterpreter" not in str(_error):
        raise
    raise ImportError(
        "murano_messaging does not support subinterpreters: import it in the main interpreter (mod_wsgi runs those "
        "programs there that have `WSGIApplicationGroup %{GLOBAL}`)"
    ) from _error
from . import _features, _overwritten, errors, events  # noqa: F401 (it gives classes their methods)
from ._native import (
    Broker,
    Client,
    Confirmation,
    Consumer,
    Delivery,
    Events,
    Notification,
    __version__,
    connect,
    wait_all,
)
from ._notifications import NotificationListener, Notifier
from ._rpc import Endpoint, RpcClient, RpcServer
from ._types import QueueDepth, QueueInfo, Recovery, Returned, ServerInfo, Stats
from .errors import (
    AccessRefusedError,
    AlreadySettledError,
    AuthenticationError,
    BlockedError,
    ClosedError,
    ConnectFailedError,
    ConnectionForcedError,
    ConnectionLostError,
    ConsumerCancelledError,
    ForkedError,
    InvalidArgumentError,
    JsonError,
    LimitReachedError,
    MessagingError,
    NackedError,
    NotFoundError,
    OperationTimeoutError,
    PreconditionFailedError,
    ProtocolError,
    PublishCancelledError,
    RefusedError,
    RemoteError,
    ResourceLockedError,
    TlsError,
    UnroutableError,
    VhostRefusedError,
)

__all__ = [
    "AccessRefusedError",
    "AlreadySettledError",
    "AuthenticationError",
    "BlockedError",
    "Broker",
    "Client",
    "ClosedError",
    "Confirmation",
    "ConnectFailedError",
    "ConnectionForcedError",
    "ConnectionLostError",
    "Consumer",
    "ConsumerCancelledError",
    "Delivery",
    "Endpoint",
    "Events",
    "ForkedError",
    "InvalidArgumentError",
    "JsonError",
    "LimitReachedError",
    "MessagingError",
    "NackedError",
    "NotFoundError",
    "Notification",
    "NotificationListener",
    "Notifier",
    "OperationTimeoutError",
    "PreconditionFailedError",
    "ProtocolError",
    "PublishCancelledError",
    "QueueDepth",
    "QueueInfo",
    "Recovery",
    "RefusedError",
    "RemoteError",
    "ResourceLockedError",
    "Returned",
    "RpcClient",
    "RpcServer",
    "ServerInfo",
    "Stats",
    "TlsError",
    "UnroutableError",
    "VhostRefusedError",
    "__version__",
    "connect",
    "errors",
    "events",
    "wait_all",
]

if hasattr(_os, "register_at_fork"):
    _os.register_at_fork(after_in_child=_native._after_fork_in_child)

# Not at the first connect: an `atexit` function of the application that stops its threads must be called before.
_atexit.register(_native._at_exit)

_overwritten.check()
