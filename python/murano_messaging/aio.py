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

It runs on any event loop that can watch descriptors (asyncio's selector loops, uvloop), also on those of several threads at
once. Cancelling a task cancels its operation.
"""

from __future__ import annotations

from ._native import aio as _aio

Client = _aio.Client
Confirmation = _aio.Confirmation
Connecting = _aio.Connecting
Consumer = _aio.Consumer
Delivery = _aio.Delivery
Events = _aio.Events
Operation = _aio.Operation
connect = _aio.connect
wait_all = _aio.wait_all

__all__ = [
    "Client",
    "Confirmation",
    "Connecting",
    "Consumer",
    "Delivery",
    "Events",
    "Operation",
    "connect",
    "wait_all",
]
