"""The interface of Puka 0.0.8, and of the Murano fork of it, on the engine of murano_messaging.

``import puka`` gives the same after ``pip install murano-messaging``. What differs from Puka is listed in
``docs/puka.md``.
"""

from __future__ import annotations

from ._loop import loop
from .client import Client
from .connection import InsecureTLSWarning, SslConnectionParameters
from .exceptions import ConnectionBroken
from .spec_exceptions import *  # noqa: F403
from .spec_exceptions import __all__ as _exceptions

__all__ = ["Client", "ConnectionBroken", "InsecureTLSWarning", "SslConnectionParameters", "loop", *_exceptions]
