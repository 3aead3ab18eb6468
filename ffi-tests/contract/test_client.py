"""The client itself: connecting, events, statistics, closing, several tasks at once."""

from __future__ import annotations

import pytest

import murano_messaging as mm
from proxy import Proxy


async def test_connect_can_be_awaited_or_entered(face, broker):
    client = await face.connect(broker)
    assert not client.closed
    await client.close()
    assert client.closed
    async with face.connect(broker) as client:
        assert not client.closed
    assert client.closed


async def test_a_client_is_closed_when_its_block_fails(face, broker):
    with pytest.raises(ZeroDivisionError):
        async with face.connect(broker) as client:
            raise ZeroDivisionError
    assert client.closed


async def test_what_led_out_of_a_block_is_not_replaced_by_how_it_ends(face, uri, queue):
    proxy = Proxy(uri)
    with pytest.raises(ZeroDivisionError):
        async with face.connect(proxy.uri, timeout=2) as client:
            await client.declare_queue(queue, expires=60)
            async with client.consume(queue):
                proxy.stall()
                raise ZeroDivisionError
    assert client.closed
    proxy.resume()
    # Where nothing led out of it, that is said.
    with pytest.raises(mm.OperationTimeoutError):
        async with face.connect(proxy.uri, timeout=2):
            proxy.stall()
    proxy.close()


async def test_events_end_when_the_client_is_closed(face, broker):
    client = await face.connect(broker)
    events = client.events()
    assert await events.get(timeout=0.05) is None
    await client.close()
    seen = [event async for event in events]
    assert seen == [mm.events.Closed(role="main", reason=None)]


async def test_the_publishing_connection_is_told(face, broker, queue):
    async with face.connect(broker) as client:
        events = client.events()
        await client.declare_queue(queue, expires=60)
        await client.publish(b"x", routing_key=queue)
        first = await events.get(timeout=10)
        second = await events.get(timeout=10)
        assert type(first) is mm.events.Connecting and type(second) is mm.events.Connected
        assert first.role == second.role == "publish"
        assert first.host == second.host


async def test_one_client_serves_many(face, broker, queue):
    """Publishers and consumers at once; everything arrives exactly once."""
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        received = []
        publishers, each = 8, 50

        async def publish(start):
            for n in range(start, start + each):
                await client.publish(str(n), routing_key=queue)

        async def consume():
            async with client.consume(queue, prefetch=5) as deliveries:
                while len(received) < publishers * each:
                    delivery = await deliveries.get(timeout=0.2)
                    if delivery is not None:
                        received.append(int(delivery.body))
                        await delivery.ack()

        work = [lambda start=index * each: publish(start) for index in range(publishers)]
        await face.together(*work, *[consume] * 8)
        assert sorted(received) == list(range(publishers * each))


async def test_an_operation_of_another_client_is_no_concern(face, broker, queue):
    async with face.connect(broker) as one, face.connect(broker) as other:
        await one.declare_queue(queue, expires=60)
        await one.close()
        assert await other.queue_info(queue) == (queue, 0, 0)


async def test_a_representation_tells_no_secret(face, broker):
    async with face.connect(broker) as client:
        assert "guest:" not in repr(getattr(client, "target", client))
