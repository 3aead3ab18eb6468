"""The client itself: connecting, events, statistics, closing, several tasks at once."""

from __future__ import annotations

import time

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
    # None is a timeout and nothing else.
    for _ in range(2):
        with pytest.raises(mm.ClosedError):
            await events.get(timeout=10)


async def test_connected_says_whether_there_is_a_connection_now(face, uri, queue):
    proxy = Proxy(uri)
    async with face.connect(proxy.uri, recovery=mm.Recovery(initial_delay=0.01, max_delay=0.05)) as client:
        stats = client.stats()
        assert client.connected
        assert (stats.main_connected, stats.publish_connected) == (True, None)
        await client.declare_queue(queue, expires=60)
        await client.publish(b"x", routing_key=queue)
        assert client.stats().publish_connected is True
        events = client.events()
        proxy.refuse()
        proxy.cut()
        lost = set()
        while lost != {"main", "publish"}:
            event = await events.get(timeout=30)
            if isinstance(event, mm.events.Lost):
                lost.add(event.role)
        stats = client.stats()
        assert not client.connected and not client.closed
        assert (stats.main_connected, stats.publish_connected) == (False, False)
        proxy.welcome()
        recovered = set()
        while recovered != {"main", "publish"}:
            event = await events.get(timeout=30)
            if isinstance(event, mm.events.Recovered):
                recovered.add(event.role)
        assert client.connected and client.stats().publish_connected
    assert not client.connected and client.closed
    proxy.close()


async def test_every_operation_has_a_timeout_of_its_own(face, uri, queue):
    proxy = Proxy(uri)
    async with face.connect(uri) as owner, face.connect(proxy.uri, timeout=60) as client:
        await owner.declare_queue(queue, expires=60)
        consumer = await client.consume(queue)
        proxy.stall()
        operations = {
            "publish": lambda: client.publish(b"x", routing_key=queue, timeout=0.05),
            "get": lambda: client.get(queue, timeout=0.05),
            "consume": lambda: face_consume(face, client, queue),
            "declare_queue": lambda: client.declare_queue(queue, expires=60, timeout=0.05),
            "queue_info": lambda: client.queue_info(queue, timeout=0.05),
            "delete_queue": lambda: client.delete_queue(queue + "-2", timeout=0.05),
            "purge_queue": lambda: client.purge_queue(queue, timeout=0.05),
            "declare_exchange": lambda: client.declare_exchange("amq.direct", timeout=0.05),
            "check_exchange": lambda: client.check_exchange("amq.direct", timeout=0.05),
            "delete_exchange": lambda: client.delete_exchange(queue, timeout=0.05),
            "bind": lambda: client.bind(queue, "amq.direct", timeout=0.05),
            "unbind": lambda: client.unbind(queue, "amq.direct", timeout=0.05),
            "bind_exchange": lambda: client.bind_exchange("amq.direct", "amq.topic", timeout=0.05),
            "unbind_exchange": lambda: client.unbind_exchange("amq.direct", "amq.topic", timeout=0.05),
            "update_secret": lambda: client.update_secret("guest", timeout=0.05),
            "set_prefetch": lambda: consumer.set_prefetch(5, timeout=0.05),
            "recover": lambda: consumer.recover(timeout=0.05),
            "cancel": lambda: consumer.cancel(timeout=0.05),
            "close": lambda: client.close(timeout=0.05),
        }
        for name, operation in operations.items():
            with pytest.raises(mm.OperationTimeoutError) as caught:
                await operation()
            # The publishing connection was still to be made: that message certainly was not sent.
            assert caught.value.outcome_unknown == (name != "publish"), name
        assert client.closed
    proxy.close()


async def face_consume(face, client, queue):
    async with client.consume(queue, timeout=0.05):
        pass


async def test_events_can_be_called_back(face, broker, queue):
    client = await face.connect(broker)
    heard = []
    client.on_event(heard.append)
    events = client.events()
    await client.declare_queue(queue, expires=60)
    await client.close()
    expected = [event async for event in events]
    until = time.monotonic() + 30
    while heard != expected:
        assert time.monotonic() < until, heard
        await face.pause()
    assert isinstance(heard[-1], mm.events.Closed)


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
