"""Where ours is meant to differ from Puka 0.0.8: faults of Puka's, and what it never promised.

Each of these is a row of the table in docs/puka.md, and returns what the two see: ``EXPECTED`` says what that is.
"""

from __future__ import annotations

import puka
from scenarios import publish


def d_binary_bodies(s):
    client = s.client()
    queue = s.queue(client)
    client.wait(client.basic_publish("", queue, body=b"\xff\xfe"))
    s.attempt("get", lambda: client.wait(client.basic_get(queue, no_ack=True))["body"])


def d_text_that_is_not_ascii(s):
    client = s.client()
    queue = s.queue(client)
    promise = client.basic_publish("", queue, body="h\xe9llo")
    try:
        client.wait(promise, timeout=20)
        s.note("get", client.wait(client.basic_get(queue, no_ack=True))["body"])
    except Exception:
        s.note("broke", "the connection")


def d_nacked(s):
    client = s.client()
    queue = s.queue(client, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    publish(client, queue, 1)
    s.attempt("publish", client.wait, client.basic_publish("", queue, body="x"), timeout=20)


def d_unknown_virtual_host(s):
    host = s.uri.split("@")[1].split("/")[0]
    client = puka.Client("amqp://guest:guest@%s/no-such-vhost" % host)
    try:
        client.wait(client.connect(), timeout=20)
    except Exception as error:
        s.note("raised", type(error).__name__)


def d_use_after_close(s):
    client = s.client()
    client.wait(client.close())
    for what, use in (
        ("declare", lambda: client.queue_declare("x")),
        ("publish", lambda: client.basic_publish("", "x")),
        ("wait", lambda: client.loop()),
    ):
        try:
            use()
        except Exception as error:
            s.note(what, type(error).__name__)


def d_use_before_connect(s):
    client = puka.Client(s.uri)
    for what, use in (
        ("declare", lambda: client.queue_declare("x")),
        ("publish", lambda: client.basic_publish("", "x")),
        ("close", lambda: client.close()),
    ):
        try:
            use()
        except Exception as error:
            s.note(what, type(error).__name__)


def d_thousands_in_flight(s):
    client = s.client()
    queue = s.queue(client)
    try:
        promises = [client.queue_declare(queue, passive=True) for _ in range(3000)]
        client.wait_for_all(promises)
        s.note("declared", len(promises))
    except puka.ChannelError:
        s.note("declared", "ChannelError")


def d_prefetch_of_running_consumers(s):
    client = s.client()
    queue = s.queue(client)
    publish(client, queue, 6)
    consume = client.basic_consume(queue, prefetch_count=2)
    held = [client.wait(consume), client.wait(consume)]
    client.wait(client.basic_qos(consume, prefetch_count=4))
    while client.wait(consume, timeout=1) is not None:
        held.append(None)
    s.note("held", len(held))


def d_prefetch_of_several_queues(s):
    client = s.client()
    first, second = s.queue(client, "first"), s.queue(client, "second")
    publish(client, first, 3)
    publish(client, second, 3)
    consume = client.basic_consume_multi([first, second], prefetch_count=2)
    held = []
    while True:
        message = client.wait(consume, timeout=1)
        if message is None:
            break
        held.append(message)
    s.note("held", len(held))


def d_what_was_not_handed_out_at_a_cancel(s):
    client = s.client()
    queue = s.queue(client)
    publish(client, queue, 5)
    consume = client.basic_consume(queue)
    client.basic_ack(client.wait(consume))
    client.wait(client.basic_cancel(consume))
    other = s.client()
    s.note("connections", len(s.clients))
    counts = []

    def requeued():
        counts.append(client.wait(client.queue_declare(queue, passive=True))["message_count"])
        return counts[-1] == 4 or len(counts) > 50

    s.eventually(requeued)
    s.note("in the queue", counts[-1])
    other.wait(other.close())


def d_ack_after_a_cancel(s):
    client = s.client()
    queue = s.queue(client)
    publish(client, queue, 1)
    consume = client.basic_consume(queue)
    message = client.wait(consume)
    client.wait(client.basic_cancel(consume))
    s.attempt("ack", client.basic_ack, message)


def d_others_in_flight_with_a_missing_exchange(s):
    client = s.client()
    queue = s.queue(client)
    promises = []
    for number in range(20):
        if number == 10:
            client.basic_publish(s.name("exchange"), "k", body="x")
        promises.append(client.basic_publish("", queue, body="x"))
    failed = [client.wait(promise, raise_errors=False).is_error for promise in promises]
    s.note("some failed", any(failed))


def d_waiting_for_a_promise_that_is_over(s):
    client = s.client()
    promise = client.queue_declare(exclusive=True)
    client.wait(promise)
    # Puka waits for ever without a timeout.
    timeout = 1 if not hasattr(client, "_server_properties") else None
    s.attempt("wait", client.wait, promise, timeout=timeout)
