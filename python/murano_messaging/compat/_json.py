"""Bodies as JSON: what each generation made of values that JSON has no form for."""

from __future__ import annotations

import datetime
import decimal
import inspect
import io
import ipaddress
import itertools
import json
import sys
import uuid
from types import CodeType, FrameType, GeneratorType, ModuleType, TracebackType
from typing import Any

_PLAIN = (str, int, float, type(None))
_AS_TEXT = (uuid.UUID, decimal.Decimal, ipaddress.IPv4Address, ipaddress.IPv6Address, itertools.count)
_ADVICE = "has no form in JSON: send text, numbers, lists and dicts"


def dumps(value: Any) -> str:
    """JSON of what JSON has a form for, as 2014's generation and the agent had it.

    Text was ``bytes`` in Python 2. All else is a ``TypeError``.
    """
    return json.dumps(value, default=_text)


def dumps_primitive(value: Any) -> str:
    """JSON as ``oslo.serialization`` makes it, with which the engine sent dates, sets, mappings and more.

    A ``ValueError`` is what has no form there either.
    """
    return json.dumps(value, default=_primitive)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    raise TypeError(f"{type(value).__name__} {_ADVICE}")


def _primitive(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, datetime.datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%f")
    if isinstance(value, datetime.date):
        return value.strftime("%Y-%m-%d")
    if isinstance(value, Exception):
        return repr(value)
    if isinstance(value, (*_AS_TEXT, *_netaddr())) or _is_code(value):
        return str(value)
    # Before what can be iterated over: a mapping's items are not its keys.
    if hasattr(value, "items"):
        return {_primitive(key): _primitive(item) for key, item in dict(value.items()).items()}
    if hasattr(value, "__iter__") and not isinstance(value, io.IOBase):
        return [_primitive(item) for item in value]
    raise ValueError(f"{type(value).__name__} {_ADVICE}")


def _is_code(value: Any) -> bool:
    """Whether it is part of a program: written as text, although some of it can be iterated over."""
    kinds = (ModuleType, type, GeneratorType, TracebackType, FrameType, CodeType)
    return isinstance(value, kinds) or inspect.isroutine(value)


def _netaddr() -> tuple[type, ...]:
    """The types of netaddr that are written as text, where a program uses it."""
    netaddr = sys.modules.get("netaddr")
    return () if netaddr is None else (netaddr.IPAddress, netaddr.IPNetwork, netaddr.IPRange)
