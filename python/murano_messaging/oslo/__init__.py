"""The driver ``murano`` of oslo.messaging: RPC and notifications that are not lost.

A service uses it by the scheme of its ``transport_url`` (``murano://user:password@host:5672/``) and changes nothing else:
``[oslo_messaging_rabbit]`` keeps its meaning, peers with the driver ``rabbit`` are understood. It needs the extra
``murano-messaging[oslo]``, and Python 3.11 as oslo.messaging does. ``docs/oslo.md`` has what an operator wants to know.

:class:`QueueOptions` is for programs that choose how long the queues of their targets live.
"""

from __future__ import annotations

from .options import QueueOptions

__all__ = ["QueueOptions"]
