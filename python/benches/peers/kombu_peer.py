"""Kombu over py-amqp, with one producer and confirms. It has no windowed confirms of its own."""

from __future__ import annotations

import kombu
from meter import BODY, PREFETCH, Meter


def publish_wait(uri: str, queue: str, messages: int, persistent: bool) -> None:
    with kombu.Connection(uri, transport_options={"confirm_publish": True}) as connection:
        producer = connection.Producer(auto_declare=False)
        mode = 2 if persistent else 1
        producer.publish(BODY, exchange="", routing_key=queue, delivery_mode=mode, mandatory=True)
        meter = Meter()
        meter.start()
        for _ in range(messages):
            producer.publish(BODY, exchange="", routing_key=queue, delivery_mode=mode, mandatory=True)
        meter.stop(messages)


def consume(uri: str, queue: str, messages: int, persistent: bool) -> None:
    with kombu.Connection(uri) as connection:
        count = 0

        def delivered(message: kombu.Message) -> None:
            nonlocal count
            assert len(message.body) == len(BODY)
            message.ack()
            count += 1

        source = kombu.Queue(queue, no_declare=True)
        meter = Meter()
        meter.start()
        with connection.Consumer(source, on_message=delivered, prefetch_count=PREFETCH, auto_declare=False):
            while count < messages:
                connection.drain_events()
        meter.stop(messages)
