"""Requests and replies."""

from __future__ import annotations

import pytest

import murano_messaging as mm


async def reply_to_one(client, queue, text):
    while (request := await client.get(queue)) is None:
        pass
    await client.publish(text, routing_key=request.reply_to, correlation_id=request.correlation_id)
    await request.ack()


async def test_a_request_gets_its_reply(face, broker, queue):
    async with face.connect(broker) as client, face.connect(broker) as serving:
        await client.declare_queue(queue, expires=60)

        async def ask(number):
            reply = await client.request({"n": number}, routing_key=queue, timeout=30, headers={"n": number})
            assert reply.text() == f"reply {number}"

        async def serve():
            async with serving.consume(queue) as requests:
                for _ in range(10):
                    request = await requests.get(timeout=30)
                    assert request.json() == {"n": request.headers["n"]}
                    await serving.publish(
                        f"reply {request.headers['n']}",
                        routing_key=request.reply_to,
                        correlation_id=request.correlation_id,
                    )
                    await request.ack()

        await face.together(serve, *(lambda number=number: ask(number) for number in range(10)))


async def test_a_request_without_a_reply_fails(face, broker, queue, unique):
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        with pytest.raises(mm.OperationTimeoutError, match="no reply") as caught:
            await client.request(b"x", routing_key=queue, timeout=0.2)
        assert caught.value.outcome_unknown
        with pytest.raises(mm.UnroutableError):
            await client.request(b"x", routing_key=unique("q"))
        with pytest.raises(TypeError):
            await client.request(b"x", routing_key=queue, nonsense=1)
