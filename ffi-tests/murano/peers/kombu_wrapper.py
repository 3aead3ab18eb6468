"""A wrapper on kombu like those of Murano's engine and agent, the same on the wire: the peer of the tests."""

from __future__ import annotations

import collections
import json
import socket

import kombu


class Message:
    def __init__(self, handle=None) -> None:
        self._handle = handle
        self.id = None if handle is None else handle.properties.get("message_id")
        self.body = None if handle is None else json.loads(handle.body)
        self.signature = None if handle is None else handle.headers.get("signature")
        # What was signed.
        self.text = None if handle is None else handle.body

    def ack(self) -> None:
        self._handle.ack()


class Subscription:
    def __init__(self, connection: kombu.Connection, queue: str, prefetch_count: int) -> None:
        self._connection = connection
        self._received: collections.deque = collections.deque()
        self._consumer = kombu.Consumer(connection, auto_declare=False)
        self._consumer.register_callback(lambda _body, message: self._received.append(message))
        self._consumer.qos(prefetch_count=prefetch_count)
        self._queue = kombu.Queue(name=queue, exchange=None)

    def __enter__(self) -> Subscription:
        self._consumer.add_queue(self._queue)
        self._consumer.consume()
        return self

    def __exit__(self, *error: object) -> None:
        self._consumer.cancel()

    def get_message(self, timeout: float | None = None) -> Message | None:
        while not self._received:
            try:
                self._connection.drain_events(timeout=timeout)
            except socket.timeout:
                return None
        return Message(self._received.popleft())


class MqClient:
    def __init__(self, login: str, password: str, host: str, port: int, virtual_host: str) -> None:
        self._connection = kombu.Connection(f"amqp://{login}:{password}@{host}:{port}/{virtual_host}")

    def __enter__(self) -> MqClient:
        self._connection.connect()
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def declare(self, queue: str, exchange: str = "", enable_ha: bool = False, ttl: int = 0) -> None:
        arguments: dict[str, object] = {}
        if enable_ha:
            arguments["x-ha-policy"] = "all"
        if ttl > 0:
            arguments["x-expires"] = ttl
        direct = kombu.Exchange(exchange, type="direct", durable=True)
        kombu.Queue(queue, direct, queue, durable=True, queue_arguments=arguments)(self._connection).declare()

    def send(self, message: Message, key: str, exchange: str = "", signing_func=None) -> None:
        data = json.dumps(message.body)
        headers = {"signature": signing_func(data)} if signing_func else None
        kombu.Producer(self._connection).publish(
            exchange=exchange, routing_key=key, body=data, message_id=str(message.id), headers=headers
        )

    def open(self, queue: str, prefetch_count: int = 1) -> Subscription:
        return Subscription(self._connection, queue, prefetch_count)
