"""What programs do with Puka; each runs with Puka 0.0.8 and with ours, and both must have seen the same."""

from __future__ import annotations

import datetime
import decimal

import puka

# ---- connections ---------------------------------------------------------------------------------------------


def s_connect(s):
    client = puka.Client(s.uri)
    promise = client.connect()
    s.note("number", promise)
    result = client.wait(promise)
    s.note("name", result.name)
    s.note("keys", sorted(result))
    s.note("versions", [result["version_major"], result["version_minor"]])
    s.note("product", result["server_properties"]["product"])
    s.note("mechanisms", sorted(result["mechanisms"].split()))
    s.note("locales", result["locales"])
    s.note("capabilities", sorted(result["server_properties"]["capabilities"]))
    s.note("x_server_props", client.x_server_props == result["server_properties"])
    s.note("x_server_version", client.x_server_version)
    s.note("x_pubacks", client.x_pubacks)
    closing = client.close()
    s.note("the same number", closing == promise)
    s.note("closed", client.wait(closing))


def s_attributes(s):
    client = puka.Client("amqp://user%61:pa%2fss@ho%61st:10000/v%2fhost", heartbeat=7, client_properties={"a": "b"})
    for name in [
        "username",
        "password",
        "vhost",
        "host",
        "port",
        "ssl",
        "pubacks",
        "client_properties",
        "heartbeat",
        "frame_max",
    ]:
        s.note(name, getattr(client, name))
    s.note("pubacks", puka.Client(pubacks=False).pubacks)
    s.attempt("scheme", puka.Client, "http://host")


def s_urls(s):
    from puka.connection import parse_amqp_url

    for url in (
        "amqp:///",
        "amqp://",
        "amqp://a:b@c:1/d",
        "amqp://g%20uest:g%20uest@host/vho%20st",
        "amqp://host/%2f",
        "amqp://host/%2fabc",
        "amqp://host/",
        "amqp://host",
        "amqp://:@/",
        "amqp://user@/",
        "amqp://user:@/",
        "amqp:///vhost",
        "amqp://host/%2f%2f",
        "amqp://[::1]",
        "amqp://[::1]:77/x",
        "amqps://user:pass@host:10000/vhost",
        "amqps://host",
        "amqp://host/a?b=c",
    ):
        s.note(url, parse_amqp_url(url))


def s_unusual_urls(s):
    import random

    from puka.connection import parse_amqp_url

    urls = [
        "amqp://u:p@ss@host/",
        "amqp://u:p[w@host/",
        "amqp://u:p]w@host/",
        "amqp://u:p[1]@host/",
        "amqp://u:pa[ss]word@[::1]:5/x",
        "amqp://h:/v",
        "amqp://h:0/",
        "amqp://h:99999/",
        "amqp://h:abc/",
        "amqp://HOST/V",
        "amqp://u:p#q@host/v",
        "amqp://u:p?q@host/v",
        "amqp://h/a\nb",
        "amqp://u:p\tq@h/\r",
        "amqp://h/a;b",
        "amqp:// h/",
        "amqp://h\u2100/\xe9",
        "amqp://u%40x:%2F@h/%2F",
        "amqp://[fe80::1%25eth0]/",
    ]
    chosen = random.Random(1)
    letters = "ab:@/?#[]%2f.\\ ;=&\n\xe9"
    for _ in range(3000):
        text = "".join(chosen.choice(letters) for _ in range(chosen.randint(0, 12)))
        urls.append(chosen.choice(["amqp://", "amqps://"]) + text)
    for url in urls:
        s.attempt(url, parse_amqp_url, url)


def s_names(s):
    import puka.exceptions
    import puka.spec_exceptions

    s.note("errors", {str(code): error.__name__ for code, error in puka.ERRORS.items()})
    s.note(
        "hierarchy",
        {
            name: [base.__name__ for base in error.__mro__[1:-2]]
            for name, error in sorted(vars(puka.spec_exceptions).items())
            if isinstance(error, type) and issubclass(error, Exception) and name != "PublishNacked"
        },
    )
    s.note("broken", issubclass(puka.ConnectionBroken, OSError))
    s.note("protocol", issubclass(puka.exceptions.UnsupportedProtocol, OSError))
    parameters = puka.SslConnectionParameters()
    s.note("ssl", [parameters.certfile, parameters.keyfile, parameters.ca_certs, parameters.require_certificate])


def s_signatures(s):
    import inspect

    methods = (
        "__init__ exchange_declare exchange_delete exchange_bind exchange_unbind queue_declare queue_delete "
        "queue_purge queue_bind queue_unbind basic_publish basic_get basic_consume basic_consume_multi basic_qos "
        "basic_cancel wait wait_for_all wait_for_any loop loop_break run_any_callbacks set_callback fileno socket "
        "on_read on_write needs_write"
    )
    for name in methods.split():
        method = getattr(puka.Client, name, None)
        if method is None:
            # Puka has these only once it is connected.
            assert name in ("on_read", "on_write", "needs_write")
            s.note(name, [])
            continue
        parameters = list(inspect.signature(method).parameters.values())[1:]
        # The keyword `callback` is hidden by Puka's decorator; `body_type` is only ours.
        shown = [parameter for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY]
        s.note(name, [[parameter.name, default(parameter)] for parameter in shown])


def default(parameter):
    if parameter.default is parameter.empty:
        return "required"
    # Both take either.
    return None if parameter.default == {} else parameter.default


def s_connection_refused(s):
    import socket

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    client = puka.Client(f"amqp://127.0.0.1:{port}/")
    try:
        client.wait(client.connect(), timeout=20)
        s.note("connected", True)
    except OSError:
        s.note("refused", "OSError")


def s_no_such_host(s):
    import socket

    client = puka.Client("amqp://no-such-host.invalid/")
    try:
        client.connect()
        s.note("connected", True)
    except socket.gaierror:
        s.note("raised by connect", "gaierror")


def s_bad_login(s):
    client = puka.Client(s.uri.replace("guest:guest", "guest:wrong"))
    try:
        client.wait(client.connect(), timeout=20)
        s.note("connected", True)
    except OSError:
        s.note("refused", "OSError")


def s_outstanding_promises_fail_at_close(s):
    client = s.client()
    queue = s.queue(client)
    seen = []
    consume = client.basic_consume(queue, callback=lambda number, result: seen.append(result))
    client.wait(client.basic_publish("", queue, body="x"))
    s.note("delivery", client.wait(consume)["body"])
    client.close(callback=lambda number, result: client.loop_break())
    s.note("closed", client.loop(timeout=20))
    s.note("outstanding", [seen[-1].name, seen[-1].is_error, type(seen[-1].exception).__name__])


def s_close_by_callback(s):
    client = puka.Client(s.uri)
    seen = []

    def on_connect(number, result):
        seen.append(["connect", result.name, result.is_error])
        client.close(callback=on_close)

    def on_close(number, result):
        seen.append(["close", result.name, result.is_error])
        client.loop_break()

    client.connect(callback=on_connect)
    client.loop(timeout=20)
    s.note("seen", seen[:2])


def s_the_callback_of_a_close(s):
    client = puka.Client(s.uri)
    seen = []
    connect = client.connect(callback=lambda number, result: seen.append([number, result.name]))
    client.wait(connect)
    close = client.close(callback=lambda number, result: seen.append([number, result.name, result.is_error]))
    client.wait(close)
    s.note("seen", seen)


# ---- exchanges and queues ------------------------------------------------------------------------------------


def s_declare(s):
    client = s.client()
    queue = s.name("queue")
    s.note("declare", client.wait(client.queue_declare(queue, exclusive=True)))
    s.note("again", client.wait(client.queue_declare(queue=queue, exclusive=True)))
    s.note("passive", client.wait(client.queue_declare(queue, passive=True)))
    client.wait(client.basic_publish("", queue, body="1"))
    s.note("purge", client.wait(client.queue_purge(queue)))
    client.wait(client.basic_publish("", queue, body="2"))
    s.attempt("if_empty", client.wait, client.queue_delete(queue, if_empty=True))
    s.note("delete", client.wait(client.queue_delete(queue)))
    s.note("delete again", client.wait(client.queue_delete(queue)))
    s.attempt("gone", client.wait, client.queue_declare(queue, passive=True))
    s.attempt("purge gone", client.wait, client.queue_purge(queue))


def s_server_named(s):
    client = s.client()
    result = client.wait(client.queue_declare(exclusive=True))
    s.note("name", result["queue"].startswith("amq.gen-"))
    s.note("keys", sorted(result))


def s_declared_otherwise(s):
    client = s.client()
    queue = s.queue(client)
    s.attempt("durable", client.wait, client.queue_declare(queue, durable=True, exclusive=True))
    s.attempt("arguments", client.wait, client.queue_declare(queue, exclusive=True, arguments={"x-expires": 60000}))
    s.note("goes on", client.wait(client.queue_declare(queue, exclusive=True)))


def s_arguments(s):
    client = s.client()
    queue = s.name("queue")
    arguments = {"x-expires": 60000, "x-message-ttl": 1, "x-dead-letter-exchange": "", "x-max-length": 5}
    s.note("declare", client.wait(client.queue_declare(queue, False, False, True, False, arguments)))
    s.note("again", client.wait(client.queue_declare(queue, auto_delete=True, arguments=arguments)))
    s.attempt("other", client.wait, client.queue_declare(queue, auto_delete=True, arguments={"x-expires": 60001}))
    client.wait(client.queue_delete(queue))


def s_locked_by_another(s):
    client, other = s.client(), s.client()
    queue = s.queue(client)
    s.attempt("declare", other.wait, other.queue_declare(queue))
    s.attempt("consume", other.wait, other.basic_consume(queue))
    s.attempt("get", other.wait, other.basic_get(queue))
    s.note("goes on", other.wait(other.queue_declare(exclusive=True)).name)


def s_reserved_name(s):
    client = s.client()
    try:
        client.wait(client.queue_declare("amq.mine"))
        s.note("declared", True)
    except puka.AccessRefused as error:
        s.note("refused", error.args[0]["reply_code"])


def s_exchanges(s):
    client = s.client()
    first, second, queue = s.name("first"), s.name("second"), s.queue(client)
    s.note("declare", client.wait(client.exchange_declare(first, type="topic", auto_delete=True)))
    s.note("declare 2", client.wait(client.exchange_declare(exchange=second, type="fanout")))
    s.attempt("other type", client.wait, client.exchange_declare(second, "direct"))
    s.note("bind queue", client.wait(client.queue_bind(queue, second)))
    s.note("bind exchange", client.wait(client.exchange_bind(second, first, routing_key="a.#")))
    for key in ("a.b", "b.a", "a"):
        client.wait(client.basic_publish(first, key, body=key))
    s.note("first", client.wait(client.basic_get(queue, no_ack=True))["body"])
    s.note("second", client.wait(client.basic_get(queue, no_ack=True)))
    s.note("unbind exchange", client.wait(client.exchange_unbind(second, first, routing_key="a.#")))
    s.note("unbind queue", client.wait(client.queue_unbind(queue, second)))
    s.attempt("unbind again", client.wait, client.queue_unbind(queue, second))
    s.attempt("bind to nothing", client.wait, client.queue_bind(queue, s.name("nothing")))
    s.attempt("bind exchange to nothing", client.wait, client.exchange_bind(second, s.name("nothing")))
    s.note("delete", client.wait(client.exchange_delete(second)))
    s.note("delete again", client.wait(client.exchange_delete(second)))


def s_the_default_exchange(s):
    client = s.client()
    queue = s.queue(client)
    for what, promise in (
        ("declare", client.exchange_declare("")),
        ("delete", client.exchange_delete("")),
        ("bind queue", client.queue_bind(queue, "")),
        ("unbind queue", client.queue_unbind(queue, "")),
        ("bind to", client.exchange_bind("", "amq.topic")),
        ("bind from", client.exchange_bind("amq.fanout", "")),
        ("unbind from", client.exchange_unbind("amq.fanout", "")),
        ("bind no queue", client.queue_bind("", "amq.fanout")),
        ("a name of the broker's", client.exchange_declare("amq.mine")),
        ("a queue's name of the broker's", client.queue_declare("amq.mine")),
        ("arguments", client.queue_declare(s.name("queue"), arguments={"x-expires": 0})),
    ):
        s.note(what, refusal(client, promise))
    s.note("goes on", client.wait(client.queue_declare(queue, passive=True)))


def refusal(client, promise):
    """The error of a promise, without the broker's words."""
    result = client.wait(promise, raise_errors=False)
    seen = [result.name, result.method_id, result.is_error, result["reply_code"], "reply_text" in result]
    error = result.exception
    return [*seen, type(error).__name__, error.reply_code, error.args[0] is result]


def s_defaults(s):
    client = s.client()
    queue, exchange, other = s.name("queue"), s.name("exchange"), s.name("other")
    client.wait(client.queue_declare(queue))
    client.wait(client.queue_declare(queue, False, False, False, False, {}))
    client.wait(client.exchange_declare(exchange))
    client.wait(client.exchange_declare(exchange, "direct", False, False, {}))
    client.wait(client.exchange_declare(other, type="fanout", auto_delete=True))
    client.wait(client.queue_bind(queue, exchange))
    client.wait(client.queue_unbind(queue, exchange, "", {}))
    client.wait(client.exchange_bind(other, exchange))
    client.wait(client.exchange_unbind(other, exchange, "", {}))
    client.wait(client.basic_publish(exchange))
    client.wait(client.basic_publish(exchange, "", False, {}, ""))
    client.wait(client.basic_publish("", queue))
    got = client.wait(client.basic_get(queue))
    s.note("published", got)
    # With acks, and requeued.
    client.basic_reject(got)
    again = client.wait(client.basic_consume(queue))
    s.note("again", [again["body"], again["redelivered"]])
    client.basic_ack(again)
    s.note("delete", client.wait(client.queue_delete(queue, False, False)))
    s.note("delete exchange", client.wait(client.exchange_delete(exchange, False)))


def s_refused_among_others(s):
    client = s.client()
    queue, exchange = s.queue(client), s.name("exchange")
    client.wait(client.exchange_declare(exchange, auto_delete=True))
    publish(client, queue, 10)
    promises = []
    for number in range(10):
        promises += [
            ("get", client.basic_get(queue, no_ack=True)),
            ("no queue", client.queue_declare(s.name("nothing"), passive=True)),
            ("get from no queue", client.basic_get(s.name("nothing"), no_ack=True)),
            ("declare", client.queue_declare(queue, passive=True)),
            ("bind", client.queue_bind(queue, exchange, str(number))),
            ("bind to nothing", client.queue_bind(queue, s.name("nothing"))),
            ("get to ack from no queue", client.basic_get(s.name("nothing"))),
        ]
    results = [(what, client.wait(promise, raise_errors=False)) for what, promise in promises]
    s.note("names", sorted({(what, result.name) for what, result in results}))
    s.note("bodies", sorted(result["body"] for what, result in results if what == "get"))


def s_exchange_in_use(s):
    client = s.client()
    exchange, queue = s.name("exchange"), s.queue(client)
    client.wait(client.exchange_declare(exchange))
    client.wait(client.queue_bind(queue, exchange, "k"))
    s.attempt("if_unused", client.wait, client.exchange_delete(exchange, if_unused=True))
    client.wait(client.queue_unbind(queue, exchange, "k"))
    s.note("delete", client.wait(client.exchange_delete(exchange, if_unused=True)))


def s_unknown_exchange_type(s):
    client = s.client()
    s.attempt("declare", client.wait, client.exchange_declare(s.name("exchange"), type="no-such-type"))


def s_headers_exchange(s):
    client = s.client()
    exchange, queue = s.name("exchange"), s.queue(client)
    client.wait(client.exchange_declare(exchange, type="headers", auto_delete=True))
    client.wait(client.queue_bind(queue, exchange, arguments={"x-match": "all", "a": 1, "b": "x"}))
    client.wait(client.basic_publish(exchange, headers={"a": 1, "b": "x"}, body="both"))
    client.wait(client.basic_publish(exchange, headers={"a": 1}, body="one"))
    s.note("first", client.wait(client.basic_get(queue, no_ack=True)))
    s.note("second", client.wait(client.basic_get(queue, no_ack=True)))
    client.wait(client.queue_unbind(queue, exchange, arguments={"x-match": "all", "a": 1, "b": "x"}))


# ---- messages ------------------------------------------------------------------------------------------------


def s_publish_and_get(s):
    client = s.client()
    queue = s.queue(client)
    s.note("publish", client.wait(client.basic_publish(exchange="", routing_key=queue, body="hello")))
    s.note("default body", client.wait(client.basic_publish("", queue)))
    message = client.wait(client.basic_get(queue))
    s.note("get", message)
    s.note("keys", sorted(message))
    s.note("ack", client.basic_ack(message))
    empty = client.wait(client.basic_get(queue, no_ack=True))
    # It is not settled: the tag only tells what its channel was used for before.
    del empty["delivery_tag"]
    s.note("empty body", empty)
    s.note("empty", client.wait(client.basic_get(queue)))
    s.attempt("no such queue", client.wait, client.basic_get(s.name("nothing")))
    s.note("counts", client.wait(client.queue_declare(queue, passive=True)))


def s_properties(s):
    client = s.client()
    queue = s.queue(client)
    headers = {
        "content_type": "text/plain",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "priority": 3,
        "correlation_id": "c",
        "reply_to": "r",
        "expiration": "60000",
        "message_id": "m",
        "timestamp": 1234567890,
        "type_": "t",
        "user_id": "guest",
        "app_id": "a",
        "cluster_id": "k",
    }
    client.wait(client.basic_publish("", queue, headers=headers, body="x"))
    s.note("all", client.wait(client.basic_get(queue, no_ack=True)))
    client.wait(client.basic_publish("", queue, headers={"delivery_mode": 1}, body="x"))
    s.note("one", client.wait(client.basic_get(queue, no_ack=True))["headers"])
    s.attempt("headers", client.basic_publish, "", queue, headers={"headers": {}})
    s.note("not changed", sorted(headers))


def s_header_values(s):
    client = s.client()
    queue = s.queue(client)
    headers = {
        "int": 5,
        "negative": -5,
        "32 bits": 2**31 - 1,
        "33 bits": 2**31,
        "long": 2**63 - 1,
        "-long": -(2**63),
        "text": "text",
        "bytes": b"bytes",
        "empty": "",
        "true": True,
        "false": False,
        "none": None,
        "float": 1.5,
        "decimal": decimal.Decimal("1.25"),
        "-decimal": decimal.Decimal("-0.01"),
        "time": datetime.datetime(2020, 2, 29, 12, 30, 15),
        "table": {"a": 1, "b": {"c": "d"}},
        "list": [1, "two", [3.0, None], {"four": 4}],
        "empty list": [],
        "empty table": {},
    }
    client.wait(client.basic_publish("", queue, headers=headers, body="x"))
    s.note("headers", client.wait(client.basic_get(queue, no_ack=True))["headers"])
    s.attempt("too long", client.basic_publish, "", queue, headers={"x": 2**64})
    s.attempt("unsupported", client.basic_publish, "", queue, headers={"x": set()})


def s_bodies(s):
    client = s.client()
    queue = s.queue(client)
    for what, body in (
        ("text", "text"),
        ("bytes", b"bytes"),
        ("utf-8", "h\xe9llo \u20ac \U0001f600".encode("utf-8")),
        ("nul", b"a\0b"),
        ("empty", b""),
    ):
        client.wait(client.basic_publish("", queue, body=body))
        s.note(what, client.wait(client.basic_get(queue, no_ack=True))["body"])


def s_large_bodies(s):
    client = s.client()
    queue = s.queue(client)
    for size in (131064, 131065, 1024 * 1024, 3 * 1024 * 1024 + 1):
        body = "0123456789abcdef" * (size // 16) + "x" * (size % 16)
        client.wait(client.basic_publish("", queue, body=body))
        received = client.wait(client.basic_get(queue, no_ack=True))["body"]
        s.note(str(size), received == body)


def s_unroutable(s):
    client = s.client()
    nowhere = s.name("nowhere")
    s.note("not mandatory", client.wait(client.basic_publish("", nowhere, body="x")))
    promise = client.basic_publish("", nowhere, mandatory=True, headers={"message_id": "m", "k": 1}, body="body")
    s.attempt("mandatory", client.wait, promise)
    promise = client.basic_publish("", nowhere, True, {}, "body")
    s.note("without raising", client.wait(promise, raise_errors=False))


def s_returns_among_others(s):
    client = s.client()
    queue, nowhere = s.queue(client), s.name("nowhere")
    routes = [queue if number % 3 else nowhere for number in range(60)]
    promises = [client.basic_publish("", route, mandatory=True, body=str(i)) for i, route in enumerate(routes)]
    results = [client.wait(promise, raise_errors=False) for promise in promises]
    s.note("returned", [result.is_error for result in results] == [route == nowhere for route in routes])
    s.note("bodies", [result["body"] for result in results if result.is_error])
    s.note("arrived", client.wait(client.queue_declare(queue, passive=True))["message_count"])


def s_publish_to_missing_exchange(s):
    client = s.client()
    queue = s.queue(client)
    s.attempt("missing", client.wait, client.basic_publish(s.name("exchange"), "k", body="x"))
    s.note("goes on", client.wait(client.basic_publish("", queue, body="x")))
    promises = [client.basic_publish(s.name("exchange"), "k", body="x") for _ in range(10)]
    s.note("each", [client.wait(promise, raise_errors=False).is_error for promise in promises])
    s.note("goes on again", client.wait(client.basic_publish("", queue, body="x")))
    s.note("arrived", client.wait(client.queue_declare(queue, passive=True))["message_count"])


def s_without_pubacks(s):
    client = s.client(pubacks=False)
    queue = s.queue(client)
    s.note("x_pubacks", client.x_pubacks)
    s.note("publish", client.wait(client.basic_publish("", queue, body="x")))
    s.attempt("mandatory", client.wait, client.basic_publish("", s.name("nowhere"), mandatory=True, body="x"))
    s.attempt("missing", client.wait, client.basic_publish(s.name("exchange"), "k", body="x"))
    s.note("get", client.wait(client.basic_get(queue, no_ack=True))["body"])


def s_unacked_gets_among_refused_operations(s):
    client = s.client()
    queue = s.queue(client)
    publish(client, queue, 2)
    first = client.wait(client.basic_get(queue))
    s.note("refused", refusal(client, client.queue_declare(s.name("nothing"), passive=True)))
    second = client.wait(client.basic_get(queue))
    s.note("refused too", refusal(client, client.basic_get(s.name("nothing"))))
    s.note("in hand", [first["body"], second["body"]])
    s.note("left", client.wait(client.queue_declare(queue, passive=True))["message_count"])
    s.note("acks", [client.basic_ack(first), client.basic_ack(second)])
    s.note("goes on", client.wait(client.basic_get(queue)))


def s_refused_properties(s):
    for what, headers in (
        ("no number", {"expiration": "abc"}),
        ("negative", {"expiration": "-1"}),
        ("mode 0", {"delivery_mode": 0}),
        ("mode 3", {"delivery_mode": 3}),
        ("CC", {"CC": "x"}),
        ("BCC", {"BCC": 5}),
        ("no consumer of answers", {"reply_to": "amq.rabbitmq.reply-to"}),
        ("another user", {"user_id": "other"}),
    ):
        client = s.client()
        queue = s.queue(client)
        seen = []

        def callback(number, result, seen=seen):
            seen.append(result)

        promise = client.basic_publish("", queue, headers=headers, callback=callback)
        s.note(what, refusal(client, promise))
        s.note("callback", len(seen))
        s.note("goes on", client.wait(client.basic_publish("", queue, body="x")))


def s_none_is_no_text(s):
    client = s.client()
    s.attempt("body", client.basic_publish, "", "nowhere", body=None)
    s.attempt("routing key", client.basic_publish, "", None, body="x")
    s.attempt("queue", client.queue_declare, None)


# ---- consuming -----------------------------------------------------------------------------------------------


def publish(client, queue, count, start=0):
    client.wait_for_all([client.basic_publish("", queue, body=str(start + number)) for number in range(count)])


def s_consume(s):
    client = s.client()
    queue = s.queue(client)
    publish(client, queue, 3)
    consume = client.basic_consume(queue)
    first = client.wait(consume)
    s.note("first", first)
    s.note("keys", sorted(first))
    s.note("its promise", first["promise_number"] == consume)
    s.note("tag", first["consumer_tag"] == f"{consume}.0.")
    client.basic_ack(first)
    second = client.wait(consume)
    s.note("reject", client.basic_reject(second))
    third = client.wait(consume)
    s.note("third", third)
    client.basic_reject(third, requeue=False)
    again = client.wait(consume)
    s.note("again", [again["body"], again["redelivered"]])
    client.basic_ack(again)
    s.note("nothing", client.wait(consume, timeout=0.2))
    cancelled = client.wait(client.basic_cancel(consume))
    s.note("cancelled", cancelled)
    s.note("tag of the cancel", cancelled["consumer_tag"] == first["consumer_tag"])
    s.note("left", client.wait(client.queue_declare(queue, passive=True)))


def s_double_ack(s):
    client = s.client()
    queue = s.queue(client)
    publish(client, queue, 1)
    message = client.wait(client.basic_consume(queue))
    client.basic_ack(message)
    s.attempt("double", client.basic_ack, message)


def s_ack_of_a_tag_that_was_never_given(s):
    ack_of(s, 99)


def s_ack_of_tag_0(s):
    ack_of(s, 0)


def ack_of(s, tag):
    client = s.client()
    queue = s.queue(client)
    publish(client, queue, 2)
    consume = client.basic_consume(queue, prefetch_count=1)
    message = client.wait(consume)
    message["delivery_tag"] = tag
    s.attempt("ack", client.basic_ack, message)
    s.attempt("the promise", client.wait, consume)
    # It went back to its queue, and the connection is there.
    s.eventually(lambda: client.wait(client.queue_declare(queue, passive=True))["message_count"] == 2)
    s.note("again", client.wait(client.basic_get(queue))["body"])


def s_reject_of_a_tag_that_was_never_given(s):
    client = s.client()
    queue = s.queue(client)
    publish(client, queue, 1)
    consume = client.basic_consume(queue)
    message = client.wait(consume)
    message["delivery_tag"] = 99
    s.attempt("reject", client.basic_reject, message)
    s.attempt("the promise", client.wait, consume)


def s_the_buffer_of_what_is_to_be_sent(s):
    client = s.client()
    queue = s.queue(client)
    s.note("at first", (bool(client.send_buf), len(client.send_buf)))
    promises = [client.basic_publish("", queue, body="x" * 1000) for _ in range(2)]
    buffer = client.send_buf
    s.note("after publishes", (bool(buffer), len(buffer) > 2000, len(buffer) < 3000, client.needs_write()))
    client.wait(promises)
    s.note("after a wait", (bool(client.send_buf), client.needs_write()))


def s_consume_without_acks(s):
    client = s.client()
    queue = s.queue(client)
    publish(client, queue, 2)
    consume = client.basic_consume(queue, no_ack=True)
    message = client.wait(consume)
    s.note("first", message["body"])
    s.attempt("ack", client.basic_ack, message)


def s_double_ack_of_a_get(s):
    client = s.client()
    queue = s.queue(client)
    publish(client, queue, 1)
    message = client.wait(client.basic_get(queue))
    client.basic_ack(message)
    s.attempt("double", client.basic_ack, message)


def s_reject_a_get(s):
    client = s.client()
    queue = s.queue(client)
    publish(client, queue, 1)
    client.basic_reject(client.wait(client.basic_get(queue)))
    again = []

    def redelivered():
        message = client.wait(client.basic_get(queue))
        again.extend([message] if "body" in message else [])
        return again

    s.eventually(redelivered)
    s.note("again", [again[0]["body"], again[0]["redelivered"]])


def s_prefetch(s):
    client = s.client()
    queue = s.queue(client)
    publish(client, queue, 10)
    consume = client.basic_consume(queue, prefetch_count=3)
    messages = [client.wait(consume) for _ in range(3)]
    s.note("bodies", [message["body"] for message in messages])
    s.note("no more", client.wait(consume, timeout=0.3))
    client.basic_ack(messages[1])
    s.note("one more", client.wait(consume)["body"])
    s.note("and no more", client.wait(consume, timeout=0.3))


def s_consume_a_missing_queue(s):
    client = s.client()
    s.attempt("consume", client.wait, client.basic_consume(s.name("nothing")))
    s.note("goes on", client.wait(client.queue_declare(exclusive=True)).name)


def s_exclusive_consumers(s):
    client = s.client()
    queue = s.queue(client)
    consume = client.basic_consume(queue, exclusive=True)
    publish(client, queue, 1)
    client.wait(consume)
    s.attempt("second", client.wait, client.basic_consume(queue))


def s_cancelled_by_the_broker(s):
    client, other = s.client(), s.client()
    queue = s.name("queue")
    client.wait(client.queue_declare(queue))
    publish(client, queue, 1)
    consume = client.basic_consume(queue)
    message = client.wait(consume)
    client.basic_ack(message)
    other.wait(other.queue_delete(queue))
    result = client.wait(consume, timeout=20)
    s.note("end", result)
    s.note("tag", result["consumer_tag"] == message["consumer_tag"])
    s.note("goes on", client.wait(client.queue_declare(exclusive=True)).name)


def s_consume_several(s):
    client = s.client()
    first, second = s.queue(client, "first"), s.queue(client, "second")
    consume = client.basic_consume_multi([first, {"queue": second, "consumer_tag": "mine"}], prefetch_count=10)
    seen = []
    tags = {}
    for queue, body in ((first, "1"), (second, "2"), (first, "3")):
        client.wait(client.basic_publish("", queue, body=body))
        message = client.wait(consume)
        seen.append([message["routing_key"], message["body"], message["promise_number"] == consume])
        tags[message["routing_key"]] = message["consumer_tag"]
        client.basic_ack(message)
    s.note("seen", seen)
    s.note("tags", [tags[first] == f"{consume}.0.", tags[second] == f"{consume}.1.mine"])
    s.note("cancel", client.wait(client.basic_cancel(consume)))
    client.wait(client.basic_publish("", first, body="4"))
    s.note("left", client.wait(client.queue_declare(first, passive=True)))


def s_consume_several_one_missing(s):
    client = s.client()
    queue = s.queue(client)
    s.attempt("consume", client.wait, client.basic_consume_multi([queue, s.name("nothing")]))
    s.note("goes on", client.wait(client.queue_declare(queue, passive=True)))


def s_consume_several_options(s):
    client = s.client()
    queue = s.queue(client)
    consume = client.basic_consume_multi(
        [{"queue": queue, "no_local": False, "exclusive": True, "arguments": {"x-priority": 5}}], no_ack=True
    )
    publish(client, queue, 2)
    s.note("bodies", [client.wait(consume)["body"], client.wait(consume)["body"]])
    s.attempt("exclusive", client.wait, client.basic_consume(queue))


def s_qos_of_an_exclusive_consumer(s):
    client, other = s.client(), s.client()
    queue = s.name("queue")
    other.wait(other.queue_declare(queue, auto_delete=True))
    publish(other, queue, 5)
    consume = client.basic_consume(queue, prefetch_count=1, exclusive=True)
    client.basic_ack(client.wait(consume))
    s.note("qos", client.wait(client.basic_qos(consume, prefetch_count=3)))
    s.note("next", client.wait(consume)["body"])
    s.note("left", other.wait(other.queue_declare(queue, passive=True, auto_delete=True)))


def arrived(s, client, consume, count, *queues):
    """Have this many deliveries of a consumer at the client."""

    def left():
        promises = [client.queue_declare(queue, passive=True) for queue in queues]
        return sum(client.wait(promise)["message_count"] for promise in promises)

    s.eventually(lambda: left() == 0)
    if hasattr(client, "_results"):
        s.eventually(lambda: client._results(consume) >= count)
    else:
        # What Puka asks on their channel is answered behind them; ours asks for no limit that the broker does not count.
        client.wait(client.basic_qos(consume, prefetch_count=0))


def s_what_came_without_acks_before_a_cancel(s):
    client = s.client()
    queue = s.queue(client)
    publish(client, queue, 5)
    consume = client.basic_consume(queue, no_ack=True)
    bodies = [client.wait(consume)["body"]]
    s.note("cancel", client.wait(client.basic_cancel(consume)).name)
    bodies += [client.wait(consume, timeout=20)["body"] for _ in range(4)]
    s.note("bodies", bodies)


def s_what_came_without_acks_before_a_close(s):
    client = s.client()
    queues = [s.queue(client), s.queue(client)]
    seen = []

    def callback(number, result):
        seen.append(type(result.exception).__name__ if result.is_error else result["body"])

    for queue in queues:
        publish(client, queue, 5)
    consume = client.basic_consume_multi(queues, no_ack=True, callback=callback)
    client.wait(consume)
    arrived(s, client, consume, 9, *queues)
    client.close(callback=lambda number, result: client.loop_break())
    # Not run by the loop, which the callback of the close may end before them.
    client.loop(timeout=20)
    client.run_any_callbacks()
    s.note("how many", len(seen))
    s.note("the last", seen[-1])


def s_everything_that_is_ready(s):
    client = s.client()
    for run in (client.run_any_callbacks, lambda: client.loop(timeout=0)):
        queue = s.queue(client)
        publish(client, queue, 1000)
        seen = []

        def callback(number, result, seen=seen):
            seen.append(result["body"])

        consume = client.basic_consume(queue, no_ack=True, callback=callback)
        client.wait(consume)
        arrived(s, client, consume, 999, queue)
        s.note("returns", run())
        s.note("seen", len(seen))


def s_qos_result(s):
    client = s.client()
    queue = s.queue(client)
    consume = client.basic_consume(queue, prefetch_count=1)
    publish(client, queue, 1)
    client.wait(consume)
    s.note("qos", client.wait(client.basic_qos(consume, prefetch_count=5)))
    s.attempt("unknown", client.basic_qos, 123456)
    s.attempt("cancel unknown", client.basic_cancel, 123456)


# ---- promises, callbacks, loops ------------------------------------------------------------------------------


def s_callbacks(s):
    client = s.client()
    seen = []

    def callback(number, result):
        seen.append([number == promise, result.name])

    promise = client.queue_declare(exclusive=True, callback=callback)
    result = client.wait(promise)
    s.note("seen", seen)
    s.note("result", sorted(result))


def s_nested_callbacks(s):
    client = puka.Client(s.uri)
    s.clients.append(client)
    queue = s.name("queue")
    seen = []

    def on_connect(number, result):
        seen.append(result.name)
        client.queue_declare(queue, exclusive=True, callback=on_declare)

    def on_declare(number, result):
        seen.append(result.name)
        client.basic_publish("", queue, body="x", callback=on_publish)

    def on_publish(number, result):
        seen.append(result)
        client.basic_consume(queue, callback=on_delivery)

    def on_delivery(number, result):
        seen.append(result["body"])
        client.basic_ack(result)
        # Waiting inside of a callback.
        seen.append(client.wait(client.queue_purge(queue))["message_count"])
        client.loop_break()

    client.connect(callback=on_connect)
    client.loop(timeout=20)
    s.note("seen", seen)


def s_callbacks_of_errors(s):
    client = s.client()
    seen = []

    def callback(number, result):
        seen.append([result.is_error, type(result.exception).__name__, result["reply_code"]])

    promise = client.queue_declare(s.name("nothing"), passive=True, callback=callback)
    s.attempt("raised too", client.wait, promise)
    client.queue_declare(
        s.name("nothing"), passive=True, callback=lambda number, result: (callback(number, result), client.loop_break())
    )
    s.note("loop", client.loop(timeout=20))
    s.note("seen", seen)


def s_callbacks_that_raise(s):
    client = s.client()

    def callback(number, result):
        raise ValueError("mine")

    s.attempt("wait", client.wait, client.queue_declare(exclusive=True, callback=callback))
    client.queue_declare(exclusive=True, callback=callback)
    s.attempt("loop", client.loop, timeout=20)
    s.note("goes on", client.wait(client.queue_declare(exclusive=True)).name)


def s_set_callback(s):
    client = s.client()
    seen = []
    promise = client.queue_declare(exclusive=True)
    s.note("returns", client.set_callback(promise, lambda number, result: seen.append(result.name)))
    client.wait(promise)
    s.note("seen", seen)
    s.attempt("unknown", client.set_callback, 123456, None)
    s.attempt("over", client.set_callback, promise, None)


def s_wait_for_several(s):
    client = s.client()
    promises = [client.queue_declare(exclusive=True) for _ in range(5)]
    names = set()
    for _ in range(5):
        names.add(client.wait(promises)["queue"])
    s.note("results", len(names))
    s.note("set", client.wait({client.queue_declare(exclusive=True)}).name)
    s.note("for all", client.wait_for_all([client.queue_declare(exclusive=True) for _ in range(3)]))
    bad = client.queue_declare(s.name("nothing"), passive=True)
    s.attempt("for all, an error", client.wait_for_all, [client.queue_declare(exclusive=True), bad])
    bad = client.queue_declare(s.name("nothing"), passive=True)
    s.note("for all, not raised", client.wait_for_all([bad], raise_errors=False))


def s_waiting_in_any_order(s):
    client = s.client()
    queue = s.queue(client)
    promises = [client.basic_publish("", queue, body=str(number)) for number in range(500)]
    for promise in reversed(promises):
        client.wait(promise)
    s.note("arrived", client.wait(client.queue_declare(queue, passive=True))["message_count"])


def s_timeouts(s):
    client = s.client()
    queue = s.queue(client)
    consume = client.basic_consume(queue)
    s.note("wait", client.wait(consume, timeout=0.1))
    s.note("wait 0", client.wait(consume, timeout=0))
    s.note("loop", client.loop(timeout=0.1))
    s.note("loop 0", client.loop(timeout=0))
    publish(client, queue, 1)
    s.note("delivery", client.wait(consume, timeout=20)["body"])


def s_loop_and_break(s):
    client = s.client()
    queue = s.queue(client)
    seen = []

    def on_delivery(number, result):
        seen.append(result["body"])
        client.basic_ack(result)
        if len(seen) == 5:
            client.loop_break()

    client.basic_consume(queue, prefetch_count=1, callback=on_delivery)
    publish(client, queue, 5)
    s.note("loop", client.loop(timeout=20))
    s.note("seen", seen)
    publish(client, queue, 5, start=5)
    client.loop_break()
    s.note("an early break is forgotten", client.loop(timeout=0.3))
    s.note("all", seen)


def s_run_any_callbacks(s):
    client = s.client()
    seen = []
    for _ in range(3):
        client.queue_declare(exclusive=True, callback=lambda number, result: seen.append(result.name))
    s.note("nothing yet", [client.run_any_callbacks(), len(seen) <= 3])

    def ready():
        select_once(client)
        client.run_any_callbacks()
        return len(seen) == 3

    s.eventually(ready)
    s.note("seen", seen)


def select_once(client):
    import select

    readable, writable, _ = select.select([client], [client] if client.needs_write() else [], [client], 0.1)
    if readable:
        client.on_read()
    if writable:
        client.on_write()


def s_many_in_flight(s):
    client = s.client()
    promises = [client.queue_declare(exclusive=True) for _ in range(1000)]
    s.note("names", len({client.wait(promise)["queue"] for promise in promises}))
