"""Puka 0.0.8, as its documentation shows; with the package ``future`` it runs on Python 3."""

from __future__ import annotations

from collections import deque

from meter import BODY, PREFETCH, WINDOW, Meter

import puka


def connected(uri: str) -> puka.Client:
    client = puka.Client(uri, pubacks=True)
    client.wait(client.connect())
    return client


def publish(uri: str, queue: str, messages: int, persistent: bool) -> None:
    client = connected(uri)
    body, headers = BODY.decode(), {"delivery_mode": 2 if persistent else 1}
    client.wait(client.basic_publish("", queue, headers=headers, body=body))
    pending: deque[int] = deque()
    meter = Meter()
    meter.start()
    for _ in range(messages):
        if len(pending) == WINDOW:
            client.wait(pending.popleft())
        pending.append(client.basic_publish("", queue, headers=headers, body=body))
    for promise in pending:
        client.wait(promise)
    meter.stop(messages)


def publish_batch(uri: str, queue: str, messages: int, persistent: bool) -> None:
    client = connected(uri)
    body, headers = BODY.decode(), {"delivery_mode": 2 if persistent else 1}
    client.wait(client.basic_publish("", queue, headers=headers, body=body))
    meter = Meter()
    meter.start()
    for _ in range(messages // WINDOW):
        for promise in [client.basic_publish("", queue, headers=headers, body=body) for _ in range(WINDOW)]:
            client.wait(promise)
    meter.stop(messages)


def publish_wait(uri: str, queue: str, messages: int, persistent: bool) -> None:
    client = connected(uri)
    body, headers = BODY.decode(), {"delivery_mode": 2 if persistent else 1}
    client.wait(client.basic_publish("", queue, headers=headers, body=body))
    meter = Meter()
    meter.start()
    for _ in range(messages):
        client.wait(client.basic_publish("", queue, headers=headers, body=body))
    meter.stop(messages)


def consume(uri: str, queue: str, messages: int, persistent: bool) -> None:
    client = connected(uri)
    meter = Meter()
    meter.start()
    promise = client.basic_consume(queue, prefetch_count=PREFETCH)
    for _ in range(messages):
        message = client.wait(promise)
        assert len(message["body"]) == len(BODY)
        client.basic_ack(message)
    client.wait(client.close())
    meter.stop(messages)
