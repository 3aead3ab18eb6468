"""Lost connections, seen from Python: events, what is published again, what goes on."""

from __future__ import annotations

import asyncio
import queue as queue_module
import threading
import time

import pytest

import murano_messaging as mm
from murano_messaging import aio
from proxy import Proxy


@pytest.fixture
def proxy(uri):
    proxy = Proxy(uri)
    yield proxy
    proxy.close()


def wait_for(events, kind):
    while True:
        event = events.get(timeout=30)
        assert event is not None, f"no {kind.__name__}"
        if isinstance(event, kind):
            return event


def test_nothing_confirmed_is_lost_and_a_consumer_goes_on(proxy, uri, queue):
    with mm.connect(proxy.uri) as client, mm.connect(uri) as direct:
        client.declare_queue(queue)
        events = client.events()
        received: list[int] = []
        consumed = threading.Event()

        def consume():
            for delivery in client.consume(queue, prefetch=50):
                received.append(int(delivery.body))
                delivery.ack()
                if len(set(received)) == 3000:
                    consumed.set()
                    return

        consumer = threading.Thread(target=consume)
        consumer.start()
        pending = []
        for n in range(3000):
            pending.append(client.publish_nowait(str(n), routing_key=queue))
            if n in (700, 1500, 2300):
                proxy.cut()
        mm.wait_all(pending, timeout=60)
        assert consumed.wait(60)
        consumer.join(10)
        assert set(received) == set(range(3000))
        assert direct.queue_info(queue).message_count <= client.stats().republished
        assert wait_for(events, mm.events.Lost).role in ("main", "publish")
        recovered = wait_for(events, mm.events.Recovered)
        assert recovered.failed == ()
        assert client.stats().reconnects >= 3
        direct.delete_queue(queue)


def test_acks_for_a_lost_connection_do_nothing(proxy, queue):
    with mm.connect(proxy.uri) as client:
        client.declare_queue(queue)
        client.publish(b"x", routing_key=queue)
        with client.consume(queue) as consumer:
            first = consumer.get(timeout=30)
            proxy.cut()
            again = consumer.get(timeout=30)
            assert again.body == b"x" and again.redelivered
            assert first.stale and not again.stale
            first.ack()
            again.ack()
        client.delete_queue(queue)


def test_a_server_named_queue_gets_a_new_name(proxy):
    with mm.connect(proxy.uri) as client:
        name = client.declare_queue(exclusive=True, durable=False).name
        events = client.events()
        with client.consume(name) as consumer:
            proxy.cut()
            renamed = wait_for(events, mm.events.QueueRenamed)
            assert renamed.old == name
            wait_for(events, mm.events.Recovered)
            assert consumer.queue == renamed.new
            client.publish(b"x", routing_key=renamed.new)
            assert consumer.get(timeout=30).body == b"x"


def test_without_recovery_a_lost_connection_ends_the_client(proxy, queue):
    client = mm.connect(proxy.uri, recovery=False)
    client.declare_queue(queue, expires=60)
    client.publish(b"x", routing_key=queue)
    consumer = client.consume(queue)
    events = client.events()
    consumer.get(timeout=30)
    proxy.stall()
    before = proxy.received
    pending = client.publish_nowait(b"y" * 1000, routing_key=queue)
    until = time.monotonic() + 30
    while proxy.received < before + 1000:
        assert time.monotonic() < until, "the publish is not on its way"
    proxy.cut()
    with pytest.raises(mm.ConnectionLostError) as caught:
        pending.result(timeout=30)
    assert caught.value.outcome_unknown
    with pytest.raises(mm.ConnectionLostError):
        consumer.get(timeout=30)
    closed = wait_for(events, mm.events.Closed)
    assert isinstance(closed.reason, mm.ConnectionLostError) or closed.role == "publish"
    proxy.resume()


def test_a_resuming_consumer_survives_the_deletion_of_its_queue(uri, queue):
    with mm.connect(uri) as client, mm.connect(uri) as other:
        client.declare_queue(queue, expires=60)
        events = client.events()
        with client.consume(queue, resume=True) as consumer:
            other.delete_queue(queue)
            cancelled = wait_for(events, mm.events.ConsumerCancelled)
            assert (cancelled.queue, cancelled.resumes) == (queue, True)
            other.declare_queue(queue, expires=60)
            other.publish(b"again", routing_key=queue)
            assert consumer.get(timeout=30).body == b"again"
            assert wait_for(events, mm.events.ConsumerResumed).queue == queue


def test_events_in_asyncio(proxy, queue):
    async def main():
        async with aio.connect(proxy.uri) as client:
            await client.declare_queue(queue, expires=60)
            seen = []

            async def listen():
                async for event in client.events():
                    seen.append(type(event).__name__)
                    if isinstance(event, mm.events.Recovered):
                        return

            listening = asyncio.create_task(listen())
            await asyncio.sleep(0)
            proxy.cut()
            await asyncio.wait_for(listening, 30)
            assert seen[0] == "Lost" and seen[-1] == "Recovered"

    asyncio.run(main())


def test_the_events_of_a_closed_client_are_its_end(uri):
    client = mm.connect(uri)
    client.close()
    assert list(client.events()) == [mm.events.Closed("main", None)]
    events = client.events()
    assert events.get() == mm.events.Closed("main", None)
    for _ in range(2):
        with pytest.raises(mm.ClosedError):
            events.get()
    heard: queue_module.Queue[mm.events.Event] = queue_module.Queue()
    client.on_event(heard.put)
    assert heard.get(timeout=30) == mm.events.Closed("main", None)

    async def main():
        client = await aio.connect(uri)
        await client.close()
        return [event async for event in client.events()]

    assert asyncio.run(asyncio.wait_for(main(), 30)) == [mm.events.Closed("main", None)]


def test_a_callback_for_events(proxy, queue):
    seen = []
    recovered = threading.Event()

    def callback(event):
        seen.append(event)
        if isinstance(event, mm.events.Lost):
            raise ZeroDivisionError("a callback's errors are logged")
        if isinstance(event, mm.events.Recovered):
            recovered.set()

    with mm.connect(proxy.uri) as client:
        client.on_event(callback)
        client.declare_queue(queue, exclusive=True)
        proxy.cut()
        assert recovered.wait(30)
    assert isinstance(seen[0], mm.events.Lost)
