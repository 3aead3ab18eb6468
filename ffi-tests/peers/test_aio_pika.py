"""aio-pika against the embedded broker."""

from __future__ import annotations

import asyncio
from typing import Callable

import aio_pika
import pytest
from aio_pika.exceptions import DeliveryError, QueueEmpty


def test_publish_consume_and_return(embedded: str, unique: Callable[[str], str]) -> None:
    async def scenario() -> None:
        connection = await aio_pika.connect(embedded)
        async with connection:
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            await channel.set_qos(prefetch_count=10)
            exchange = await channel.declare_exchange(unique("x"), aio_pika.ExchangeType.DIRECT, auto_delete=True)
            queue = await channel.declare_queue(unique("q"), durable=True, arguments={"x-message-ttl": 60_000})
            await queue.bind(exchange, "key")
            messages = [aio_pika.Message(str(number).encode(), headers={"n": number}) for number in range(200)]
            await asyncio.gather(*(exchange.publish(message, "key") for message in messages))
            seen = []
            async with queue.iterator() as deliveries:
                async for delivery in deliveries:
                    async with delivery.process():
                        assert delivery.headers["n"] == int(delivery.body)
                        seen.append(int(delivery.body))
                    if len(seen) == 200:
                        break
            assert sorted(seen) == list(range(200))
            with pytest.raises(DeliveryError):
                await exchange.publish(aio_pika.Message(b"x"), "another key", mandatory=True)
            with pytest.raises(QueueEmpty):
                await queue.get(timeout=5)
            await queue.unbind(exchange, "key")
            await queue.delete()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_requests_are_answered(embedded: str) -> None:
    from aio_pika.patterns import RPC

    async def scenario() -> None:
        connection = await aio_pika.connect(embedded)
        async with connection:
            channel = await connection.channel()
            rpc = await RPC.create(channel)

            async def double(*, number: int) -> int:
                return 2 * number

            await rpc.register("double", double, auto_delete=True)
            answers = await asyncio.gather(*(rpc.call("double", {"number": n}) for n in range(20)))
            assert answers == [2 * n for n in range(20)]

    asyncio.run(asyncio.wait_for(scenario(), 60))
