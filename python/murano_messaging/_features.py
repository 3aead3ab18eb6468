"""Methods of the native classes that are written in Python."""

from __future__ import annotations

from typing import Any

from . import _notifications, _processing, _rpc, _running
from ._native import AioClient, Client, Delivery

_METHODS: list[tuple[Any, str, Any]] = [
    (Client, "run", _running.run),
    (AioClient, "run", _running.aio_run),
    (Delivery, "process", _processing.process),
    (Client, "rpc", _rpc.rpc),
    (AioClient, "rpc", _rpc.aio_rpc),
    (Client, "rpc_server", _rpc.rpc_server),
    (AioClient, "rpc_server", _rpc.aio_rpc_server),
    (Client, "notifier", _notifications.notifier),
    (AioClient, "notifier", _notifications.aio_notifier),
    (Client, "notification_listener", _notifications.notification_listener),
    (AioClient, "notification_listener", _notifications.aio_notification_listener),
]

for _class, _name, _method in _METHODS:
    _method.__name__ = _name
    _method.__qualname__ = f"{_class.__name__}.{_name}"
    setattr(_class, _name, _method)
