"""Publishing: confirmed on return, pipelined, unroutable, nacked, to a missing exchange, refused locally."""

from __future__ import annotations

import datetime
import time

import pytest

import murano_messaging as mm
from proxy import Proxy


async def test_a_publish_is_confirmed_when_it_returns(face, broker, queue):
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        assert await client.publish(b"one", routing_key=queue) is None
        assert (await client.queue_info(queue)).message_count == 1
        stats = client.stats()
        assert (stats.published, stats.confirmed, stats.in_flight) == (1, 1, 0)


async def test_ten_thousand_in_flight_arrive_in_order(face, broker, queue):
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        pending = [await client.publish_nowait(str(n).encode(), routing_key=queue) for n in range(10_000)]
        await face.wait_all(pending, timeout=60)
        assert all(confirmation.done() for confirmation in pending)
        assert [await confirmation.exception() for confirmation in pending[:100]] == [None] * 100
        received = []
        async with client.consume(queue, prefetch=500) as deliveries:
            while len(received) < 10_000:
                for delivery in await deliveries.get_many(1000, timeout=30):
                    received.append(int(delivery.body))
                    await delivery.ack()
        assert received == list(range(10_000))


async def test_a_confirmation_can_be_awaited_more_than_once(face, broker, queue):
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        confirmation = await client.publish_nowait(b"x", routing_key=queue)
        await confirmation.result()
        await confirmation.result(timeout=1)
        await confirmation
        assert confirmation.done()


async def test_a_confirmation_is_like_a_future(face, broker, queue, unique):
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        good = await client.publish_nowait(b"x", routing_key=queue)
        assert await good.result(timeout=30) is None
        assert good.done() is True
        assert await good.exception() is None
        assert good.cancel() is False
        bad = await client.publish_nowait(b"x", routing_key=unique("nowhere"))
        error = await bad.exception(timeout=30)
        assert isinstance(error, mm.UnroutableError)
        with pytest.raises(mm.UnroutableError):
            await bad.result()


async def test_a_wait_for_a_confirmation_that_runs_out_leaves_the_outcome_unknown(face, uri, queue):
    proxy = Proxy(uri)
    async with face.connect(proxy.uri) as client:
        await client.declare_queue(queue, expires=60)
        await client.publish(b"x", routing_key=queue)
        proxy.stall()
        confirmation = await client.publish_nowait(b"x", routing_key=queue)
        for wait in (confirmation.result, confirmation.exception, lambda timeout: face.wait_all([confirmation], timeout)):
            with pytest.raises(mm.OperationTimeoutError) as caught:
                await wait(timeout=0.01)
            assert caught.value.outcome_unknown
        assert confirmation.done() is False
        proxy.resume()
        await confirmation.result(timeout=30)
    proxy.close()


async def test_a_failure_whose_confirmation_was_dropped_is_warned_of(face, broker, queue, unique, caplog):
    nowhere, missing, full = unique("nowhere"), unique("missing"), unique("full")

    def said(name):
        return [
            record.getMessage()
            for record in caplog.records
            if record.levelname == "WARNING" and name in record.getMessage() and "dropped" in record.getMessage()
        ]

    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        await client.declare_queue(full, expires=60, max_length=1, overflow="reject-publish")
        await client.publish(b"1", routing_key=full)
        await client.publish_nowait(b"x", routing_key=queue)
        for _ in range(3):
            await client.publish_nowait(b"x", routing_key=nowhere)
        for _ in range(3):
            await client.publish_nowait(b"x", routing_key=full)
        await client.publish_nowait(b"x", exchange=missing)
        # Looked at: nothing to say.
        heard = await client.publish_nowait(b"x", routing_key=unique("heard"))
        assert isinstance(await heard.exception(timeout=30), mm.UnroutableError)
        del heard
        with pytest.raises((mm.UnroutableError, mm.NackedError, mm.NotFoundError)):
            await client.close(raise_failed=True)
        # Once.
        await client.close(raise_failed=True)
    until = time.monotonic() + 30
    while not (len(said(nowhere)) == 3 and len(said(missing)) == 1 and said(full)):
        assert time.monotonic() < until, caplog.text
        await face.pause()
    assert not said(queue) and not said("heard")


async def test_a_drain_without_failures_raises_none(face, broker, queue):
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        for _ in range(500):
            await client.publish_nowait(b"x", routing_key=queue)
        await client.drain(timeout=30, raise_failed=True)


async def test_old_names_of_confirmations_are_deprecated(face, broker, queue):
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        confirmation = await client.publish_nowait(b"x", routing_key=queue)
        confirmation = getattr(confirmation, "target", confirmation)
        with pytest.warns(DeprecationWarning, match="result"):
            waited = confirmation.wait(timeout=30)
        if waited is not None:
            await waited
        with pytest.warns(DeprecationWarning, match="done"):
            assert confirmation.done
        with pytest.warns(DeprecationWarning, match="exception"):
            assert confirmation.error() is None


async def test_one_confirmation_can_be_waited_for_by_many(face, broker, queue):
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        for _ in range(20):
            confirmation = await client.publish_nowait(b"x", routing_key=queue)

            async def wait(confirmation=confirmation):
                await confirmation.result(timeout=30)
                return confirmation.done()

            assert all(await face.together(*[wait] * 8))


async def test_cancelling_wakes_who_waits(face, broker, queue):
    async with face.connect(broker, window_messages=1) as client:
        await client.declare_queue(queue, expires=60)
        confirmation = await client.publish_nowait(b"x", routing_key=queue)

        async def wait():
            try:
                await confirmation.result(timeout=30)
            except mm.PublishCancelledError:
                pass

        async def cancel():
            confirmation.cancel()

        await face.together(wait, wait, cancel)
        assert confirmation.done()


async def test_an_unroutable_message_comes_back_with_its_own_publish(face, broker, queue):
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        pending = []
        for n in range(100):
            to = queue if n != 42 else queue + "-nowhere"
            pending.append(await client.publish_nowait(str(n), routing_key=to))
        with pytest.raises(mm.UnroutableError) as caught:
            await face.wait_all(pending, timeout=30)
        error = caught.value
        assert error.reply_code == 312
        assert error.returned.body == b"42"
        assert error.returned.routing_key == queue + "-nowhere"
        assert error.returned.properties["content_type"] == "text/plain"
        failed = [n for n, confirmation in enumerate(pending) if await confirmation.exception() is not None]
        assert failed == [42]
        assert (await client.queue_info(queue)).message_count == 99
        assert client.stats().returned == 1


async def test_a_message_that_need_not_be_routed_is_confirmed(face, broker, unique):
    async with face.connect(broker) as client:
        await client.publish(b"gone", routing_key=unique("nowhere"), mandatory=False)


async def test_a_full_queue_nacks(face, broker, queue):
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60, max_length=1, overflow="reject-publish")
        await client.publish(b"1", routing_key=queue)
        with pytest.raises(mm.NackedError):
            for _ in range(10):
                await client.publish(b"2", routing_key=queue)
        assert client.stats().nacked == 1


async def test_a_missing_exchange_fails_its_publishes_and_no_others(face, broker, queue, unique):
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        missing = unique("missing")
        pending = []
        for n in range(50):
            pending.append(await client.publish_nowait(b"good", routing_key=queue))
            if n == 25:
                bad = await client.publish_nowait(b"bad", exchange=missing, routing_key="k")
        with pytest.raises(mm.NotFoundError) as caught:
            await bad.result(timeout=30)
        assert caught.value.reply_code == 404
        assert missing in caught.value.reply_text
        await face.wait_all(pending, timeout=30)
        await client.publish(b"after", routing_key=queue)


async def test_names_over_255_bytes_are_refused_before_anything_is_sent(face, broker):
    async with face.connect(broker) as client:
        long = "ü" * 128
        for arguments in [
            {"routing_key": long},
            {"exchange": long},
            {"routing_key": "k", "message_id": long},
        ]:
            with pytest.raises(mm.InvalidArgumentError):
                await client.publish(b"", **arguments)
        with pytest.raises(ValueError):
            await client.declare_queue(long)
        assert client.stats().published == 0


async def test_bodies_are_bytes_text_or_json(face, broker, queue):
    bodies = [
        (b"bytes \x00\xff", b"bytes \x00\xff", None),
        (bytearray(b"array"), b"array", None),
        (memoryview(b"0123456789")[2:8:2], b"246", None),
        ("grüße", "grüße".encode(), "text/plain"),
        ({"a": [1, None, "ü"]}, '{"a":[1,null,"ü"]}'.encode(), "application/json"),
        ([1, 2], b"[1,2]", "application/json"),
        (b"", b"", None),
        (b"x" * 300_000, b"x" * 300_000, None),
    ]
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        for body, _, _ in bodies:
            await client.publish(body, routing_key=queue)
        for _, expected, content_type in bodies:
            delivery = await client.get(queue)
            assert delivery.body == expected
            assert type(delivery.body) is bytes
            assert delivery.body is delivery.body
            assert delivery.content_type == content_type
            await delivery.ack()
        with pytest.raises(TypeError):
            await client.publish(42, routing_key=queue)
        with pytest.raises(mm.JsonError):
            await client.publish({"when": datetime.datetime.now()}, routing_key=queue)


async def test_the_window_bounds_what_is_in_flight(face, broker, queue):
    async with face.connect(broker, window_messages=10) as client:
        await client.declare_queue(queue, expires=60)
        pending = []
        most = 0
        for _ in range(500):
            pending.append(await client.publish_nowait(b"x", routing_key=queue))
            most = max(most, client.stats().in_flight)
        await face.wait_all(pending, timeout=30)
        assert most <= 10
        assert client.stats().confirmed == 500


async def test_a_cancelled_confirmation_fails_and_frees_its_place(face, broker, queue):
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        confirmation = await client.publish_nowait(b"x", routing_key=queue)
        if confirmation.cancel():
            assert isinstance(await confirmation.exception(), mm.PublishCancelledError)
            with pytest.raises(mm.PublishCancelledError):
                await confirmation.result(timeout=5)
        await client.publish(b"y", routing_key=queue)
        assert client.stats().in_flight == 0


async def test_a_publish_after_close_is_refused(face, broker, queue):
    client = await face.connect(broker)
    await client.close()
    assert client.closed
    with pytest.raises(mm.ClosedError):
        await client.publish(b"late", routing_key=queue)
    with pytest.raises(ConnectionError):
        await client.declare_queue(queue)
    await client.close()
