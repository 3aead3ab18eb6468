"""Delayed redelivery."""

from __future__ import annotations

import pytest

import murano_messaging as mm


async def test_a_message_is_retried_until_the_limit_and_then_rejected(face, broker, queue, unique):
    dead = unique("dead")
    async with face.connect(broker) as client:
        await client.declare_queue(dead, expires=60)
        await client.declare_queue(queue, expires=60, dead_letter_exchange="", dead_letter_routing_key=dead)
        await client.publish(b"x", routing_key=queue, message_id="7")
        async with client.consume(queue) as deliveries:
            for count in (None, 1, 2):
                delivery = await deliveries.get(timeout=30)
                assert (delivery.headers.get("x-retries"), delivery.message_id) == (count, "7")
                assert await delivery.retry(delay=0.05, limit=2) == (count != 2)
            with pytest.raises(mm.AlreadySettledError):
                await delivery.ack()
        async with client.consume(dead) as deliveries:
            assert (await deliveries.get(timeout=30)).body == b"x"
        await client.delete_queue(f"{queue}.retry.50")


async def test_a_retry_of_a_get_names_its_queue(face, broker, queue):
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        await client.publish(b"x", routing_key=queue)
        delivery = await client.get(queue)
        with pytest.raises(mm.InvalidArgumentError, match="queue"):
            await delivery.retry(1)
        for wrong in ({"delay": "1"}, {"delay": 1, "limit": "2"}, {"delay": 1, "queue": 3}):
            with pytest.raises(TypeError):
                await delivery.retry(**wrong)
        assert await delivery.retry(0.05, queue=queue) is True
        async with client.consume(queue) as deliveries:
            await (await deliveries.get(timeout=30)).ack()
        await client.delete_queue(f"{queue}.retry.50")
