"""The asyncio client: the names, arguments, defaults and errors of :mod:`murano_messaging`, with ``await``.

>>> import asyncio
>>> from murano_messaging import aio
>>> async def main():
...     async with aio.connect(URI) as client:
...         await client.declare_queue(QUEUE, expires=60)
...         await client.publish({"answer": 42}, routing_key=QUEUE)    # confirmed
...         async for delivery in client.consume(QUEUE, prefetch=10):
...             delivery.ack()
...             return delivery.json()
>>> asyncio.run(main())
{'answer': 42}

It runs on any event loop (asyncio's, uvloop), also on those of several threads at once. Cancelling a task cancels its
operation.
"""

from __future__ import annotations

from ._native import AioClient as Client
from ._native import AioConfirmation as Confirmation
from ._native import AioConnecting as Connecting
from ._native import AioConsumer as Consumer
from ._native import AioDelivery as Delivery
from ._native import AioEvents as Events
from ._native import Operation
from ._native import aio_connect as connect
from ._native import aio_wait_all as wait_all
from ._notifications import AioNotificationListener as NotificationListener
from ._notifications import AioNotifier as Notifier
from ._rpc import AioRpcClient as RpcClient
from ._rpc import AioRpcServer as RpcServer

__all__ = [
    "Client",
    "Confirmation",
    "Connecting",
    "Consumer",
    "Delivery",
    "Events",
    "NotificationListener",
    "Notifier",
    "Operation",
    "RpcClient",
    "RpcServer",
    "connect",
    "wait_all",
]
