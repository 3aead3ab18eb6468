"""aio-pika on uvloop, with confirms; windowed publishing with a task for each message in flight, as its users do."""

from __future__ import annotations

import asyncio
import warnings

import aio_pika
import uvloop
from meter import BODY, PREFETCH, WINDOW, Meter

warnings.simplefilter("ignore")


def message(persistent: bool) -> aio_pika.Message:
    mode = aio_pika.DeliveryMode.PERSISTENT if persistent else aio_pika.DeliveryMode.NOT_PERSISTENT
    return aio_pika.Message(BODY, delivery_mode=mode)


def publish(uri: str, queue: str, messages: int, persistent: bool) -> None:
    async def main() -> None:
        async with await aio_pika.connect(uri) as connection:
            channel = await connection.channel(publisher_confirms=True)
            exchange = channel.default_exchange
            await exchange.publish(message(persistent), queue)
            meter = Meter()
            meter.start()
            for _ in range(messages // WINDOW):
                await asyncio.gather(*(exchange.publish(message(persistent), queue) for _ in range(WINDOW)))
            meter.stop(messages)

    uvloop.run(main())


def publish_gather(uri: str, queue: str, messages: int, persistent: bool) -> None:
    async def main() -> None:
        async with await aio_pika.connect(uri) as connection:
            channel = await connection.channel(publisher_confirms=True)
            exchange = channel.default_exchange
            await exchange.publish(message(persistent), queue)
            at_once = asyncio.Semaphore(WINDOW)

            async def one() -> None:
                async with at_once:
                    await exchange.publish(message(persistent), queue)

            meter = Meter()
            meter.start()
            await asyncio.gather(*(one() for _ in range(messages)))
            meter.stop(messages)

    uvloop.run(main())


def publish_wait(uri: str, queue: str, messages: int, persistent: bool) -> None:
    async def main() -> None:
        async with await aio_pika.connect(uri) as connection:
            channel = await connection.channel(publisher_confirms=True)
            exchange = channel.default_exchange
            await exchange.publish(message(persistent), queue)
            meter = Meter()
            meter.start()
            for _ in range(messages):
                await exchange.publish(message(persistent), queue)
            meter.stop(messages)

    uvloop.run(main())


def consume(uri: str, queue: str, messages: int, persistent: bool) -> None:
    async def main() -> None:
        async with await aio_pika.connect(uri) as connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=PREFETCH)
            source = await channel.get_queue(queue, ensure=False)
            done = asyncio.Event()
            count = 0

            async def delivered(incoming: aio_pika.abc.AbstractIncomingMessage) -> None:
                nonlocal count
                assert len(incoming.body) == len(BODY)
                await incoming.ack()
                count += 1
                if count == messages:
                    done.set()

            meter = Meter()
            meter.start()
            await source.consume(delivered)
            await done.wait()
            meter.stop(messages)

    uvloop.run(main())
