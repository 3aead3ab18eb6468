"""The options of operators and callers, and what they make of queues and connections."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

import pytest
import stock
import trustme
from oslo_config import cfg
from stock import oslo_messaging, until

import murano_messaging as mm
from tls_front import TlsFront


def test_importing_the_package_imports_nothing_of_oslo() -> None:
    code = "import sys, murano_messaging; print([name for name in sys.modules if name.startswith('oslo')])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_stock_configuration_file_takes_effect_with_the_other_scheme(unique: Any, uri: str, tmp_path: Any) -> None:
    """TLS, quorum and durable. The broker compares each declaration with what is there, and refuses any other."""
    authority, topic = trustme.CA(), unique("topic")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    front = TlsFront(uri, authority)
    stock_file = f"""
[DEFAULT]
transport_url = rabbit://guest:guest@localhost:{front.port}/
control_exchange = {topic}-exchange

[oslo_messaging_rabbit]
ssl = true
ssl_ca_file = {tmp_path / "ca.pem"}
amqp_durable_queues = true
rabbit_quorum_queue = true
rabbit_quorum_delivery_limit = 7
rabbit_transient_queues_ttl = 600
kombu_reconnect_delay = 0.5
conn_pool_ttl = 60
"""
    file = tmp_path / "service.conf"
    file.write_text(stock_file.replace("rabbit://", "murano://"))
    conf = cfg.ConfigOpts()
    conf([], project="test", default_config_files=[str(file)])
    with stock.Server(stock.transport(None, conf=conf), topic, "one") as server, mm.connect(uri) as direct:
        for name in (topic, f"{topic}.one"):
            direct.declare_queue(name, type="quorum", delivery_limit=7)
        direct.declare_exchange(f"{topic}-exchange", "topic")
        fanout = server._server.listener._sources[2].queue
        direct.declare_queue(fanout, durable=False, expires=600)
        for other in ({"type": "quorum"}, {"type": "quorum", "delivery_limit": 8}, {"durable": False}):
            with pytest.raises(mm.PreconditionFailedError):
                direct.declare_queue(topic, **other)
    front.close()


def test_an_option_in_the_url_wins_and_an_unknown_one_is_refused(url: Any, transport: Any) -> None:
    made = transport(url("murano") + "/?rabbit_quorum_queue=true&ack_on=done&prefetch=5")
    assert made._driver.state.settings.quorum
    assert made._driver.state.settings.ack_on == "done"
    assert made._driver.state.settings.prefetch == 5
    with pytest.raises((cfg.NoSuchOptError, oslo_messaging.DriverLoadFailure), match="rabbit_quorum_queues"):
        transport(url("murano") + "/?rabbit_quorum_queues=true")


def test_rpc_and_notifications_share_one_client(url: Any, transport: Any, topic: str) -> None:
    rpc, notifications = transport(url("murano")), transport(url("murano"), rpc=False)
    with stock.Server(transport(url("murano")), topic, "one"):
        assert stock.client(rpc, topic).call({}, "add", a=1, b=1) == 2
        oslo_messaging.Notifier(notifications, "a.host", driver="messagingv2", topics=[topic]).info({}, "event", {})
        assert rpc._driver.state.connection is notifications._driver.state.connection
        # The first to be cleaned up leaves it to the others.
        rpc.cleanup()
        oslo_messaging.Notifier(notifications, "a.host", driver="messagingv2", topics=[topic]).info({}, "event", {})
    connection = notifications._driver.state.connection
    notifications.cleanup()
    assert connection._client is None


def test_at_least_once_raises_what_both_kinds_of_callers_catch(ours: Any, topic: str) -> None:
    options = oslo_messaging.TransportOptions(at_least_once=True)
    target = oslo_messaging.Target(topic=topic)
    client = oslo_messaging.get_rpc_client(ours, target, transport_options=options, timeout=30)
    for send in (client.call, client.cast):
        with pytest.raises(oslo_messaging.MessageUndeliverable) as raised:
            send({}, "add", a=1, b=1)
        assert isinstance(raised.value, oslo_messaging.MessageDeliveryFailure)
        assert topic in str(raised.value)


def test_a_call_to_nobody_leaves_no_queue_behind(ours: Any, topic: str, uri: str) -> None:
    with pytest.raises(oslo_messaging.MessagingTimeout):
        stock.client(ours, topic).prepare(timeout=1).call({}, "add", a=1, b=1)
    with mm.connect(uri) as client, pytest.raises(mm.NotFoundError):
        client.queue_info(topic)


def test_a_cast_says_how_long_its_queue_lives(ours: Any, topic: str, uri: str) -> None:
    from murano_messaging.oslo import QueueOptions

    target = oslo_messaging.Target(topic=topic)
    client = oslo_messaging.get_rpc_client(ours, target, transport_options=QueueOptions(expires=1))
    client.cast({}, "tell", n=1)
    with mm.connect(uri) as direct:

        def is_gone() -> bool:
            try:
                direct.publish(b"", routing_key=topic)
            except mm.UnroutableError:
                return True
            return False

        assert not is_gone()
        until(is_gone)


@pytest.mark.parametrize("ack_on", ["receipt", "dispatch", "done"])
def test_what_is_acked_when(url: Any, ours: Any, transport: Any, topic: str, ack_on: str) -> None:
    """With one thread and three requests: one is being worked on and two wait in the server."""
    begun, go_on = threading.Semaphore(0), threading.Event()

    class Endpoint:
        def work(self, ctxt: Any) -> None:
            begun.release()
            go_on.wait(30)

    client = stock.client(ours, topic)
    server = stock.Server(transport(url("murano"), ack_on=ack_on, prefetch=10), topic, "one", Endpoint(), pool=1)
    for _ in range(3):
        client.cast({}, "work")
    assert begun.acquire(timeout=30)
    source = server._server.listener._sources[0]
    until(lambda: source.consumer.delivered == 3)
    acked = {"receipt": 3, "dispatch": 1, "done": 0}[ack_on]
    until(lambda: server.transport._driver.state.connection._client.stats().acked == acked)
    go_on.set()
    until(lambda: server.transport._driver.state.connection._client.stats().acked == 3)
    server.__exit__()


def test_a_message_that_cannot_be_read_is_dropped_and_the_next_is_served(
    url: Any, ours: Any, transport: Any, topic: str, uri: str
) -> None:
    with stock.Server(transport(url("murano")), topic, "one") as server:
        with mm.connect(uri) as direct:
            for body, headers in [
                (b"", None),
                (b"\xff", None),
                (b"[]", None),
                (b'{"oslo.version": "3.0", "oslo.message": "{}"}', None),
                (b'{"oslo.version": "2.0", "oslo.message": "{"}', None),
                (b'{"oslo.version": "2.0", "oslo.message": "[]"}', None),
                (b"{}", {"compression": "application/x-gzip"}),
                (b"{}", {"compression": "application/x-snappy"}),
            ]:
                direct.publish(body, routing_key=topic, headers=headers)
        client = stock.client(ours, topic)
        assert client.call({}, "add", a=1, b=1) == 2
        client.cast({}, "tell", n=1)
        until(lambda: server.endpoint.told == [{"n": 1}])


def test_replies_to_callers_that_are_gone_keep_no_worker(
    url: Any, ours: Any, transport: Any, topic: str, uri: str
) -> None:
    """The server has one thread; the driver rabbit would hold it for a minute for each of these."""
    with stock.Server(transport(url("murano")), topic, "one", pool=1):
        with mm.connect(uri) as direct:
            for n in range(10):
                fields = {"method": "add", "args": {"a": 1, "b": n}, "_msg_id": str(n), "_reply_q": f"{topic}-gone"}
                direct.publish({"oslo.version": "2.0", "oslo.message": json.dumps(fields)}, routing_key=topic)
        assert stock.client(ours, topic).call({}, "add", a=1, b=1) == 2
        # Their queue comes late: they are sent all the same.
        with mm.connect(uri) as direct:
            direct.declare_queue(f"{topic}-gone", durable=False, expires=60)
            until(lambda: direct.queue_info(f"{topic}-gone").message_count == 10)


def test_a_compressed_body_may_not_decode_to_gigabytes(monkeypatch: Any) -> None:
    from murano_messaging.oslo import body

    monkeypatch.setattr(body, "LIMIT", 1 << 20)
    for kind in ("gzip", "bz2"):
        message = body.encode({"text": "x" * (4 << 20)}, kind)
        assert len(message.body) < 1 << 16
        with pytest.raises(ValueError, match="more than"):
            body._decompress(kind, message.body)
