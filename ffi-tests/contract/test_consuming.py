"""Consuming: iterating, taking one or many, settling, cancelling, ending."""

from __future__ import annotations

import time

import pytest

import murano_messaging as mm


async def fill(client, queue, count):
    await client.declare_queue(queue, expires=60)
    for n in range(count):
        await client.publish(str(n), routing_key=queue)


async def test_iterating(face, broker, queue):
    async with face.connect(broker) as client:
        await fill(client, queue, 20)
        received = []
        async for delivery in client.consume(queue, prefetch=3):
            received.append(delivery.text())
            await delivery.ack()
            if len(received) == 20:
                break
        assert received == [str(n) for n in range(20)]
        assert client.stats().acked == 20


async def test_get_waits_at_most_its_timeout(face, broker, queue):
    async with face.connect(broker) as client:
        await fill(client, queue, 1)
        async with client.consume(queue) as deliveries:
            assert (await deliveries.get(timeout=10)).body == b"0"
            assert await deliveries.get(timeout=0.05) is None
            assert await deliveries.get(timeout=0) is None
            assert await deliveries.get_many(5, timeout=0.05) == []
            await client.publish("late", routing_key=queue)
            assert (await deliveries.get()).body == b"late"
            assert deliveries.delivered == 2
            assert deliveries.queue == queue
            assert deliveries.tag


async def test_get_many_takes_what_is_there(face, broker, queue):
    async with face.connect(broker) as client:
        await fill(client, queue, 10)
        async with client.consume(queue, prefetch=10) as deliveries:
            received = []
            while len(received) < 10:
                batch = await deliveries.get_many(4, timeout=10)
                assert 1 <= len(batch) <= 4
                received += [int(delivery.body) for delivery in batch]
                for delivery in batch:
                    await delivery.ack()
            assert received == list(range(10))


@pytest.mark.parametrize("call", [("get_many", 0), ("get_many", -1), ("set_prefetch", -1), ("set_prefetch", 70_000)])
async def test_numbers_out_of_range_take_nothing(face, broker, queue, call):
    name, number = call
    async with face.connect(broker) as client:
        await fill(client, queue, 1)
        async with client.consume(queue) as deliveries:
            with pytest.raises(mm.InvalidArgumentError):
                await getattr(deliveries, name)(number)
            assert (await deliveries.get(timeout=10)).body == b"0"


async def test_prefetch_bounds_what_is_handed_out(face, broker, queue):
    async with face.connect(broker) as client:
        await fill(client, queue, 10)
        async with client.consume(queue, prefetch=2) as deliveries:
            first = await deliveries.get(timeout=10)
            await deliveries.get(timeout=10)
            assert await deliveries.get(timeout=0.2) is None
            await first.ack()
            assert (await deliveries.get(timeout=10)).body == b"2"
            await deliveries.set_prefetch(3)
            assert (await deliveries.get(timeout=10)).body == b"3"


async def test_what_is_refused_comes_again(face, broker, queue):
    async with face.connect(broker) as client:
        await fill(client, queue, 1)
        async with client.consume(queue) as deliveries:
            for settle in ("requeue", "nack"):
                delivery = await deliveries.get(timeout=10)
                await getattr(delivery, settle)()
            delivery = await deliveries.get(timeout=10)
            assert delivery.redelivered
            await deliveries.recover()
            assert delivery.stale
            await (await deliveries.get(timeout=10)).nack(requeue=False)
        assert (await client.queue_info(queue)).message_count == 0


async def test_an_ack_that_is_too_late_is_warned_of_once(face, broker, queue, caplog):
    async with face.connect(broker) as client:
        await fill(client, queue, 3)
        deliveries = await client.consume(queue)
        late = [await deliveries.get(timeout=10) for _ in range(3)]
        await client.close()
        for delivery in late:
            assert delivery.stale
            await delivery.ack()

    def said():
        return [record for record in caplog.records if "settled after its channel had ended" in record.getMessage()]

    until = time.monotonic() + 30
    while not said():
        assert time.monotonic() < until
        await face.pause()
    assert [record.levelname for record in said()] == ["WARNING"]


async def test_settling_twice_is_an_error(face, broker, queue):
    async with face.connect(broker) as client:
        await fill(client, queue, 1)
        async with client.consume(queue) as deliveries:
            delivery = await deliveries.get(timeout=10)
            await delivery.ack()
            with pytest.raises(mm.AlreadySettledError):
                await delivery.ack()
            with pytest.raises(mm.AlreadySettledError):
                await delivery.reject()


async def test_without_acks(face, broker, queue):
    async with face.connect(broker) as client:
        await fill(client, queue, 3)
        async with client.consume(queue, no_ack=True) as deliveries:
            for n in range(3):
                delivery = await deliveries.get(timeout=10)
                assert delivery.body == str(n).encode()
            with pytest.raises(mm.InvalidArgumentError):
                await delivery.ack()
        assert await client.get(queue, no_ack=True) is None


async def test_leaving_the_block_puts_back_what_was_not_settled(face, broker, queue):
    async with face.connect(broker) as client:
        await fill(client, queue, 5)
        async with client.consume(queue, prefetch=5) as deliveries:
            kept = await deliveries.get(timeout=10)
            assert kept.body == b"0"
        await kept.ack()
        with pytest.raises(mm.ConsumerCancelledError):
            await deliveries.get(timeout=1)
        async with client.consume(queue) as deliveries:
            again = [int((await deliveries.get(timeout=10)).body) for _ in range(4)]
            assert sorted(again) == [1, 2, 3, 4]


async def test_a_missing_queue(face, broker, queue):
    async with face.connect(broker) as client:
        with pytest.raises(mm.NotFoundError):
            async with client.consume(queue):
                pass
        with pytest.raises(mm.NotFoundError):
            await client.get(queue)


async def test_an_exclusive_consumer_keeps_others_out(face, broker, queue):
    async with face.connect(broker) as client:
        await fill(client, queue, 0)
        async with client.consume(queue, exclusive=True):
            with pytest.raises(mm.AccessRefusedError) as caught:
                async with client.consume(queue):
                    pass
            assert caught.value.reply_code == 403


async def test_a_deleted_queue_ends_its_consumer_with_an_error(face, broker, queue):
    async with face.connect(broker) as client:
        await fill(client, queue, 1)
        async with client.consume(queue) as deliveries:
            await deliveries.get(timeout=10)
            await client.delete_queue(queue)
            with pytest.raises(mm.ConsumerCancelledError):
                await deliveries.get(timeout=10)
            assert [delivery async for delivery in deliveries] == []


async def test_the_end_of_a_consumer_is_told_apart_from_a_timeout(face, broker, queue, unique):
    """Each way to end, and each way to ask: an end that looked like a timeout would have its reader spin."""

    async def deleted(client, other, queue, deliveries):
        await client.delete_queue(queue)

    async def cancelled(client, other, queue, deliveries):
        await deliveries.cancel()

    async def closed(client, other, queue, deliveries):
        await client.close()

    ends = {
        deleted: mm.ConsumerCancelledError,
        cancelled: mm.ConsumerCancelledError,
        closed: mm.ClosedError,
    }
    for end, error in ends.items():
        name = unique("ends")
        async with face.connect(broker) as client, face.connect(broker) as other:
            await fill(client, name, 0)
            deliveries = await client.consume(name)
            assert await deliveries.get(timeout=0.01) is None
            assert await deliveries.get_many(3, timeout=0.01) == []
            assert not deliveries.closed
            await end(client, other, name, deliveries)
            for _ in range(3):
                with pytest.raises(error):
                    await deliveries.get(timeout=10)
                with pytest.raises(error):
                    await deliveries.get_many(3, timeout=10)
                with pytest.raises(error):
                    await deliveries.get()
            assert deliveries.closed
            # Iterations end.
            assert [delivery async for delivery in deliveries] == []


async def test_many_that_wait_hear_of_the_end(face, broker, queue):
    async with face.connect(broker) as client:
        await fill(client, queue, 0)
        deliveries = await client.consume(queue)
        errors = []

        async def wait():
            try:
                while True:
                    await deliveries.get(timeout=30)
            except mm.ConsumerCancelledError as error:
                errors.append(error)

        async def delete():
            await client.delete_queue(queue)

        await face.together(*[wait] * 5, delete)
        assert len(errors) == 5


async def test_what_was_delivered_before_the_end_is_handed_out_first(face, broker, queue):
    async with face.connect(broker) as client:
        await fill(client, queue, 3)
        deliveries = await client.consume(queue, no_ack=True)
        while client.stats().delivered < 3:
            await client.queue_info(queue)
        await client.delete_queue(queue)
        assert not deliveries.closed
        assert [(await deliveries.get(timeout=30)).body for _ in range(3)] == [b"0", b"1", b"2"]
        with pytest.raises(mm.ConsumerCancelledError):
            await deliveries.get(timeout=30)
        assert deliveries.closed


async def test_an_iteration_raises_what_ended_it_once(face, broker, queue):
    async with face.connect(broker) as client:
        await fill(client, queue, 0)
        deliveries = await client.consume(queue)
        await client.delete_queue(queue)
        with pytest.raises(mm.ConsumerCancelledError):
            async for _ in deliveries:
                pass
        async for _ in deliveries:
            raise AssertionError("it ended")
        with pytest.raises(mm.ConsumerCancelledError):
            await deliveries.get(timeout=0)


async def test_an_end_is_not_lost_behind_a_batch(face, broker, queue):
    async with face.connect(broker) as client:
        await fill(client, queue, 3)
        async with client.consume(queue, no_ack=True) as deliveries:
            received = await deliveries.get_many(1, timeout=10)
            await client.delete_queue(queue)
            with pytest.raises(mm.ConsumerCancelledError):
                while True:
                    batch = await deliveries.get_many(10, timeout=10)
                    assert batch, "the consumer ended without its error"
                    received += batch
            assert [delivery.body for delivery in received] == [b"0", b"1", b"2"]


async def test_closing_the_client_ends_an_iteration(face, broker, queue):
    async with face.connect(broker) as client:
        await fill(client, queue, 1)
        seen = []

        async def consume():
            async for delivery in client.consume(queue):
                seen.append(delivery.body)
                await delivery.ack()
                await client.publish("more", routing_key=queue)

        async def close():
            async with face.connect(broker) as other:
                while (await other.queue_info(queue)).consumer_count == 0 or not seen:
                    pass
            await client.drain(timeout=20)

        # The consumer's own publish may come after the drain has begun.
        try:
            await face.together(consume, close)
        except mm.ClosedError:
            pass
        assert seen
        assert client.closed


async def test_answers_to_requests(face, broker, queue):
    async with face.connect(broker) as client, face.connect(broker) as server:
        await server.declare_queue(queue, expires=60)
        async with client.consume("amq.rabbitmq.reply-to", no_ack=True) as answers:
            await client.publish("ping", routing_key=queue, reply_to="amq.rabbitmq.reply-to", correlation_id="7")
            request = await server.get(queue)
            await server.publish(
                "pong", routing_key=request.reply_to, correlation_id=request.correlation_id, mandatory=False
            )
            await request.ack()
            answer = await answers.get(timeout=10)
            assert (answer.body, answer.correlation_id) == (b"pong", "7")


async def test_a_delivery_that_is_dropped_goes_back_if_asked(face, broker, queue):
    async with face.connect(broker) as client:
        await fill(client, queue, 3)
        async with client.consume(queue, prefetch=1, on_drop="requeue") as deliveries:
            first = await deliveries.get(timeout=10)
            assert not first.redelivered
            del first
            seen = set()
            while len(seen) < 3:
                delivery = await deliveries.get(timeout=10)
                seen.add(delivery.body)
                await delivery.ack()
            assert seen == {b"0", b"1", b"2"}


async def test_a_delivery_that_is_dropped_keeps_its_place_and_is_warned_of(face, broker, queue, caplog):
    async with face.connect(broker) as client:
        await fill(client, queue, 2)
        async with client.consume(queue, prefetch=1, tag="forgetful") as deliveries:
            dropped = await deliveries.get(timeout=10)
            del dropped
            deadline = time.monotonic() + 30
            while not any("forgetful" in record.getMessage() for record in caplog.records):
                assert time.monotonic() < deadline
                assert await deliveries.get(timeout=0.05) is None
        with pytest.raises(mm.InvalidArgumentError, match="on_drop"):
            client.consume(queue, on_drop="lose")
