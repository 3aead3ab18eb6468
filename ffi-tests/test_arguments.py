"""Arguments: what is taken, what is refused, and that a refusal names the argument."""

from __future__ import annotations

import array
import ctypes
import datetime
import inspect
import math
import pathlib
import re
import typing
from datetime import timedelta

import pytest

import murano_messaging as mm
from murano_messaging import aio

ROOT = pathlib.Path(__file__).resolve().parent.parent
MINUTE = timedelta(minutes=1)


@pytest.fixture
def client(uri):
    with mm.connect(uri) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("consume", {"queue": "q", "tag": 5}, "tag must be a str, not int"),
        ("consume", {"queue": "q", "no_ack": "no"}, "no_ack must be a bool, not str"),
        ("consume", {"queue": "q", "prefetch": 1.5}, "prefetch must be an int, not float"),
        ("consume", {"queue": "q", "priority": "high"}, "priority must be an int, not str"),
        ("declare_queue", {"name": "q", "durable": "yes"}, "durable must be a bool, not str"),
        ("declare_queue", {"name": "q", "max_length": "9"}, "max_length must be an int, not str"),
        ("declare_queue", {"name": "q", "dead_letter_exchange": b"x"}, "dead_letter_exchange must be a str, not bytes"),
        ("declare_exchange", {"name": "x", "internal": 1}, "internal must be a bool, not int"),
        ("publish", {"body": b"", "persistent": "yes"}, "persistent must be a bool, not str"),
        ("publish", {"body": b"", "timestamp": 1.5}, "timestamp must be a datetime, or seconds since 1970 as int, not"),
        ("publish", {"body": b"", "type": 5}, "type must be a str, not int"),
        ("publish", {"body": b"", "priority": "5"}, "priority must be an int, not str"),
        ("publish", {"body": b"", "exchange": 5}, "exchange must be a str, not int"),
        ("publish", {"body": b"", "routing_key": b"q"}, "routing_key must be a str, not bytes"),
        ("publish_nowait", {"body": b"", "mandatory": 1}, "mandatory must be a bool, not int"),
        ("consume", {"queue": None}, "queue must be a str, not NoneType"),
        ("consume", {"queue": "q", "stream_offset": True}, "stream_offset must be a str, an int, a datetime or a timed"),
        ("get", {"queue": b"q"}, "queue must be a str, not bytes"),
        ("get", {"queue": "q", "no_ack": 1}, "no_ack must be a bool, not int"),
        ("declare_queue", {"name": 5}, "name must be a str, not int"),
        ("declare_queue", {"name": None}, "name must be a str, not NoneType"),
        ("queue_info", {"name": None}, "name must be a str, not NoneType"),
        ("purge_queue", {"name": 5}, "name must be a str, not int"),
        ("delete_queue", {"name": 5}, "name must be a str, not int"),
        ("delete_queue", {"name": "q", "if_empty": "no"}, "if_empty must be a bool, not str"),
        ("delete_queue", {"name": "q", "if_unused": None}, "if_unused must be a bool, not NoneType"),
        ("declare_exchange", {"name": 5}, "name must be a str, not int"),
        ("declare_exchange", {"name": "x", "type": b"topic"}, "type must be a str, not bytes"),
        ("declare_exchange", {"name": "x", "type": None}, "type must be a str, not NoneType"),
        ("check_exchange", {"name": 5}, "name must be a str, not int"),
        ("delete_exchange", {"name": 5}, "name must be a str, not int"),
        ("delete_exchange", {"name": "x", "if_unused": 1}, "if_unused must be a bool, not int"),
        ("bind", {"queue": 5, "exchange": "x"}, "queue must be a str, not int"),
        ("bind", {"queue": "q", "exchange": None}, "exchange must be a str, not NoneType"),
        ("bind", {"queue": "q", "exchange": "x", "routing_key": None}, "routing_key must be a str, not NoneType"),
        ("unbind", {"queue": "q", "exchange": "x", "routing_key": 5}, "routing_key must be a str, not int"),
        ("bind_exchange", {"destination": 5, "source": "x"}, "destination must be a str, not int"),
        ("unbind_exchange", {"destination": "x", "source": 5}, "source must be a str, not int"),
        ("forget", {"name": 5}, "name must be a str, not int"),
        ("update_secret", {"secret": b"x"}, "secret must be a str, not bytes"),
        ("update_secret", {"secret": "x", "reason": 5}, "reason must be a str, not int"),
    ],
)
def test_a_type_that_cannot_be_is_said_of_its_argument(client, method, arguments, message):
    # In its text: notes are for tracebacks, and Python before 3.11 has none.
    with pytest.raises(TypeError, match=re.escape(message)):
        getattr(client, method)(**arguments)


def test_a_type_that_cannot_be_is_said_of_what_is_not_the_client(client, queue):
    client.declare_queue(queue, exclusive=True)
    client.publish(b"x", routing_key=queue)
    with pytest.raises(TypeError, match="confirmations must be an iterable of Confirmation, not int"):
        mm.wait_all(5)
    with client.consume(queue) as deliveries:
        with pytest.raises(TypeError, match="requeue must be a bool, not str"):
            deliveries.recover("no")
        delivery = deliveries.get(timeout=30)
        with pytest.raises(TypeError, match="requeue must be a bool, not str"):
            delivery.nack("no")
        delivery.nack(requeue=False)


LONE = "lone \ud800"


@pytest.mark.parametrize(
    ("method", "arguments", "named"),
    [
        ("publish", {"body": LONE}, "the body"),
        ("publish", {"body": b"", "routing_key": LONE}, "routing_key"),
        ("publish", {"body": b"", "exchange": LONE}, "exchange"),
        ("publish", {"body": b"", "message_id": LONE}, "message_id"),
        ("publish", {"body": b"", "headers": {LONE: 1}}, "a key of headers"),
        ("publish", {"body": b"", "headers": {"a": [LONE]}}, 'headers["a"]'),
        ("declare_queue", {"name": LONE}, "name"),
        ("declare_queue", {"name": "q", "dead_letter_exchange": LONE}, "dead_letter_exchange"),
        ("consume", {"queue": LONE}, "queue"),
        ("bind", {"queue": "q", "exchange": "x", "routing_key": LONE}, "routing_key"),
    ],
)
def test_text_that_is_not_unicode_is_refused_under_its_name(client, method, arguments, named):
    with pytest.raises(mm.InvalidArgumentError, match=re.escape(f"{named} has a lone surrogate")):
        getattr(client, method)(**arguments)


def test_json_that_is_not_unicode_is_refused(client):
    for body in ({"a": LONE}, {LONE: 1}, [LONE]):
        with pytest.raises(mm.JsonError, match="surrogates"):
            client.publish(body, routing_key="nowhere", mandatory=False)


@pytest.mark.parametrize(
    "options",
    [
        {"uri": "amqp://guest:hunter2\ud800@localhost"},
        {"username": "guest", "password": "hunter2\ud800"},
        {"key_pem": "hunter2\ud800", "cert_pem": "", "tls": True},
    ],
)
def test_a_secret_that_is_not_unicode_is_not_repeated(options):
    with pytest.raises(mm.InvalidArgumentError, match="lone surrogate") as caught:
        mm.connect(**options)
    error = caught.value
    assert "hunter2" not in repr(error)
    assert error.__cause__ is None and error.__context__ is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ca_file": b"/ca.pem"}, "ca_file must be a path as str or os.PathLike, not bytes"),
        ({"cert_file": 5}, "cert_file must be a path as str or os.PathLike, not int"),
        ({"vhost": b"/"}, "vhost must be a str, not bytes"),
        ({"username": 1, "password": "x"}, "username must be a str, not int"),
        ({"mechanism": 1}, "mechanism must be a str, not int"),
        ({"tls": "yes"}, "tls must be a bool, not str"),
        ({"frame_max": "big"}, "frame_max must be an int, not str"),
        ({"hosts": [("host", "port")]}, "a host that is a pair must be a str and an int"),
        ({"recovery": mm.Recovery(max_attempts="3")}, "max_attempts must be an int, not str"),
        ({"recovery": mm.Recovery(enabled="yes")}, "enabled must be a bool, not str"),
        ({"uri": b"amqp://localhost"}, "uri must be a str, not bytes"),
        ({"hosts": 5}, "hosts must be a str, a pair of str and int, or a list of them, not int"),
    ],
)
def test_a_type_that_connect_cannot_take_is_said_of_its_argument(options, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        mm.connect(**options)


class Scalar(array.array):
    """As NumPy's moments: its buffer is one of bytes, but it has no dimension."""

    ndim = 0


def scalars():
    yield from (ctypes.c_int64(5), ctypes.c_double(0.5), ctypes.c_bool(True), Scalar("B", b"12345678"))
    try:
        import numpy
    except ImportError:
        return
    yield from (numpy.int64(5), numpy.float32(0.5), numpy.bool_(True), numpy.datetime64("2026-01-01"), numpy.array(5))


@pytest.mark.parametrize("scalar", list(scalars()), ids=lambda scalar: type(scalar).__name__)
def test_a_number_that_has_a_buffer_is_not_taken_for_bytes(client, scalar):
    """One rule for bodies and headers: refused, as 5 is as a body."""
    with pytest.raises(TypeError, match=re.escape('headers["n"] must be None, bool, int')) as caught:
        client.publish(b"", headers={"n": scalar})
    # Two types of one name are told apart by their modules.
    assert f"not {type(scalar).__module__}." in str(caught.value)
    for publish in (client.publish, client.publish_nowait):
        with pytest.raises(TypeError, match="the body must be bytes-like, str, dict or list, not "):
            publish(scalar)


def test_what_has_a_dimension_is_bytes(client, queue):
    client.declare_queue(queue, exclusive=True)
    for body in (array.array("B", b"123"), (ctypes.c_char * 3)(*b"123"), memoryview(b"12345")[:3], bytearray(b"123")):
        client.publish(body, routing_key=queue, headers={"n": body})
        delivery = client.get(queue, no_ack=True)
        assert (delivery.body, delivery.headers["n"]) == (b"123", b"123")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"prefetch": 70_000}, "prefetch is 70000; it must be from 0 to 65535"),
        ({"prefetch": -1}, "prefetch is -1; it must be from 0 to 65535"),
        ({"priority": 2**31}, "priority is 2147483648; it must be from -2147483648 to 2147483647"),
    ],
)
def test_a_number_out_of_range_is_told_the_range(client, call, message):
    with pytest.raises(mm.InvalidArgumentError, match=re.escape(message)):
        client.consume("q", **call)


@pytest.mark.parametrize("expires", [0, 0.0001, timedelta(0)])
def test_a_queue_that_expires_at_once_is_refused_in_seconds(client, queue, expires):
    with pytest.raises(mm.InvalidArgumentError, match=r"^expires is .* in seconds; it must be 0.001 or more"):
        client.declare_queue(queue, expires=expires)


ELSEWHERE = [
    ("connect", "host", "hosts"),
    ("connect", "port", "hosts"),
    ("connect", "login", "username"),
    ("connect", "userid", "username"),
    ("connect", "ssl", "tls"),
    ("connect", "ssl_options", "tls"),
    ("connect", "virtual_host", "vhost"),
    ("connect", "heartbeat_interval", "heartbeat"),
    ("connect", "connection_attempts", "recovery"),
    ("connect", "blocked_connection_timeout", "timeout"),
    ("connect", "socket_timeout", "connect_timeout"),
    ("connect", "broker_use_ssl", "tls"),
    ("publish", "delivery_mode", "persistent"),
    ("publish", "properties", "headers"),
    ("publish", "retry", "again"),
    ("declare_queue", "passive", "queue_info"),
    ("declare_queue", "queue", "name"),
    ("declare_exchange", "passive", "check_exchange"),
    ("declare_exchange", "exchange_type", "type"),
    ("consume", "auto_ack", "no_ack"),
    ("consume", "prefetch_count", "prefetch"),
    ("consume", "on_message_callback", "iterate"),
    ("consume", "consumer_tag", "tag"),
]


@pytest.mark.parametrize(("method", "name", "ours"), ELSEWHERE)
def test_the_name_of_an_argument_elsewhere_leads_to_ours(client, method, name, ours):
    """Those of pika, aio-pika, Celery and kombu."""
    calls = {
        "connect": lambda **arguments: mm.connect(**arguments),
        "publish": lambda **arguments: client.publish(b"", **arguments),
        "declare_queue": lambda **arguments: client.declare_queue(**arguments),
        "declare_exchange": lambda **arguments: client.declare_exchange("x", **arguments),
        "consume": lambda **arguments: client.consume("q", **arguments),
    }
    with pytest.raises(TypeError, match=rf"^{method}\(\) got an unexpected keyword argument '{name}'; .*\b{ours}\b"):
        calls[method](**{name: 1})
    if method == "connect":
        with pytest.raises(TypeError, match=ours):
            aio.connect(**{name: 1})


@pytest.mark.parametrize("method", ["publish", "publish_nowait", "request"])
def test_only_the_body_is_given_by_its_position(client, method):
    with pytest.raises(TypeError, match=r"^only the body is given by its position, and 2 more are.*routing_key="):
        getattr(client, method)("", "queue", b"body")
    assert client.stats().published == 0


def test_a_message_about_positions_names_the_class_that_is_used(client):
    with pytest.raises(TypeError, match=r"^Client\.consume\(\) takes 1 positional argument"):
        client.consume("q", "tag")


def test_hints_are_for_names_that_we_do_not_have(client):
    """Take the name out of python/src/hints.rs: it is an argument here."""
    hints = source("python/src/hints.rs")
    functions = {"connect": mm.connect} | {
        method: getattr(client, method) for method in ("publish", "declare_queue", "declare_exchange", "consume")
    }
    known = re.findall(r'\(\s*"(\w+)",\s*&\[(.*?)\]', hints.split("HINTS", 1)[1], re.DOTALL)
    assert {method for method, _ in known} == set(functions)
    for method, names in known:
        ours = set(inspect.signature(functions[method]).parameters)
        assert not ours & set(re.findall(r'"(\w+)"', names)), method


def test_a_recovery_may_be_of_a_derived_class(uri):
    class Patient(mm.Recovery):
        """The application's own."""

    with mm.connect(uri, recovery=Patient(max_delay=1)) as client:
        assert not client.closed

    class Recovery:
        """Of somebody else, who likes the name."""

    with pytest.raises(TypeError, match="recovery must be a bool or a Recovery"):
        mm.connect(uri, recovery=Recovery())


def test_a_password_of_a_wrong_type_is_not_repeated():
    with pytest.raises(TypeError, match="password must be a str, not bytes") as caught:
        mm.connect(username="guest", password=b"hunter2")
    assert "hunter2" not in repr(caught.value)


def test_amqps_without_tls_is_refused():
    with pytest.raises(mm.InvalidArgumentError, match="tls=False"):
        mm.connect("amqps://127.0.0.1:1", tls=False)


def test_one_host_may_be_a_pair(uri):
    host, port = uri.rpartition("@")[2].strip("/").split(":")
    with mm.connect(hosts=(host, int(port))) as client:
        assert not client.closed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hosts": []}, "hosts is empty"),
        ({"hosts": ""}, "'' is not a host"),
        ({"hosts": "rabbit-1,rabbit-2"}, "'rabbit-1,rabbit-2' is not a host"),
        ({"hosts": ":5672"}, "':5672' is not a host"),
        ({"hosts": ["amqp://rabbit-1"]}, "'amqp://rabbit-1' is not a host"),
        ({"hosts": "amqp://guest:hunter2@rabbit-1"}, "'rabbit-1' is not a host"),
        ({"hosts": ["guest:hunter2@rabbit-1"]}, "'rabbit-1' is not a host"),
        ({"hosts": [("amqp://guest:hunter2@rabbit-1", 5672)]}, "'rabbit-1' is not a host"),
        ({"delivery_buffer": 0}, "a delivery_buffer of 0 would never read"),
        ({"tls": True, "ca_file": "/ca.pem", "ca_pem": "x"}, "ca_file and ca_pem are both given"),
        ({"tls": True, "cert_file": "/c.pem", "cert_pem": "x", "key_pem": "x"}, "cert_file and cert_pem are both given"),
        ({"tls": True, "key_pem": "x", "cert_pem": "x", "key_file": "/k.pem"}, "key_file and key_pem are both given"),
        (
            {"username": "me", "password": "x", "credentials": lambda: ("me", "x")},
            "username and password are given, or credentials, not both",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(options, message):
    with pytest.raises(mm.InvalidArgumentError, match=re.escape(message)) as caught:
        mm.connect(**options)
    assert "hunter2" not in repr(caught.value)


def test_hosts_for_an_embedded_broker_are_refused(unique):
    with pytest.raises(mm.InvalidArgumentError, match="memory://"):
        mm.connect(f"memory://{unique('broker')}", hosts=["rabbit-1"])


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_are_refused(client, number):
    for body in ({"n": number}, [number]):
        with pytest.raises(mm.JsonError):
            client.publish(body, routing_key="nowhere", mandatory=False)


def test_the_last_moment_of_the_year_9999_in_a_header(client, queue):
    client.declare_queue(queue, exclusive=True)
    last = datetime.datetime.max
    client.publish(b"", routing_key=queue, headers={"last": last}, timestamp=last)
    delivery = client.get(queue)
    assert delivery.timestamp == last.replace(microsecond=0, tzinfo=datetime.timezone.utc)
    assert delivery.headers["last"] == delivery.timestamp


def test_durations_are_seconds_or_timedeltas_everywhere(uri, queue):
    recovery = mm.Recovery(max_elapsed=MINUTE, initial_delay=MINUTE, max_delay=MINUTE, refused_for=MINUTE)
    with mm.connect(uri, heartbeat=MINUTE, connect_timeout=MINUTE, timeout=MINUTE, recovery=recovery) as client:
        client.declare_queue(queue, expires=MINUTE, message_ttl=MINUTE)
        client.publish(b"1", routing_key=queue, timeout=MINUTE, expiration=MINUTE)
        pending = client.publish_nowait(b"2", routing_key=queue, timeout=MINUTE)
        pending.result(MINUTE)
        pending.result(timeout=MINUTE)
        mm.wait_all([pending], timeout=MINUTE)
        with client.consume(queue) as deliveries:
            first = deliveries.get(timeout=MINUTE)
            assert first.expiration == 60
            first.ack()
            (second,) = deliveries.get_many(1, timeout=MINUTE)
            second.ack()
            assert deliveries.get(timeout=timedelta(milliseconds=1)) is None
            assert deliveries.get_many(1, timeout=timedelta(milliseconds=1)) == []
        assert client.events().get(timeout=timedelta(milliseconds=1)) is None
        client.drain(MINUTE)


LONG = [1.8e19, 1e300, 10**400, timedelta.max]


@pytest.mark.parametrize("long", LONG, ids=["float", "larger", "int", "timedelta"])
def test_a_duration_may_be_as_long_as_one_likes(uri, queue, long):
    recovery = mm.Recovery(max_elapsed=long, initial_delay=long, max_delay=long, refused_for=long)
    with mm.connect(uri, connect_timeout=long, timeout=long, recovery=recovery) as client:
        client.declare_queue(queue, expires=60)
        client.publish(b"1", routing_key=queue, timeout=long)
        pending = client.publish_nowait(b"2", routing_key=queue, timeout=long)
        pending.result(long)
        with client.consume(queue) as deliveries:
            deliveries.get(long).ack()
            deliveries.get_many(1, long)[0].ack()
        for what in ("expires", "message_ttl", "max_age"):
            with pytest.raises(mm.InvalidArgumentError, match="x-"):
                client.declare_queue(queue, **{what: long}, type="classic")
        with pytest.raises(mm.InvalidArgumentError, match="expiration"):
            client.publish(b"3", routing_key=queue, expiration=long)
        with pytest.raises(mm.InvalidArgumentError, match="timeout is"):
            client.publish(b"3", routing_key=queue, timeout=-(10**400))
        client.drain(long)


@pytest.mark.parametrize("offset", ["nonsense", "", "1x", "-1D", "0s", "2026-01-01"])
def test_an_offset_that_would_end_the_connection_is_refused(client, queue, offset):
    client.declare_queue(queue, type="stream")
    for options in ({"stream_offset": offset}, {"arguments": {"x-stream-offset": offset}}):
        with pytest.raises(mm.InvalidArgumentError, match="x-stream-offset must be first, last or next"):
            client.consume(queue, **options)
    with pytest.raises(mm.InvalidArgumentError, match="x-stream-offset must be"):
        client.consume(queue, arguments={"x-stream-offset": 1.5})
    assert client.stats().reconnects == 0
    client.delete_queue(queue)


def test_a_stream_with_every_way_to_say_where_to_start(client, queue):
    client.declare_queue(queue, type="stream", max_age=timedelta(days=1), max_length_bytes=10**8)
    mm.wait_all([client.publish_nowait(str(n), routing_key=queue) for n in range(5)], timeout=30)

    def read(offset, count):
        with client.consume(queue, prefetch=10, stream_offset=offset) as deliveries:
            bodies = []
            while len(bodies) < count:
                delivery = deliveries.get(timeout=30)
                assert delivery is not None, f"only {bodies} from {offset}"
                bodies.append(delivery.text())
                delivery.ack()
            return bodies

    everything = ["0", "1", "2", "3", "4"]
    assert read("first", 5) == everything
    assert read(2, 3) == ["2", "3", "4"]
    assert read(datetime.datetime(2020, 1, 1), 5) == everything
    assert read("1D", 5) == everything
    assert read(timedelta(hours=1), 5) == everything
    client.consume(queue, stream_offset=timedelta(0)).cancel()
    client.delete_queue(queue)


def test_a_quorum_queue_and_its_options(client, queue):
    dead = queue + "-dead"
    client.declare_queue(dead, expires=MINUTE)
    client.declare_queue(
        queue,
        type="quorum",
        delivery_limit=1,
        single_active_consumer=True,
        dead_letter_exchange="",
        dead_letter_routing_key=dead,
    )
    client.publish(b"x", routing_key=queue)
    with client.consume(queue, prefetch=5) as deliveries, client.consume(queue) as second:
        first = deliveries.get(timeout=30)
        first.requeue()
        again = deliveries.get(timeout=30)
        assert again.redelivered and again.headers["x-delivery-count"] == 1
        again.requeue()
        # Over the limit; and the second consumer is not the active one.
        with client.consume(dead) as dropped:
            assert dropped.get(timeout=30).headers["x-death"][0]["reason"] == "delivery_limit"
        assert second.get(timeout=0) is None
    client.delete_queue(queue)


def test_a_consumer_with_a_higher_priority_comes_first(client, queue):
    client.declare_queue(queue, exclusive=True)
    with client.consume(queue, priority=-3) as low, client.consume(queue, priority=7) as high:
        for _ in range(10):
            client.publish(b"x", routing_key=queue)
        for _ in range(10):
            high.get(timeout=30).ack()
        assert low.get(timeout=0) is None


def test_what_the_broker_says_of_itself(client):
    server = client.server()
    assert isinstance(server, mm.ServerInfo)
    assert server.version == (0, 9)
    assert server.properties["product"] == "RabbitMQ"
    assert server.properties["capabilities"]["publisher_confirms"] is True
    assert "PLAIN" in server.mechanisms and "en_US" in server.locales


# ---- the Python side against the core ----------------------------------------------------------------------------


def source(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def block(text: str, head: str) -> str:
    """The body of the item that begins with ``head``."""
    (body,) = re.findall(re.escape(head) + r" \{\n(.*?)\n\}", text, re.DOTALL)
    return body


def test_stats_has_every_counter_of_the_core():
    """Add the counter to Stats in _types.py and to stats() in python/src/client/connection.rs."""
    fields = re.findall(r"^    pub (\w+):", block(source("core/src/stats.rs"), "pub struct Stats"), re.MULTILINE)
    assert mm.Stats._fields == tuple(fields)


def test_server_info_has_every_field_of_the_core():
    """Add the field to ServerInfo in _types.py and to server() in python/src/client/connection.rs."""
    body = block(source("core/src/wire/handshake.rs"), "pub struct ServerInfo")
    assert mm.ServerInfo._fields == tuple(re.findall(r"^    pub (\w+):", body, re.MULTILINE))


def test_every_event_of_the_core_has_a_class():
    """Add the class to events.py and the variant to to_python() in python/src/events.rs."""
    body = block(source("core/src/events.rs"), "pub enum Event")
    variants = re.findall(r"^    (\w+) \{", body, re.MULTILINE)
    assert {*variants, "Event"} == set(mm.events.__all__)
    mapped = re.findall(r"^        Event::(\w+) \{", source("python/src/events.rs"), re.MULTILINE)
    assert set(mapped) == set(variants)


def test_recovery_has_the_fields_and_defaults_of_the_core():
    """Change Recovery in _types.py, and recovery() in python/src/connect/options.rs."""
    options = source("core/src/options.rs")
    fields = re.findall(r"^    pub (\w+):", block(options, "pub struct Recovery"), re.MULTILINE)
    assert set(fields) == set(inspect.signature(mm.Recovery).parameters)
    default = block(options, "impl Default for Recovery")
    values = dict(re.findall(r"^            (\w+): ([^\n]*),$", default, re.MULTILINE))
    assert set(values) == set(fields)

    def value(rust: str):
        if rust in ("true", "false", "None"):
            return {"true": True, "false": False, "None": None}[rust]
        (unit, number) = re.fullmatch(r"Duration::from_(secs|millis)\(([\d_ *]+)\)", rust).groups()
        product = math.prod(int(factor) for factor in number.split("*"))
        return product / {"secs": 1, "millis": 1000}[unit]

    ours = mm.Recovery()
    assert {name: value(rust) for name, rust in values.items()} == {name: getattr(ours, name) for name in fields}


def test_the_annotations_of_recovery_can_be_read():
    """As pydantic and its like do."""
    assert set(typing.get_type_hints(mm.Recovery)) == set(inspect.signature(mm.Recovery).parameters)


def test_connect_has_every_option_of_the_core():
    """Add the option to options() in python/src/connect/options.rs and to python/interface.pyi; or name it here."""
    # What the names differ in, and what a URI, a file or a runtime is in Rust only.
    renamed = {
        "host": "hosts",
        "credentials_from": "credentials",
        "client_property": "client_properties",
        "operation_timeout": "timeout",
        "window": "window_messages",
    }
    rust_only = {"new", "from_uri", "connector", "connect", "host_list", "virtual_host", "tls_options", "try_tls"}
    methods = set(re.findall(r"^    pub fn (\w+)", source("core/src/options.rs"), re.MULTILINE)) - rust_only
    parameters = set(inspect.signature(mm.connect).parameters)
    assert {renamed.get(name, name) for name in methods} - parameters == set()
    assert list(inspect.signature(aio.connect).parameters) == list(inspect.signature(mm.connect).parameters)
    tls = set(re.findall(r"^    pub fn (\w+)", source("core/src/tls.rs"), re.MULTILINE)) - {"new"}
    renamed = {"identity_files": "cert_file", "identity_pem": "cert_pem", "disable_sni": "sni"}
    assert {renamed.get(name, name) for name in tls} - parameters == set()


def test_the_window_is_that_of_the_core_by_default():
    """Change `window` in options() of python/src/connect/options.rs, and the docstring of connect()."""
    core = source("core/src/options.rs")
    python = source("python/src/connect/options.rs")
    (messages,) = re.findall(r"window_messages: ([\d_]+),", core)
    (mebibytes,) = re.findall(r"window_bytes: (\d+) \* MIB,", core)
    assert f"let mut window = ({messages}, {mebibytes} << 20);" in python


def test_the_package_has_its_version():
    (version,) = re.findall(r'^version = "(.*)"', source("Cargo.toml"), re.MULTILINE)
    assert mm.__version__ == version
