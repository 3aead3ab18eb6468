"""pika against the embedded broker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Callable

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker, NackError, ProbableAuthenticationError, UnroutableError


@pytest.fixture
def connection(embedded: str) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(embedded))
    yield connection
    if connection.is_open:
        connection.close()


def test_messages_arrive_as_they_were_sent(connection: Any, unique: Callable[[str], str]) -> None:
    channel = connection.channel()
    channel.confirm_delivery()
    queue = channel.queue_declare(unique("q"), durable=True, arguments={"x-expires": 60_000}).method.queue
    properties = pika.BasicProperties(
        content_type="text/plain",
        headers={"text": "wörld", "number": -7, "list": [True, None], "table": {"a": 1}},
        delivery_mode=2,
        priority=3,
        correlation_id="c",
        reply_to="r",
        expiration="60000",
        message_id="m",
        timestamp=1_700_000_000,
        type="t",
        user_id="guest",
        app_id="a",
        cluster_id="k",
    )
    for body in [b"", b"x", bytes(300_000)]:
        channel.basic_publish("", queue, body, properties, mandatory=True)
        method, got, got_body = channel.basic_get(queue)
        assert (got, got_body, method.redelivered) == (properties, body, False)
        channel.basic_nack(method.delivery_tag, requeue=True)
        method, _, _ = channel.basic_get(queue)
        assert method.redelivered
        channel.basic_ack(method.delivery_tag)
    assert channel.basic_get(queue) == (None, None, None)
    channel.queue_delete(queue)


def test_a_thousand_messages_are_consumed_in_order(connection: Any, unique: Callable[[str], str]) -> None:
    channel = connection.channel()
    queue = channel.queue_declare(unique("q")).method.queue
    for number in range(1000):
        channel.basic_publish("", queue, str(number))
    channel.basic_qos(prefetch_count=20)
    seen = []
    for method, _, body in channel.consume(queue, inactivity_timeout=20):
        assert method is not None, "nothing came for 20 s"
        seen.append(int(body))
        channel.basic_ack(method.delivery_tag)
        if len(seen) == 1000:
            break
    assert seen == list(range(1000))
    assert channel.cancel() == 0
    channel.queue_delete(queue)


def test_what_cannot_be_routed_or_kept_is_told(connection: Any, unique: Callable[[str], str]) -> None:
    channel = connection.channel()
    channel.confirm_delivery()
    with pytest.raises(UnroutableError):
        channel.basic_publish("", unique("nowhere"), b"x", mandatory=True)
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    queue = channel.queue_declare(unique("full"), arguments=arguments).method.queue
    channel.basic_publish("", queue, b"kept")
    with pytest.raises(NackError):
        channel.basic_publish("", queue, b"refused")
    channel.queue_delete(queue)


def test_refusals_have_their_code(connection: Any, unique: Callable[[str], str]) -> None:
    name = unique("q")
    connection.channel().queue_declare(name)
    for code, operation in [
        (406, lambda channel: channel.queue_declare(name, durable=True)),
        (404, lambda channel: channel.queue_declare(unique("missing"), passive=True)),
        (404, lambda channel: channel.queue_bind(name, unique("missing"))),
        (403, lambda channel: channel.queue_declare("amq.mine")),
    ]:
        channel = connection.channel()
        with pytest.raises(ChannelClosedByBroker) as refused:
            operation(channel)
        assert refused.value.reply_code == code
    connection.channel().queue_delete(name)


def test_exchanges_and_dead_letters(connection: Any, unique: Callable[[str], str]) -> None:
    channel = connection.channel()
    channel.confirm_delivery()
    topics, dead = unique("topics"), unique("dead")
    channel.exchange_declare(topics, "topic")
    channel.exchange_declare(dead, "fanout")
    work = channel.queue_declare("", exclusive=True, arguments={"x-dead-letter-exchange": dead}).method.queue
    grave = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(work, topics, "agents.*.plan")
    channel.queue_bind(grave, dead)
    channel.basic_publish(topics, "agents.7.plan", b"plan", mandatory=True)
    method, _, _ = channel.basic_get(work)
    channel.basic_reject(method.delivery_tag, requeue=False)
    _, properties, body = channel.basic_get(grave, auto_ack=True)
    assert body == b"plan"
    assert properties.headers["x-death"][0]["reason"] == "rejected"
    assert properties.headers["x-death"][0]["queue"] == work
    channel.exchange_delete(topics)
    channel.exchange_delete(dead)


def test_a_wrong_password_is_refused(embedded: str) -> None:
    parameters = pika.URLParameters(embedded.replace("guest:guest", "guest:wrong"))
    with pytest.raises(ProbableAuthenticationError):
        pika.BlockingConnection(parameters)
