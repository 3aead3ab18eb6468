"""What the three generations have in common, and where they differ: the table of their specification."""

from __future__ import annotations

import datetime
import importlib
import inspect
import json
import logging
import socket
import threading
import time
import uuid

import pytest
from generations import PACKAGES, Generation
from generations import login as login_of

import murano_messaging as mm
from proxy import Proxy

LOGGER = "murano-common.messaging"

LOGIN = "login, password, host, port, virtual_host"
SIGNATURES = {
    "2014": {
        "MqClient": f"{LOGIN}, ssl=False, ca_certs=None",
        "declare": "self, queue, exchange=None, enable_ha=False, ttl=0",
        "send": "self, message, key, exchange='', timeout=None",
        "open": "self, queue, prefetch_count=1",
        "Message": "client=None, message_handle=None",
        "Subscription": "client, queue, prefetch_count=1",
    },
    "engine": {
        "MqClient": f"{LOGIN}, ssl=False, ssl_version=None, ca_certs=None, insecure=False",
        "declare": "self, queue, exchange='', enable_ha=False, ttl=0",
        "send": "self, message, key, exchange='', signing_func=None",
        "open": "self, queue, prefetch_count=1",
        "Message": "connection=None, message_handle=None",
        "Subscription": "connection, queue, prefetch_count=1",
    },
    "agent": {
        "MqClient": f"{LOGIN}, ssl=False, ssl_version=None, ca_certs=None, insecure=False",
        "declare": "self, queue, exchange='', enable_ha=False, ttl=0",
        "send": "self, message, key, exchange=''",
        "open": "self, queue, prefetch_count=1",
        "Message": "connection=None, message_handle=None",
        "Subscription": "connection, queue, prefetch_count=1, exception_func=None",
    },
}


def arguments(function) -> str:
    """The arguments that may be given by position."""
    shown = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            bare = parameter.replace(annotation=inspect.Parameter.empty)
            shown.append(str(bare).replace(" = ", "="))
    return ", ".join(shown)


@pytest.fixture
def direct(uri):
    """A client without a wrapper, to look at things from the other side."""
    with mm.connect(uri) as client:
        yield client


@pytest.fixture
def proxy(uri):
    proxy = Proxy(uri)
    yield proxy
    proxy.close()


@pytest.fixture
def declared(direct, queue):
    """A queue that exists."""
    direct.declare_queue(queue)
    yield queue
    direct.delete_queue(queue)


# ---- names and signatures -------------------------------------------------------------------------------------------


def test_the_packages_have_the_names_and_modules_of_the_originals(generation):
    package = generation.package
    for name, module in (("MqClient", "mqclient"), ("Message", "message"), ("Subscription", "subscription")):
        found = importlib.import_module(f"{PACKAGES[generation.name]}.{module}")
        assert getattr(package, name) is getattr(found, name)
        assert getattr(package, name).__module__ == found.__name__


def test_the_signatures_are_those_of_the_originals(generation):
    client = generation.package.MqClient
    found = {name: arguments(getattr(client, name)) for name in ("declare", "send", "open")}
    found |= {name: arguments(getattr(generation.package, name)) for name in ("MqClient", "Message", "Subscription")}
    assert found == SIGNATURES[generation.name]


# ---- connecting -----------------------------------------------------------------------------------------------------


def test_unconnected_everything_says_so(generation, uri, queue):
    client = generation.client(uri)
    for call in (
        lambda: client.send(message=generation.message({}), key=queue),
        lambda: client.open(queue),
        lambda: client.declare(queue),
    ):
        with pytest.raises(RuntimeError, match=r"^Not connected to RabbitMQ$"):
            call()
    client.close()


def test_a_closed_client_can_be_connected_again(generation, uri, declared):
    client = generation.client(uri)
    for _ in range(3):
        client.connect()
        client.connect()
        client.send(message=generation.message({}), key=declared)
        client.close()
        client.close()
        with pytest.raises(RuntimeError, match=r"^Not connected to RabbitMQ$"):
            client.send(message=generation.message({}), key=declared)


def test_a_refused_connection_raises(generation):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(OSError):
        generation.client(f"amqp://guest:guest@127.0.0.1:{port}").connect()


def test_a_refused_login_raises(generation, uri):
    _, _, host, port, vhost = login_of(uri)
    client = generation.package.MqClient("guest", "not-the-password", host, port, vhost)
    with pytest.raises(OSError) as caught:
        client.connect()
    assert "not-the-password" not in repr(caught.value) + repr(client)


def test_a_broker_that_does_not_answer(generation, caplog):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}"
        client = generation.package.MqClient.from_url(url, connect_timeout=0.3)
        if generation.name == "2014":
            client.connect()
            assert "not connected" in caplog.text
            with pytest.raises(RuntimeError, match=r"^Not connected to RabbitMQ$"):
                client.open("any")
        else:
            with pytest.raises(OSError):
                client.connect()


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        ("", {"connect_timeout": datetime.timedelta(milliseconds=300)}),
        ("?connection_timeout=300", {}),
        ("?heartbeat=9&connection_timeout=300", {"connect_timeout": None}),
        ("?connection_timeout=60000", {"connect_timeout": 0.3}),
    ],
)
def test_how_long_a_broker_is_waited_for(generation, caplog, parameters, options):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}{parameters}"
        client = generation.package.MqClient.from_url(url, **options)
        started = time.monotonic()
        if generation.name == "2014":
            client.connect()
            assert "not connected" in caplog.text
        else:
            with pytest.raises(OSError):
                client.connect()
        assert 0.25 < time.monotonic() - started < 5


def test_the_client_of_2014_waits_for_ten_seconds(caplog):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Generation("2014").client(f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        client.connect()
        assert 9.5 < time.monotonic() - started < 14


def test_several_hosts_and_urls(generation, uri, queue):
    login, password, host, port, vhost = login_of(uri)
    with socket.create_server(("127.0.0.1", 0)) as free:
        dead = free.getsockname()[1]
    client = generation.package.MqClient
    encoded = vhost.replace("/", "%2F")
    for made in (
        client(login, password, [("127.0.0.1", dead), (host, port)], 5672, vhost),
        client(login, password, f"127.0.0.1:{dead}, {host}", port, vhost),
        client(login, password, [f"127.0.0.1:{dead}", f"{host}:{port}"], 5672, vhost),
        client.from_url(f"amqp://{login}:{password}@127.0.0.1:{dead},{host}:{port}/{encoded}"),
        client(login, password, host, str(port), encoded),
        client(login, password, host, port, ""),
    ):
        with made as connected:
            connected.declare(queue, ttl=60000)
    with client.from_url(uri) as connected:
        connected.declare(queue, ttl=60000)


def test_hosts_may_be_addresses_of_ipv6(generation, uri):
    proxy = Proxy(uri, ipv6=True)
    clients = [
        generation.package.MqClient("guest", "guest", host, port, "/")
        for host, port in (
            ("::1", proxy.port),
            ("[::1]", proxy.port),
            (f"[::1]:{proxy.port}", 5672),
            (f"[::1]:1,[::1]:{proxy.port}", 5672),
            (["[::1]:1", "::1"], proxy.port),
            ([("::1", proxy.port)], 5672),
        )
    ]
    for client in (*clients, generation.package.MqClient.from_url(proxy.uri)):
        with client:
            assert client.open("any") is not None
    assert proxy.accepted == 7
    proxy.close()


def test_a_client_has_one_connection(generation, uri, proxy, declared):
    with generation.client(proxy.uri) as client:
        client.connect()
        client.send(generation.message({}), declared)
        with client.open(declared) as subscription:
            client.send(generation.message({}), declared)
            subscription.get_message(timeout=10).ack()
            client.connect()
    assert proxy.accepted == 1


def test_connect_replaces_a_connection_that_is_lost_for_good(generation, proxy, declared):
    client = generation.package.MqClient.from_url(proxy.uri, recovery=False)
    with client:
        lost = client._client
        proxy.cut()
        until = time.monotonic() + 30
        while not lost.closed:
            assert time.monotonic() < until
            time.sleep(0.01)
        client.connect()
        client.send(generation.message({}), declared)
    assert proxy.accepted == 2


# ---- declaring ------------------------------------------------------------------------------------------------------


def test_declare_makes_the_queue_that_the_original_made(generation, uri, direct, unique):
    durable = generation.name != "agent"
    with generation.client(uri) as client:
        for arguments, expected in (
            ({}, {}),
            ({"enable_ha": True}, {"x-ha-policy": "all"}),
            ({"ttl": 86400000}, {"x-expires": 86400000}),
            ({"enable_ha": True, "ttl": 1234}, {"x-ha-policy": "all", "x-expires": 1234}),
        ):
            name = unique("q")
            client.declare(name, **arguments)
            client.declare(name, **arguments)
            # Refused if anything differs.
            direct.declare_queue(name, durable=durable, arguments=expected)
            with pytest.raises(mm.PreconditionFailedError):
                direct.declare_queue(name, durable=not durable, arguments=expected)
            with pytest.raises(mm.PreconditionFailedError):
                direct.declare_queue(name, durable=durable, arguments={**expected, "x-expires": 99999})
            direct.delete_queue(name)


def test_declare_with_an_exchange_binds_the_queue_by_its_name(generation, uri, direct, unique):
    queue, exchange = unique("q"), unique("x")
    with generation.client(uri) as client:
        client.declare(queue, exchange)
        client.send(generation.message({"a": 1}), queue, exchange)
        with client.open(queue) as subscription:
            assert generation.read(subscription.get_message(timeout=10).body) == {"a": 1}
    direct.declare_exchange(exchange, "direct", durable=True)
    direct.delete_exchange(exchange)
    direct.delete_queue(queue)


def test_a_quorum_queue_can_be_asked_for(generation, uri, direct, unique):
    queue = unique("q")
    with generation.client(uri) as client:
        client.declare(queue, enable_ha=True, ttl=60000, quorum=True)
        direct.declare_queue(queue, type="quorum", expires=60)
        client.send(generation.message([1]), queue)
        with client.open(queue) as subscription:
            subscription.get_message(timeout=10).ack()
    direct.delete_queue(queue)


def test_a_refused_declare_leaves_the_client_usable(generation, uri, direct, declared):
    with generation.client(uri) as client:
        with pytest.raises(mm.PreconditionFailedError):
            client.declare(declared, ttl=5000)
        client.send(generation.message({}), declared)


# ---- sending --------------------------------------------------------------------------------------------------------


def test_what_is_sent(generation, uri, direct, declared):
    with generation.client(uri) as client:
        client.send(message=generation.message({"naïve": [1, None, True]}, "an id"), key=declared)
    delivery = direct.get(declared, no_ack=True)
    assert json.loads(delivery.body) == {"naïve": [1, None, True]}
    assert delivery.body.isascii()
    assert delivery.message_id == "an id"
    assert delivery.headers == {"message_id": "an id"}
    assert (delivery.content_type, delivery.content_encoding) == ("text/plain", "utf-8")


@pytest.mark.parametrize("body", [None, "text", 3, 2.5, [], {"a": {"b": []}}, "naïve\u2028\U0001f600"])
def test_bodies_come_as_they_were_sent(generation, other, uri, declared, body):
    with generation.client(uri) as client, other.client(uri) as receiver:
        client.send(generation.message(body, "1"), declared)
        with receiver.open(declared) as subscription:
            message = subscription.get_message(timeout=10)
            assert other.read(message.body) == body
            message.ack()


def test_ids_are_text_and_may_be_missing_or_long(generation, other, uri, declared):
    given = uuid.uuid4()
    with generation.client(uri) as client, other.client(uri) as receiver, receiver.open(declared) as subscription:
        for given_id, expected in (
            (given, str(given)),
            (7, "7"),
            (None, ""),
            ("", ""),
            ("x" * 255, "x" * 255),
            ("é" * 200, "é" * 200),
        ):
            client.send(generation.message({}, given_id), declared)
            message = subscription.get_message(timeout=10)
            assert message.id == expected
            message.ack()


def test_a_fresh_message_is_empty_and_can_be_filled(generation):
    message = generation.package.Message()
    assert (message.id, message.body) == ("", None)
    message.id = "5"
    message.body = {"a": 1}
    assert (message.id, message.body) == ("5", {"a": 1})
    message.id = None
    assert message.id == ""
    if generation.name == "agent":
        assert (message.reply_to, message.signature) == (None, None)


def test_send_waits_for_the_confirm(generation, uri, direct, declared):
    with generation.client(uri) as client:
        for n in range(20):
            client.send(generation.message(n), declared)
            assert direct.queue_info(declared).message_count == n + 1


def test_sending_to_a_queue_that_is_gone_logs_its_name(generation, uri, queue, unique, direct, caplog):
    exchange = unique("x")
    direct.declare_exchange(exchange)
    with caplog.at_level(logging.WARNING, LOGGER), generation.client(uri) as client:
        client.send(generation.message({}, "lost"), queue)
        client.send(generation.message({}, "lost"), queue, exchange)
    direct.delete_exchange(exchange)
    warnings = [record.getMessage() for record in caplog.records if record.name == LOGGER]
    assert len(warnings) == 2
    assert all(queue in warning and "'lost'" in warning for warning in warnings)
    assert exchange in warnings[1]


def test_sending_to_an_exchange_that_is_not_there_fails_and_the_client_goes_on(generation, uri, declared, unique):
    with generation.client(uri) as client:
        with pytest.raises(mm.NotFoundError):
            client.send(generation.message({}), declared, unique("x"))
        client.send(generation.message({}), declared)


def test_a_timeout_of_the_send_of_2014_is_no_error(proxy, declared, caplog):
    old = Generation("2014")
    with old.client(proxy.uri) as client:
        proxy.stall()
        for timeout in (0.2, 0, -1):
            started = time.monotonic()
            with caplog.at_level(logging.WARNING, LOGGER):
                client.send(old.message({}, "late"), declared, timeout=timeout)
            assert timeout <= time.monotonic() - started < 5
            assert f"'late' to {declared!r} was not confirmed within {max(timeout, 0)} s" in caplog.text
            caplog.clear()
        proxy.resume()
        # It was on its way.
        with client.open(declared) as subscription:
            assert subscription.get_message(timeout=10).id == "late"


def test_a_send_that_is_not_confirmed_in_time_is_an_error_where_no_timeout_was_given(generation, proxy, declared):
    client = generation.package.MqClient.from_url(proxy.uri, timeout=0.3)
    with client:
        client.send(generation.message({}), declared)
        proxy.stall()
        with pytest.raises(TimeoutError):
            client.send(generation.message({}), declared)
        proxy.resume()


def test_the_engine_signs_the_very_text_that_is_sent(uri, direct, declared):
    engine, agent = Generation("engine"), Generation("agent")
    signed = []

    def sign(text):
        signed.append(text)
        return "signature of it"

    with engine.client(uri) as client, agent.client(uri) as receiver:
        client.send(engine.message({"ü": 1}, "1"), declared, signing_func=sign)
        with receiver.open(declared) as subscription:
            message = subscription.get_message(timeout=10)
            assert (message.signature, [message.body]) == ("signature of it", signed)
            message.ack()
        client.send(engine.message({}), declared)
        with receiver.open(declared) as subscription:
            assert subscription.get_message(timeout=10).signature is None


# ---- receiving ------------------------------------------------------------------------------------------------------


def test_the_usual_way(generation, uri, unique, direct):
    queue = unique("q")
    with generation.client(uri) as client:
        client.declare(queue, enable_ha=True, ttl=86400000)
        client.send(message=generation.message({"Action": "Execute"}, "17"), key=queue)
        with client.open(queue, prefetch_count=1) as subscription:
            message = subscription.get_message(timeout=5)
            assert (message.id, generation.read(message.body)) == ("17", {"Action": "Execute"})
            message.ack()
            started = time.monotonic()
            assert subscription.get_message(timeout=0.2) is None
            assert 0.15 < time.monotonic() - started < 5
            assert subscription.get_message(timeout=0) is None
            assert subscription.get_message(timeout=-1) is None
    assert direct.delete_queue(queue) == 0


def test_a_negative_timeout_gives_what_is_there(generation, uri, declared):
    with generation.client(uri) as client:
        client.send(generation.message({}, "there"), declared)
        with client.open(declared) as subscription:
            until = time.monotonic() + 30
            while (message := subscription.get_message(timeout=-5)) is None:
                assert time.monotonic() < until
                time.sleep(0.01)
            assert message.id == "there"


def test_a_message_is_acked_once(generation, uri, direct, declared):
    with generation.client(uri) as client:
        for n in range(2):
            client.send(generation.message(n, f"{n}"), declared)
        with client.open(declared) as subscription:
            message = subscription.get_message(timeout=10)
            message.ack()
            with pytest.raises(RuntimeError, match="acked, nacked or rejected before"):
                message.ack()
            again = subscription.get_message(timeout=10)
            assert again.id == "1"
            again.ack()
    assert direct.queue_info(declared).message_count == 0


def test_the_id_is_read_from_the_header_or_the_property(generation, uri, direct, declared):
    direct.publish(b"{}", routing_key=declared, headers={"message_id": "in the header"}, message_id="")
    direct.publish(b"{}", routing_key=declared, message_id="in the property")
    direct.publish(b"{}", routing_key=declared, headers={"other": 1}, message_id="")
    with generation.client(uri) as client, client.open(declared, prefetch_count=3) as subscription:
        ids = [subscription.get_message(timeout=10).id for _ in range(3)]
    assert ids == ["in the header", "in the property", ""]


@pytest.mark.parametrize("body", [b"{not json", b"", b"\xff\xfe\x00", b"[" * 100000])
def test_a_body_that_is_not_json(generation, uri, direct, declared, caplog, body):
    direct.publish(body, routing_key=declared)
    with (
        caplog.at_level(logging.ERROR, LOGGER),
        generation.client(uri) as client,
        client.open(declared) as subscription,
    ):
        message = subscription.get_message(timeout=10)
        message.ack()
    errors = [record for record in caplog.records if record.name == LOGGER]
    if generation.name == "agent":
        # It hands over what came: as text, if it is text.
        assert message.body == (body if body.startswith(b"\xff") else body.decode())
        assert not errors
    else:
        assert message.body is None
        assert len(errors) == 1
        # With what json says of it.
        assert errors[0].exc_info is not None
        assert errors[0].exc_info[0] in (json.JSONDecodeError, UnicodeDecodeError, RecursionError)


def test_the_agent_sees_where_to_reply_to(uri, direct, declared):
    direct.publish(b"{}", routing_key=declared, reply_to="back here")
    agent = Generation("agent")
    with agent.client(uri) as client, client.open(declared) as subscription:
        assert subscription.get_message(timeout=10).reply_to == "back here"


def test_what_was_not_acked_comes_again(generation, uri, direct, declared):
    with generation.client(uri) as client:
        client.send(generation.message("again", "1"), declared)
        with client.open(declared) as subscription:
            assert subscription.get_message(timeout=10).id == "1"
    with generation.client(uri) as client, client.open(declared) as subscription:
        message = subscription.get_message(timeout=10)
        assert message.id == "1"
        message.ack()
    assert direct.queue_info(declared).message_count == 0


def test_a_message_can_be_acked_after_its_subscription_was_left(generation, uri, direct, declared):
    with generation.client(uri) as client:
        client.send(generation.message(1), declared)
        with client.open(declared) as subscription:
            message = subscription.get_message(timeout=10)
        message.ack()
    assert direct.delete_queue(declared) == 0
    direct.declare_queue(declared)


def test_the_prefetch_count_bounds_what_comes_unacked(generation, uri, declared):
    with generation.client(uri) as client:
        for n in range(3):
            client.send(generation.message(n), declared)
        with client.open(declared, prefetch_count=2) as subscription:
            first = subscription.get_message(timeout=10)
            assert subscription.get_message(timeout=10) is not None
            assert subscription.get_message(timeout=0.2) is None
            first.ack()
            assert subscription.get_message(timeout=10) is not None


def test_one_message_at_a_time_comes_where_nothing_else_was_asked_for(generation, uri, direct, declared):
    with generation.client(uri) as client:
        for n in range(2):
            client.send(generation.message(n, f"{n}"), declared)
        with client.open(declared) as subscription:
            first = subscription.get_message(timeout=10)
            assert subscription.get_message(timeout=0.2) is None
            # The broker keeps the second.
            assert direct.get(declared, no_ack=True).message_id == "1"
            first.ack()


def test_messages_come_in_the_order_they_were_sent(generation, other, uri, declared):
    with generation.client(uri) as client, other.client(uri) as receiver:
        for n in range(100):
            client.send(generation.message(n, f"id {n}"), declared)
        with receiver.open(declared, prefetch_count=50) as subscription:
            ids = []
            for _ in range(100):
                message = subscription.get_message(timeout=10)
                ids.append(message.id)
                message.ack()
    assert ids == [f"id {n}" for n in range(100)]


def test_get_message_outside_with(generation, uri, declared):
    with generation.client(uri) as client:
        client.send(generation.message(1), declared)
        subscription = client.open(declared)
        with pytest.raises(RuntimeError, match=r"^Subscription object must be used within 'with' block$"):
            subscription.get_message()
        if generation.name == "2014":
            with pytest.raises(RuntimeError, match=r"^Subscription object must be used within 'with' block$"):
                subscription.get_message(timeout=0.1)
        else:
            # Nothing is consumed, and so nothing comes.
            started = time.monotonic()
            assert subscription.get_message(timeout=0.1) is None
            assert 0.1 <= time.monotonic() - started < 5
            assert subscription.get_message(timeout=-1) is None
        with subscription:
            assert subscription.get_message(timeout=10).id == ""


def test_a_queue_that_is_deleted_ends_its_subscription_and_every_call_says_so(generation, uri, direct, queue, unique):
    other = unique("q")
    with generation.client(uri) as client:
        client.declare(queue, ttl=60000)
        subscription = client.open(queue)
        with subscription:
            assert subscription.get_message(timeout=0) is None
            direct.delete_queue(queue)
            for timeout in (30, 1, 0, None, None):
                with pytest.raises(mm.ConsumerCancelledError, match=queue):
                    subscription.get_message(timeout=timeout)
        # The connection is as good as before, and so is the subscription when its queue is there again.
        client.declare(other, ttl=60000)
        client.declare(queue, ttl=60000)
        client.send(generation.message({}, "again"), queue)
        with subscription:
            subscription.get_message(timeout=10).ack()
            with pytest.raises(ValueError):
                subscription.get_message(timeout=float("nan"))
            assert subscription.get_message(timeout=0) is None
    for name in (queue, other):
        direct.delete_queue(name)


def test_a_subscription_to_a_queue_that_is_not_there_fails(generation, uri, queue):
    with generation.client(uri) as client:
        with pytest.raises(mm.NotFoundError):
            client.open(queue).__enter__()
        client.declare(queue, ttl=60000)


# ---- leaving --------------------------------------------------------------------------------------------------------


def test_leaving_on_an_error_gives_the_messages_back(generation, uri, direct, declared):
    with generation.client(uri) as sender:
        for n in range(5):
            sender.send(generation.message(n), declared)
    client = generation.client(uri)
    with pytest.raises(ZeroDivisionError), client, client.open(declared, prefetch_count=5) as subscription:
        held = [subscription.get_message(timeout=10) for _ in range(3)]
        raise ZeroDivisionError
    assert len(held) == 3
    with pytest.raises(RuntimeError, match=r"^Not connected to RabbitMQ$"):
        client.open(declared)
    until = time.monotonic() + 30
    while direct.queue_info(declared).message_count < 5:
        assert time.monotonic() < until, "they were not given back"
        time.sleep(0.02)


def test_leaving_on_an_error_does_not_wait_for_the_broker_in_the_agent(proxy, declared):
    client = Generation("agent").client(proxy.uri)
    with pytest.raises(ZeroDivisionError), client, client.open(declared) as subscription:
        assert subscription.get_message(timeout=0.1) is None
        proxy.stall()
        started = time.monotonic()
        raise ZeroDivisionError
    assert time.monotonic() - started < 2


def test_closing_under_a_waiting_thread_ends_its_wait(generation, uri, declared, caplog):
    client = generation.client(uri)
    client.connect()
    raised = []
    waiting = threading.Event()

    def listen():
        with client.open(declared) as subscription:
            waiting.set()
            try:
                subscription.get_message()
            except RuntimeError as error:
                raised.append(str(error))

    thread = threading.Thread(target=listen)
    thread.start()
    assert waiting.wait(10)
    client.close()
    thread.join(30)
    assert not thread.is_alive()
    assert raised == ["Not connected to RabbitMQ"]
    assert LOGGER not in [record.name for record in caplog.records]


def test_leaving_the_block_under_a_waiting_thread_ends_its_wait(generation, uri, declared):
    raised = []
    waiting = threading.Event()

    def listen(subscription):
        waiting.set()
        try:
            subscription.get_message()
        except RuntimeError as error:
            raised.append(str(error))

    with generation.client(uri) as client:
        with client.open(declared) as subscription:
            thread = threading.Thread(target=listen, args=(subscription,))
            thread.start()
            assert waiting.wait(10)
        thread.join(30)
        assert not thread.is_alive()
        assert raised == ["Subscription object must be used within 'with' block"]
