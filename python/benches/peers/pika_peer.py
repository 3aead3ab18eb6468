"""pika: the asynchronous connection for windowed publishing and consuming, as its examples show for speed."""

from __future__ import annotations

from typing import Any

import pika
from meter import BODY, PREFETCH, WINDOW, Meter


def run(uri: str, ready: Any) -> None:
    """Run a connection until it is closed; ``ready(connection, channel)`` starts the work."""

    def on_open(connection: pika.SelectConnection) -> None:
        connection.channel(on_open_callback=lambda channel: ready(connection, channel))

    connection = pika.SelectConnection(
        pika.URLParameters(uri),
        on_open_callback=on_open,
        on_close_callback=lambda connection, _: connection.ioloop.stop(),
    )
    connection.ioloop.start()


def publish(uri: str, queue: str, messages: int, persistent: bool) -> None:
    properties = pika.BasicProperties(delivery_mode=2 if persistent else 1)
    meter = Meter()
    state = {"sent": 0, "confirmed": 0}

    def ready(connection: pika.SelectConnection, channel: Any) -> None:
        def fill() -> None:
            while state["sent"] < messages and state["sent"] - state["confirmed"] < WINDOW:
                channel.basic_publish("", queue, BODY, properties, mandatory=True)
                state["sent"] += 1

        def confirmed(frame: Any) -> None:
            state["confirmed"] = frame.method.delivery_tag
            if state["confirmed"] == messages:
                meter.stop(messages)
                connection.close()
            else:
                fill()

        channel.confirm_delivery(confirmed, callback=lambda _: (meter.start(), fill()))

    run(uri, ready)


def publish_wait(uri: str, queue: str, messages: int, persistent: bool) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(uri))
    channel = connection.channel()
    channel.confirm_delivery()
    properties = pika.BasicProperties(delivery_mode=2 if persistent else 1)
    meter = Meter()
    meter.start()
    for _ in range(messages):
        channel.basic_publish("", queue, BODY, properties, mandatory=True)
    meter.stop(messages)
    connection.close()


def consume(uri: str, queue: str, messages: int, persistent: bool) -> None:
    meter = Meter()
    count = 0

    def ready(connection: pika.SelectConnection, channel: Any) -> None:
        def delivered(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
            nonlocal count
            assert len(body) == len(BODY)
            channel.basic_ack(method.delivery_tag)
            count += 1
            if count == messages:
                connection.close()
                meter.stop(messages)

        meter.start()
        channel.basic_qos(prefetch_count=PREFETCH)
        channel.basic_consume(queue, delivered)

    run(uri, ready)
