"""Where ours is meant to differ from Puka 0.0.8: faults of Puka's, and what it never promised.

Each of these is a row of the table in docs/puka.md; ``EXPECTED`` has what Puka sees, and what ours sees.
"""

from __future__ import annotations

from scenarios import arrived, publish, refusal

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
    s.attempt("publish", lambda: refusal(client, client.basic_publish("", queue, body="x")))


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
        ("fileno", lambda: client.fileno()),
        ("loop", lambda: puka.loop([client])),
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
    client = s.client()
    queue = s.queue(client)
    publish(client, queue, 3000)
    try:
        promises = [client.basic_get(queue, no_ack=True) for _ in range(3000)]
        s.note("got", len({client.wait(promise)["body"] for promise in promises}))
    except puka.ChannelError:
        s.note("got", "ChannelError")


def d_prefetch_of_running_consumers(s):
    client = s.client()
    queue = s.queue(client)
    publish(client, queue, 6)
    consume = client.basic_consume(queue, prefetch_count=2)
    held = [client.wait(consume), client.wait(consume)]
    client.wait(client.basic_qos(consume, prefetch_count=4))
    while client.wait(consume, timeout=3) is not None:
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
        message = client.wait(consume, timeout=3)
        if message is None:
            break
        held.append(message)
    s.note("held", len(held))


def d_cancel_of_a_consumer_that_starts(s):
    client = s.client()
    queue = s.queue(client)
    consume = client.basic_consume(queue)
    s.attempt("cancel", lambda: client.wait(client.basic_cancel(consume), timeout=20).name)
    publish(client, queue, 1)
    message = client.wait(consume, timeout=5)
    s.note("consumes", message and message["body"])


def d_qos_and_cancel_of_what_is_no_consumer(s):
    client = s.client()
    declare = client.queue_declare(exclusive=True)
    s.attempt("cancel", client.basic_cancel, declare)
    s.note("goes on", client.wait(declare).name)
    declare = client.queue_declare(exclusive=True)
    try:
        client.basic_qos(declare, 1)
        s.note("qos", "a promise")
    except Exception as error:
        s.note("qos", error)


def d_consuming_no_queue(s):
    client = s.client()
    try:
        consume = client.basic_consume_multi([])
        s.note("consume", "a promise")
        client.wait(consume, timeout=20)
    except Exception as error:
        s.note("raised", type(error).__name__)


def d_callback_set_when_the_result_is_there(s):
    client = s.client()
    queue = s.queue(client)
    publish(client, queue, 1)
    seen = []
    consume = client.basic_consume(queue, callback=lambda number, result: seen.append("before"))
    arrived(s, client, consume, 1, queue)
    client.set_callback(consume, lambda number, result: seen.append("after"))
    client.wait(consume)
    s.note("called", seen)


def d_exchange_without_a_type(s):
    client = s.client()
    s.attempt("declare", lambda: refusal(client, client.exchange_declare(s.name("exchange"), "")))
    s.attempt("goes on", lambda: client.wait(client.queue_declare(exclusive=True)).name)


def d_header_that_is_no_number(s):
    client = s.client()
    queue = s.queue(client)
    s.attempt("publish", lambda: refusal(client, client.basic_publish("", queue, headers={"x": float("inf")})))
    s.attempt("goes on", lambda: client.wait(client.queue_declare(exclusive=True)).name)


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
    count = client.wait(client.queue_declare(queue, passive=True))["message_count"]
    # What was in flight is sent again, and may have arrived before.
    s.note("arrived", "all" if 20 <= count <= 40 else "some")


def d_waiting_for_a_promise_that_is_over(s):
    client = s.client()
    promise = client.queue_declare(exclusive=True)
    client.wait(promise)
    # Puka waits for ever without a timeout.
    timeout = 1 if not hasattr(client, "_server_properties") else None
    s.attempt("wait", client.wait, promise, timeout=timeout)


KEY_ERROR = {"raised": "KeyError", "bases": ["KeyError"]}
ATTRIBUTE_ERROR = {"raised": "AttributeError", "bases": []}
CHANNEL_CLOSE = 20 << 16 | 40
CONNECTION_CLOSE = 10 << 16 | 50
BASIC_NACK = 60 << 16 | 120

EXPECTED = {
    "d_binary_bodies": (
        [["get", {"raised": "UnicodeDecodeError", "bases": []}]],
        [["get", {"bytes": "fffe"}]],
    ),
    "d_text_that_is_not_ascii": ([["broke", "the connection"]], [["get", "h\xe9llo"]]),
    "d_nacked": (
        [["publish", KEY_ERROR]],
        [["publish", ["basic.nack", BASIC_NACK, True, 0, True, "PublishNacked", 0, True]]],
    ),
    "d_unknown_virtual_host": ([["raised", "KeyError"]], [["raised", "NotAllowed"]]),
    "d_use_after_close": (
        [[what, "AttributeError"] for what in ("declare", "wait", "fileno", "loop")],
        [[what, "ConnectionBroken"] for what in ("declare", "publish", "wait", "fileno", "loop")],
    ),
    "d_use_before_connect": (
        [["declare", "AttributeError"], ["publish", "AttributeError"], ["close", "AttributeError"]],
        [["declare", "ConnectionBroken"], ["publish", "ConnectionBroken"], ["close", "ConnectionBroken"]],
    ),
    "d_thousands_in_flight": (
        [["declared", "ChannelError"], ["got", "ChannelError"]],
        [["declared", 3000], ["got", 3000]],
    ),
    "d_prefetch_of_running_consumers": ([["held", 2]], [["held", 4]]),
    "d_prefetch_of_several_queues": ([["held", 4]], [["held", 2]]),
    "d_cancel_of_a_consumer_that_starts": (
        [["cancel", {"raised": "IndexError", "bases": []}], ["consumes", "0"]],
        [["cancel", "basic.cancel_ok"], ["consumes", None]],
    ),
    "d_qos_and_cancel_of_what_is_no_consumer": (
        [["cancel", ATTRIBUTE_ERROR], ["goes on", "queue.declare_ok"], ["qos", "a promise"]],
        [["cancel", KEY_ERROR], ["goes on", "queue.declare_ok"], ["qos", KEY_ERROR]],
    ),
    "d_consuming_no_queue": ([["consume", "a promise"], ["raised", "IndexError"]], [["raised", "ValueError"]]),
    "d_callback_set_when_the_result_is_there": ([["called", ["before"]]], [["called", ["after"]]]),
    "d_exchange_without_a_type": (
        [
            ["declare", ["connection.close", CONNECTION_CLOSE, True, 503, True, "CommandInvalid", 503, True]],
            ["goes on", ATTRIBUTE_ERROR],
        ],
        [
            ["declare", ["channel.close", CHANNEL_CLOSE, True, 503, True, "CommandInvalid", 503, True]],
            ["goes on", "queue.declare_ok"],
        ],
    ),
    "d_header_that_is_no_number": (
        [
            ["publish", ["connection.close", CONNECTION_CLOSE, True, 541, True, "InternalError", 541, True]],
            ["goes on", ATTRIBUTE_ERROR],
        ],
        [
            ["publish", ["channel.close", CHANNEL_CLOSE, True, 406, True, "PreconditionFailed", 406, True]],
            ["goes on", "queue.declare_ok"],
        ],
    ),
    "d_what_was_not_handed_out_at_a_cancel": ([["in the queue", 0]], [["in the queue", 4]]),
    "d_ack_after_a_cancel": ([["ack", {"raised": "AssertionError", "bases": ["AssertionError"]}]], [["ack", None]]),
    "d_others_in_flight_with_a_missing_exchange": (
        [["some failed", True], ["arrived", "some"]],
        [["some failed", False], ["arrived", "all"]],
    ),
    "d_waiting_for_a_promise_that_is_over": (
        [["wait", None]],
        [["wait", KEY_ERROR]],
    ),
}
