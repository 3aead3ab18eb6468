"""kombu against the embedded broker."""

from __future__ import annotations

import socket
from typing import Any, Callable

import kombu
import pytest


def test_publish_consume_and_requeue(embedded: str, unique: Callable[[str], str]) -> None:
    with kombu.Connection(embedded, transport_options={"confirm_publish": True}) as connection:
        exchange = kombu.Exchange(unique("x"), "topic", durable=True)
        queue = kombu.Queue(unique("q"), exchange, routing_key="plans.#", expires=60.0)
        producer = connection.Producer(serializer="json")
        for number in range(50):
            producer.publish({"number": number}, exchange=exchange, routing_key="plans.a.b", declare=[queue])
        seen: list[int] = []
        again: list[bool] = []

        def take(body: Any, message: Any) -> None:
            if body["number"] == 7 and not message.delivery_info["redelivered"]:
                message.requeue()
                again.append(True)
                return
            seen.append(body["number"])
            message.ack()

        with connection.Consumer(queue, callbacks=[take], prefetch_count=5):
            while len(seen) < 50:
                connection.drain_events(timeout=20)
            with pytest.raises(socket.timeout):
                connection.drain_events(timeout=0.2)
        assert sorted(seen) == list(range(50))
        assert again == [True]
        bound = queue(connection.default_channel)
        assert bound.queue_declare(passive=True).message_count == 0
        bound.delete()
        exchange(connection.default_channel).delete()
