"""murano_messaging.aio on uvloop, as its documentation shows."""

from __future__ import annotations

import asyncio
from collections import deque

import uvloop
from meter import BODY, PREFETCH, WINDOW, Meter

from murano_messaging import aio


def publish(uri: str, queue: str, messages: int, persistent: bool) -> None:
    async def main() -> None:
        async with aio.connect(uri) as client:
            await client.publish(BODY, routing_key=queue, persistent=persistent)
            pending: deque[aio.Confirmation] = deque()
            meter = Meter()
            meter.start()
            for _ in range(messages):
                if len(pending) == WINDOW:
                    await pending.popleft()
                pending.append(await client.publish_nowait(BODY, routing_key=queue, persistent=persistent))
            await aio.wait_all(pending)
            meter.stop(messages)

    uvloop.run(main())


def publish_gather(uri: str, queue: str, messages: int, persistent: bool) -> None:
    async def main() -> None:
        async with aio.connect(uri) as client:
            await client.publish(BODY, routing_key=queue, persistent=persistent)
            at_once = asyncio.Semaphore(WINDOW)

            async def one() -> None:
                async with at_once:
                    await client.publish(BODY, routing_key=queue, persistent=persistent)

            meter = Meter()
            meter.start()
            await asyncio.gather(*(one() for _ in range(messages)))
            meter.stop(messages)

    uvloop.run(main())


def publish_wait(uri: str, queue: str, messages: int, persistent: bool) -> None:
    async def main() -> None:
        async with aio.connect(uri) as client:
            await client.publish(BODY, routing_key=queue, persistent=persistent)
            meter = Meter()
            meter.start()
            for _ in range(messages):
                await client.publish(BODY, routing_key=queue, persistent=persistent)
            meter.stop(messages)

    uvloop.run(main())


def consume(uri: str, queue: str, messages: int, persistent: bool) -> None:
    async def main() -> None:
        async with aio.connect(uri) as client:
            meter = Meter()
            meter.start()
            count = 0
            async for delivery in client.consume(queue, prefetch=PREFETCH):
                assert len(delivery.body) == len(BODY)
                delivery.ack()
                count += 1
                if count == messages:
                    break
            await client.close()
            meter.stop(messages)

    uvloop.run(main())
