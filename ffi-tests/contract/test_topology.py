"""Queues, exchanges and bindings."""

from __future__ import annotations

import pytest

import murano_messaging as mm


async def test_a_queue_and_its_counts(face, broker, queue):
    async with face.connect(broker) as client:
        info = await client.declare_queue(queue, expires=60)
        assert info == mm.QueueInfo(queue, 0, 0)
        await client.publish(b"1", routing_key=queue)
        await client.publish(b"2", routing_key=queue)
        assert await client.queue_info(queue) == (queue, 2, 0)
        assert await client.purge_queue(queue) == 2
        await client.publish(b"3", routing_key=queue)
        with pytest.raises(mm.PreconditionFailedError) as caught:
            await client.delete_queue(queue, if_empty=True)
        assert caught.value.reply_code == 406
        assert await client.delete_queue(queue) == 1
        assert await client.delete_queue(queue) == 0
        with pytest.raises(LookupError):
            await client.queue_info(queue)


async def test_a_server_named_queue(face, broker):
    async with face.connect(broker) as client:
        info = await client.declare_queue(exclusive=True, durable=False)
        assert info.name.startswith("amq.gen-")
        await client.publish(b"x", routing_key=info.name)
        assert (await client.get(info.name)).body == b"x"


async def test_an_empty_name_is_no_queue(face, broker, queue):
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        await client.publish(b"x", routing_key=queue)
        for use in (client.queue_info, client.purge_queue, client.delete_queue, client.get):
            with pytest.raises(mm.InvalidArgumentError, match="the queue's name is empty"):
                await use("")
        with pytest.raises(mm.InvalidArgumentError, match="the queue's name is empty"):
            await (await client.consume("")).get(timeout=30)
        assert await client.queue_info(queue) == (queue, 1, 0)


async def test_declaring_again_with_other_properties_fails_alone(face, broker, queue):
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        with pytest.raises(mm.PreconditionFailedError) as caught:
            await client.declare_queue(queue, expires=61)
        assert caught.value.reply_code == 406
        assert "x-expires" in caught.value.reply_text
        assert await client.declare_queue(queue, expires=60) == (queue, 0, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"type": "stream", "expires": 60},
        {"type": "quorum", "durable": False},
        {"type": "quorum", "max_priority": 5},
        {"type": "mirrored"},
        {"overflow": "explode"},
        {"dead_letter_routing_key": "k"},
        {"max_priority": 256},
        {"max_length": -1},
        {"expires": 0},
        {"arguments": {"x-expires": 1000}, "expires": 1},
    ],
)
async def test_what_no_broker_can_serve_is_refused_locally(face, broker, queue, options):
    async with face.connect(broker) as client:
        with pytest.raises(mm.InvalidArgumentError):
            await client.declare_queue(queue, **options)
        with pytest.raises(mm.NotFoundError):
            await client.queue_info(queue)


async def test_unknown_arguments_are_type_errors(face, broker, queue):
    async with face.connect(broker) as client:
        for call in (client.declare_queue, client.declare_exchange, client.consume):
            with pytest.raises(TypeError, match="ttl"):
                await call(queue, ttl=1)


async def test_an_exchange_type_that_is_not_known_is_refused_and_no_connection_error(face, broker, unique):
    """RabbitMQ 3.10 ends the connection over it (503), 4.0 only the channel (406): trying again is no help on either."""
    async with face.connect(broker) as client:
        expected = (mm.RefusedError, mm.PreconditionFailedError)
        with pytest.raises(expected, match="unknown exchange type") as caught:
            await client.declare_exchange(unique("x"), "nonsense")
        assert not isinstance(caught.value, ConnectionError)
        code = 503 if isinstance(caught.value, mm.RefusedError) else 406
        assert caught.value.reply_code == code
        # The client is usable.
        await client.check_exchange("amq.direct", timeout=30)


async def test_refusals_say_what_to_do(face, broker, queue):
    async with face.connect(broker) as client:
        with pytest.raises(mm.NotFoundError, match="declare it first"):
            await client.queue_info(queue)
        await client.declare_queue(queue, expires=60)
        with pytest.raises(mm.PreconditionFailedError, match="declare it with the same, or delete it first"):
            await client.declare_queue(queue, expires=61)
        deliveries = await client.consume(queue)
        await client.delete_queue(queue)
        with pytest.raises(mm.ConsumerCancelledError, match="resume"):
            await deliveries.get(timeout=30)


async def test_routing_through_exchanges(face, broker, queue, unique):
    async with face.connect(broker) as client:
        topic, fanout, other = unique("topic"), unique("fanout"), unique("other")
        await client.declare_queue(queue, expires=60)
        await client.declare_exchange(other, "fanout", auto_delete=True)
        await client.declare_exchange(topic, "topic", durable=False, alternate_exchange=other)
        await client.declare_exchange(fanout, type="fanout")
        await client.bind(queue, topic, "a.*.c")
        await client.bind_exchange(topic, fanout)
        await client.check_exchange(topic)
        await client.publish(b"1", exchange=topic, routing_key="a.b.c")
        await client.publish(b"2", exchange=fanout, routing_key="a.b.c")
        with pytest.raises(mm.UnroutableError):
            await client.publish(b"3", exchange=topic, routing_key="a.b")
        await client.publish(b"4", exchange=fanout, routing_key="nobody", mandatory=False)
        with pytest.raises(mm.UnroutableError):
            await client.publish(b"4", exchange=fanout, routing_key="nobody")
        await client.unbind_exchange(topic, fanout)
        await client.publish(b"5", exchange=fanout, routing_key="a.b.c", mandatory=False)
        await client.unbind(queue, topic, "a.*.c")
        with pytest.raises(mm.UnroutableError):
            await client.publish(b"6", exchange=topic, routing_key="a.b.c")
        assert [(await client.get(queue, no_ack=True)).body for _ in range(2)] == [b"1", b"2"]
        assert await client.get(queue) is None
        await client.delete_exchange(fanout)
        await client.delete_exchange(topic, if_unused=True)
        with pytest.raises(mm.NotFoundError):
            await client.check_exchange(topic)


async def test_binding_arguments_and_a_headers_exchange(face, broker, queue, unique):
    async with face.connect(broker) as client:
        exchange = unique("headers")
        await client.declare_queue(queue, expires=60)
        await client.declare_exchange(exchange, "headers", durable=False, auto_delete=True)
        await client.bind(queue, exchange, arguments={"x-match": "all", "colour": "red", "size": 3})
        await client.publish(b"yes", exchange=exchange, headers={"colour": "red", "size": 3, "other": 1})
        with pytest.raises(mm.UnroutableError):
            await client.publish(b"no", exchange=exchange, headers={"colour": "red", "size": 4})


async def test_dead_letters(face, broker, queue, unique):
    async with face.connect(broker) as client:
        dead = unique("dead")
        await client.declare_queue(dead, expires=60)
        await client.declare_queue(queue, expires=60, dead_letter_exchange="", dead_letter_routing_key=dead)
        await client.publish(b"x", routing_key=queue)
        async with client.consume(queue) as deliveries:
            delivery = await deliveries.get(timeout=10)
            await delivery.reject()
        async with client.consume(dead) as deliveries:
            delivery = await deliveries.get(timeout=10)
            assert delivery.body == b"x"
            assert delivery.headers["x-death"][0]["reason"] == "rejected"
            await delivery.ack()


async def test_what_is_on_record_can_be_forgotten(face, broker, queue):
    async with face.connect(broker) as client:
        await client.declare_queue(queue)
        assert client.stats().recorded == 1
        client.forget(queue)
        # The next answer comes from an engine that has forgotten.
        await client.queue_info(queue)
        assert client.stats().recorded == 0
        await client.delete_queue(queue)
