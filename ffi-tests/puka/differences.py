"""Where ours is meant to differ from Puka 0.0.8: faults of Puka's, and what it never promised.

Each of these is a row of the table in docs/puka.md; ``EXPECTED`` has what Puka sees, and what ours sees.
"""

from __future__ import annotations

from scenarios import publish

import puka


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
    client = puka.Client(f"amqp://guest:guest@{host}/no-such-vhost")
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


def d_what_was_not_handed_out_at_a_cancel(s):
    client = s.client()
    queue = s.queue(client)
    publish(client, queue, 5)
    consume = client.basic_consume(queue)
    client.basic_ack(client.wait(consume))
    client.wait(client.basic_cancel(consume))
    counts = []

    def requeued():
        counts.append(client.wait(client.queue_declare(queue, passive=True))["message_count"])
        return counts[-1] == 4 or len(counts) > 50

    s.eventually(requeued)
    s.note("in the queue", counts[-1])


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


NACKED = {"bases": ["AMQPSoftError", "AMQPError"], "fields": {}, "frame": "FrameBasicNack", "raised": "PublishNacked"}

EXPECTED = {
    "d_binary_bodies": (
        [["get", {"raised": "UnicodeDecodeError", "bases": []}]],
        [["get", {"bytes": "fffe"}]],
    ),
    "d_text_that_is_not_ascii": ([["broke", "the connection"]], [["get", "h\xe9llo"]]),
    "d_nacked": ([["publish", {"raised": "KeyError", "bases": ["KeyError"]}]], [["publish", NACKED]]),
    "d_unknown_virtual_host": ([["raised", "KeyError"]], [["raised", "NotAllowed"]]),
    "d_use_after_close": (
        [["declare", "AttributeError"], ["wait", "AttributeError"]],
        [["declare", "ConnectionBroken"], ["publish", "ConnectionBroken"], ["wait", "ConnectionBroken"]],
    ),
    "d_use_before_connect": (
        [["declare", "AttributeError"], ["publish", "AttributeError"], ["close", "AttributeError"]],
        [["declare", "ConnectionBroken"], ["publish", "ConnectionBroken"], ["close", "ConnectionBroken"]],
    ),
    "d_thousands_in_flight": ([["declared", "ChannelError"]], [["declared", 3000]]),
    "d_prefetch_of_running_consumers": ([["held", 2]], [["held", 4]]),
    "d_what_was_not_handed_out_at_a_cancel": ([["in the queue", 0]], [["in the queue", 4]]),
    "d_ack_after_a_cancel": ([["ack", {"raised": "AssertionError", "bases": ["AssertionError"]}]], [["ack", None]]),
    "d_others_in_flight_with_a_missing_exchange": ([["some failed", True]], [["some failed", False]]),
    "d_waiting_for_a_promise_that_is_over": (
        [["wait", None]],
        [["wait", {"raised": "KeyError", "bases": ["KeyError"]}]],
    ),
}
