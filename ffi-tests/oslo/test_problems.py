"""What operators of the driver rabbit report, by its number in docs/oslo.md; here what one broker is enough for.

With MURANO_WHOLE=1 in the environment in its whole size, otherwise smaller.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import stock
import trustme
from stock import LONG, oslo_messaging, until

import murano_messaging as mm
from proxy import Proxy
from tls_front import TlsFront

WHOLE = bool(os.environ.get("MURANO_WHOLE"))


@pytest.fixture
def broker_client(uri: str) -> Any:
    with mm.connect(uri) as client:
        yield client


@pytest.fixture
def proxy(uri: str) -> Any:
    proxy = Proxy(uri)
    yield proxy
    proxy.close()


def through(proxy: Proxy) -> str:
    return proxy.uri.replace("amqp://", "murano://") + "/"


def missing(client: mm.Client, queue: str) -> bool:
    """Whether a queue is not there; a passive declare would be a use of it, which puts its expiry off."""
    try:
        client.publish(b"", routing_key=queue)
    except mm.UnroutableError:
        return True
    return False


def test_problem_01_a_reply_queue_that_is_deleted_with_16_calls_in_flight(
    url: Any, ours: Any, transport: Any, topic: str, broker_client: Any
) -> None:
    with stock.Server(transport(url("murano")), topic, "one"), ThreadPoolExecutor(16) as threads:
        client = stock.client(ours, topic)
        calls = [threads.submit(client.call, {}, "slow", seconds=1) for _ in range(16)]
        until(lambda: ours._driver.state.replies is not None)
        reply_queue = ours._driver.state.replies.queue
        until(lambda: len(ours._driver.state.replies._calls) == 16)
        broker_client.delete_queue(reply_queue)
        assert [call.result(LONG) for call in calls] == ["done"] * 16
        assert not missing(broker_client, reply_queue)


@pytest.mark.parametrize("which", ["topic", "server"])
def test_problem_02_a_servers_queue_that_is_deleted_during_a_call(
    url: Any, ours: Any, transport: Any, topic: str, broker_client: Any, which: str
) -> None:
    with stock.Server(transport(url("murano")), topic, "one"), ThreadPoolExecutor(16) as threads:
        client = stock.client(ours, topic) if which == "topic" else stock.client(ours, topic, server="one")
        queue = topic if which == "topic" else f"{topic}.one"
        before = threads.submit(client.call, {}, "slow", seconds=1)
        for n in range(5):
            broker_client.delete_queue(queue)
            assert client.call({}, "add", a=n, b=1) == n + 1
        assert before.result(LONG) == "done"


def test_problem_03_a_call_ends_at_its_timeout_with_the_broker_down(
    proxy: Proxy, url: Any, transport: Any, topic: str
) -> None:
    with stock.Server(transport(url("murano")), topic, "one"):
        made = transport(through(proxy))
        client = stock.client(made, topic)
        assert client.call({}, "add", a=1, b=1) == 2
        proxy.refuse()
        proxy.cut()
        # One that had a connection, and one that never had.
        never = stock.client(transport(through(proxy) + "?heartbeat_timeout_threshold=61"), topic)
        for each in (client, never):
            with ThreadPoolExecutor(4) as threads:
                began = time.monotonic()
                calls = [threads.submit(each.prepare(timeout=3).call, {}, "add", a=1, b=1) for _ in range(4)]
                for call in calls:
                    assert isinstance(call.exception(LONG), oslo_messaging.MessagingTimeout)
                print(f"MessagingTimeout of timeout=3 after {time.monotonic() - began:.2f} s")
        proxy.welcome()
        assert client.call({}, "add", a=1, b=2) == 3
        assert never.call({}, "add", a=1, b=2) == 3


def test_problem_04_of_three_hosts_some_accept_and_are_silent(
    proxy: Proxy, url: Any, transport: Any, topic: str, uri: str
) -> None:
    silent = [Proxy(uri), Proxy(uri)]
    for each in silent:
        each.stall()
    try:
        hosts = ",".join(each.uri.split("://")[1] for each in [*silent, proxy])
        with stock.Server(transport(url("murano")), topic, "one"):
            client = stock.client(transport(f"murano://{hosts}/?connect_timeout=3"), topic)
            assert client.prepare(timeout=10).call({}, "add", a=1, b=1) == 2
    finally:
        for each in silent:
            each.close()


def test_problem_08_a_broker_that_refuses_transient_queues(
    url: Any, ours: Any, transport: Any, topic: str, uri: str
) -> None:
    """RabbitMQ does so from 4.3 on."""
    with stock.Server(transport(url("murano")), topic, "one") as server:
        client = stock.client(ours, topic)
        assert client.call({}, "add", a=1, b=1) == 2
        client.prepare(fanout=True).cast({}, "tell", n=1)
        until(lambda: server.endpoint.told == [{"n": 1}])
    with mm.connect(uri) as direct:
        info = direct.server()
        assert info is not None
        version = tuple(int(part) for part in info.properties["version"].split(".")[:2])
    assert ours._driver.state.connection.refuses_transient == (version >= (4, 3))


def test_problem_09_casts_before_the_servers_first_start(url: Any, ours: Any, transport: Any, unique: Any) -> None:
    topic, exchange = unique("topic"), unique("exchange")
    client = stock.client(transport(url("murano"), exchange=exchange), topic)
    for n in range(10):
        client.cast({}, "tell", n=n)
    with stock.Server(transport(url("rabbit"), exchange=exchange), topic, "one") as server:
        until(lambda: sorted(told["n"] for told in server.endpoint.told) == list(range(10)))


def test_problem_11_a_second_server_takes_its_part_of_a_backlog(url: Any, ours: Any, transport: Any, topic: str) -> None:
    client = stock.client(ours, topic)
    for _ in range(300):
        client.cast({}, "work")

    class Endpoint:
        def __init__(self) -> None:
            self.worked = 0

        def work(self, ctxt: Any) -> None:
            time.sleep(0.05)
            self.worked += 1

    first, second = Endpoint(), Endpoint()
    with stock.Server(transport(url("murano")), topic, "one", first, pool=8):
        until(lambda: first.worked > 0)
        with stock.Server(transport(url("murano")), topic, "two", second, pool=8):
            until(lambda: first.worked + second.worked == 300)
    print(f"of a backlog of 300 the second server got {second.worked}")
    assert second.worked >= 75


def test_problem_17_queues_of_servers_that_never_come_back_expire(
    url: Any, transport: Any, unique: Any, broker_client: Any
) -> None:
    topic = unique("tasks")
    name = "7a2c8f2e-9f1b-4d0e-8f51-0d6b7f1f2a33"
    options = {"random_servers_ttl": 1}
    with stock.Server(transport(url("murano"), **options), topic, name) as server:
        made = transport(url("murano"), **options)
        assert stock.client(made, topic, server=name).call({}, "add", a=1, b=1) == 2
        replies = made._driver.state.replies.queue
        fanout = server._server.listener._sources[2].queue
        assert not missing(broker_client, replies)
        assert not missing(broker_client, fanout)
        made.cleanup()
        assert missing(broker_client, replies)
    assert missing(broker_client, fanout)
    until(lambda: missing(broker_client, f"{topic}.{name}"))
    # A cast to such a server declares it as the server would: it expires too.
    made = transport(url("murano"), **options)
    stock.client(made, topic, server=name).cast({}, "tell")
    assert not missing(broker_client, f"{topic}.{name}")
    until(lambda: missing(broker_client, f"{topic}.{name}"))
    # The queue of the topic stays for the next server.
    assert not missing(broker_client, topic)


def test_problem_19_the_queue_of_a_pool_that_nobody_consumes_expires(
    url: Any, transport: Any, topic: str, broker_client: Any
) -> None:
    with stock.Listener(transport(url("murano"), rpc=False, pool_queues_ttl=1), topic, pool=f"{topic}-pool"):
        assert not missing(broker_client, f"{topic}-pool")
    until(lambda: missing(broker_client, f"{topic}-pool"))


@pytest.mark.parametrize("connected", [True, False])
def test_problem_20_a_notification_without_retries_fails_with_the_broker_away(
    proxy: Proxy, transport: Any, topic: str, connected: bool
) -> None:
    made = transport(through(proxy), rpc=False)
    notifier = oslo_messaging.Notifier(made, "a.host", driver="messagingv2", topics=[topic], retry=0)
    if connected:
        notifier.info({}, "instance.create", {"id": 1})
    proxy.refuse()
    proxy.cut()
    target = oslo_messaging.Target(topic=f"{topic}.info")
    began = time.monotonic()
    with pytest.raises(oslo_messaging.MessageDeliveryFailure):
        made._driver.send_notification(target, {}, {"payload": 1}, 2.0, retry=0)
    print(f"retry=0 failed after {time.monotonic() - began:.2f} s")
    # The notifier logs it, as it does with every driver.
    notifier.info({}, "instance.create", {"id": 2})
    proxy.welcome()
    made._driver.send_notification(target, {}, {"payload": 1}, 2.0, retry=10)


def test_problem_21_a_host_of_several_with_a_wrong_name_is_refused(
    transport: Any, url: Any, uri: str, topic: str, tmp_path: Any, caplog: Any
) -> None:
    authority = trustme.CA()
    ca_file = str(tmp_path / "ca.pem")
    authority.cert_pem.write_to_path(ca_file)
    wrong, right = TlsFront(uri, authority, "elsewhere.example"), TlsFront(uri, authority, "localhost")
    try:
        with stock.Server(transport(url("murano")), topic, "one"):
            hosts = ",".join(front.uri.split("://")[1] for front in (wrong, wrong))
            refused = transport(f"murano://{hosts}/", ssl=True, ssl_ca_file=ca_file)
            with pytest.raises(oslo_messaging.MessagingTimeout, match=r"elsewhere\.example|name"):
                stock.client(refused, topic).prepare(timeout=2).call({}, "add", a=1, b=1)
            hosts = ",".join(front.uri.split("://")[1] for front in (wrong, right))
            accepted = transport(f"murano://{hosts}/", ssl=True, ssl_ca_file=ca_file)
            assert stock.client(accepted, topic).call({}, "add", a=1, b=1) == 2
    finally:
        wrong.close()
        right.close()


def test_problem_23_connections_cut_between_delivery_and_ack_dispatch_nothing_twice(
    proxy: Proxy, transport: Any, url: Any, topic: str, monkeypatch: Any, caplog: Any
) -> None:
    """The proxy is cut just before the ack, or just after it was queued, by turns."""
    from murano_messaging.oslo.incoming import RpcIncoming

    # Both drivers log every loss.
    caplog.set_level(logging.CRITICAL)
    cuts = 1000 if WHOLE else 10
    acknowledge = RpcIncoming.acknowledge
    cut: set[int] = set()
    lock = threading.Lock()

    def cutting(self: Any) -> None:
        n = self.message["args"]["n"]
        with lock:
            first = n not in cut
            cut.add(n)
        if first and n % 2:
            proxy.cut()
        acknowledge(self)
        if first and not n % 2:
            proxy.cut()

    monkeypatch.setattr(RpcIncoming, "acknowledge", cutting)
    with stock.Server(transport(through(proxy), rabbit_interval_max=1), topic, "one") as server:
        client = stock.client(transport(url("murano")), topic)
        for n in range(cuts):
            client.cast({}, "tell", n=n)
            until(lambda n=n: len(server.endpoint.told) > n)
    told = [told["n"] for told in server.endpoint.told]
    assert sorted(told) == list(range(cuts))
