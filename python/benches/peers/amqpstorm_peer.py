"""AMQPStorm. It has no windowed confirms: a confirmed publish waits."""

from __future__ import annotations

import amqpstorm
from meter import BODY, PREFETCH, Meter


def publish_wait(uri: str, queue: str, messages: int, persistent: bool) -> None:
    with amqpstorm.UriConnection(uri) as connection, connection.channel() as channel:
        channel.confirm_deliveries()
        properties = {"delivery_mode": 2 if persistent else 1}
        channel.basic.publish(BODY, queue, "", properties, mandatory=True)
        meter = Meter()
        meter.start()
        for _ in range(messages):
            channel.basic.publish(BODY, queue, "", properties, mandatory=True)
        meter.stop(messages)


def consume(uri: str, queue: str, messages: int, persistent: bool) -> None:
    with amqpstorm.UriConnection(uri) as connection, connection.channel() as channel:
        count = 0

        def delivered(message: amqpstorm.Message) -> None:
            nonlocal count
            assert len(message.body) == len(BODY)
            message.ack()
            count += 1
            if count == messages:
                channel.stop_consuming()

        meter = Meter()
        meter.start()
        channel.basic.qos(PREFETCH)
        channel.basic.consume(delivered, queue)
        channel.start_consuming()
        meter.stop(messages)
