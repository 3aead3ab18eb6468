"""No client: what uvloop itself takes for a program of the same shape, in which each message is a bare future or less."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Generator

import uvloop
from meter import WINDOW, Meter


class Ready:
    """What is awaited and need not be waited for."""

    def __await__(self) -> Generator[None, None, None]:
        """Return at once."""
        return
        yield


def resolved(loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    """A future that the next turn of the loop resolves."""
    future: asyncio.Future[None] = loop.create_future()
    loop.call_soon(future.set_result, None)
    return future


def publish(_uri: str, _queue: str, messages: int, _persistent: bool) -> None:
    async def main() -> None:
        pending: deque[Ready] = deque()
        meter = Meter()
        meter.start()
        for _ in range(messages):
            if len(pending) == WINDOW:
                await pending.popleft()
            await Ready()
            pending.append(Ready())
        meter.stop(messages)

    uvloop.run(main())


def publish_gather(_uri: str, _queue: str, messages: int, _persistent: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        at_once = asyncio.Semaphore(WINDOW)

        async def one() -> None:
            async with at_once:
                await resolved(loop)

        meter = Meter()
        meter.start()
        await asyncio.gather(*(one() for _ in range(messages)))
        meter.stop(messages)

    uvloop.run(main())


def publish_wait(_uri: str, _queue: str, messages: int, _persistent: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        meter = Meter()
        meter.start()
        for _ in range(messages):
            await resolved(loop)
        meter.stop(messages)

    uvloop.run(main())


def consume(_uri: str, _queue: str, messages: int, _persistent: bool) -> None:
    async def deliveries() -> AsyncIterator[int]:
        for number in range(messages):
            yield number

    async def main() -> None:
        meter = Meter()
        meter.start()
        async for _ in deliveries():
            pass
        meter.stop(messages)

    uvloop.run(main())
