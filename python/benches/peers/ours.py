"""murano_messaging, the blocking client, as its documentation shows."""

from __future__ import annotations

from collections import deque

from meter import BODY, PREFETCH, WINDOW, Meter

import murano_messaging as mm


def publish(uri: str, queue: str, messages: int, persistent: bool) -> None:
    with mm.connect(uri) as client:
        client.publish(BODY, routing_key=queue, persistent=persistent)
        pending: deque[mm.Confirmation] = deque()
        meter = Meter()
        meter.start()
        for _ in range(messages):
            if len(pending) == WINDOW:
                pending.popleft().result()
            pending.append(client.publish_nowait(BODY, routing_key=queue, persistent=persistent))
        mm.wait_all(pending)
        meter.stop(messages)


def publish_batch(uri: str, queue: str, messages: int, persistent: bool) -> None:
    with mm.connect(uri) as client:
        client.publish(BODY, routing_key=queue, persistent=persistent)
        meter = Meter()
        meter.start()
        for _ in range(messages // WINDOW):
            mm.wait_all([client.publish_nowait(BODY, routing_key=queue, persistent=persistent) for _ in range(WINDOW)])
        meter.stop(messages)


def publish_wait(uri: str, queue: str, messages: int, persistent: bool) -> None:
    with mm.connect(uri) as client:
        client.publish(BODY, routing_key=queue, persistent=persistent)
        meter = Meter()
        meter.start()
        for _ in range(messages):
            client.publish(BODY, routing_key=queue, persistent=persistent)
        meter.stop(messages)


def consume(uri: str, queue: str, messages: int, persistent: bool) -> None:
    with mm.connect(uri) as client:
        meter = Meter()
        meter.start()
        count = 0
        with client.consume(queue, prefetch=PREFETCH) as deliveries:
            for delivery in deliveries:
                assert len(delivery.body) == len(BODY)
                delivery.ack()
                count += 1
                if count == messages:
                    break
        client.close()
        meter.stop(messages)
