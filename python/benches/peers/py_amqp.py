"""py-amqp, which Kombu and Celery use."""

from __future__ import annotations

import threading
from urllib.parse import urlsplit

import amqp
from meter import BODY, PREFETCH, WINDOW, Meter


def connected(uri: str, **options: object) -> amqp.Connection:
    parts = urlsplit(uri)
    connection = amqp.Connection(
        f"{parts.hostname}:{parts.port}", userid=parts.username, password=parts.password, **options
    )
    connection.connect()
    return connection


def publish(uri: str, queue: str, messages: int, persistent: bool) -> None:
    with connected(uri) as connection:
        channel = connection.channel()
        confirmed = 0

        def ack(tag: int, _multiple: bool) -> None:
            nonlocal confirmed
            confirmed = max(confirmed, tag)

        channel.events["basic_ack"].add(ack)
        channel.confirm_select()
        message = amqp.Message(BODY, delivery_mode=2 if persistent else 1)
        meter = Meter()
        meter.start()
        for sent in range(messages):
            while sent - confirmed >= WINDOW:
                connection.drain_events()
            channel.basic_publish(message, "", queue, mandatory=True)
        while confirmed < messages:
            connection.drain_events()
        meter.stop(messages)


def publish_wait(uri: str, queue: str, messages: int, persistent: bool) -> None:
    with connected(uri, confirm_publish=True) as connection:
        channel = connection.channel()
        message = amqp.Message(BODY, delivery_mode=2 if persistent else 1)
        channel.basic_publish(message, "", queue, mandatory=True)
        meter = Meter()
        meter.start()
        for _ in range(messages):
            channel.basic_publish(message, "", queue, mandatory=True)
        meter.stop(messages)


def consume(uri: str, queue: str, messages: int, persistent: bool) -> None:
    with connected(uri) as connection:
        channel = connection.channel()
        done = threading.Event()
        count = 0

        def delivered(message: amqp.Message) -> None:
            nonlocal count
            assert len(message.body) == len(BODY)
            channel.basic_ack(message.delivery_tag)
            count += 1
            if count == messages:
                done.set()

        meter = Meter()
        meter.start()
        channel.basic_qos(0, PREFETCH, False)
        channel.basic_consume(queue, callback=delivered)
        while not done.is_set():
            connection.drain_events()
        meter.stop(messages)
