"""Methods of the native classes that are written in Python."""

from __future__ import annotations

from typing import Any

from . import _processing, _running
from ._native import AioClient, Client, Delivery

_METHODS: list[tuple[Any, str, Any]] = [
    (Client, "run", _running.run),
    (AioClient, "run", _running.aio_run),
    (Delivery, "process", _processing.process),
]

for _class, _name, _method in _METHODS:
    _method.__name__ = _name
    _method.__qualname__ = f"{_class.__name__}.{_name}"
    setattr(_class, _name, _method)
