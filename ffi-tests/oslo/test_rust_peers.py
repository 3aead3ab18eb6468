"""Rust and stock oslo.messaging on the two ends of a topic, in both directions, and every kind of failure."""

from __future__ import annotations

from typing import Any

import pytest
import stock
from stock import LONG, oslo_messaging, until


@pytest.fixture
def made(rabbit_url: str) -> Any:
    made = stock.transport(rabbit_url)
    yield made
    made.cleanup()


# ---- stock client, Rust server ----------------------------------------------------------------------------------


def test_a_stock_client_calls_a_server_in_rust(rust: Any, made: Any, rabbit_url: str, topic: str) -> None:
    rust("serve", rabbit_url, topic, "one")
    client = stock.client(made, topic, version="1.1")
    assert client.call({}, "add", a=1, b=2) == 3
    context = {"request_id": "req-1", "unknown": [1, {"a": None}], "traceparent": "00-ab-cd-01"}
    assert client.call(context, "echo", text="ü\u2028", none=None) == {
        "args": {"text": "ü\u2028", "none": None},
        "context": context,
    }
    assert client.prepare(server="one", version="1.0").call({}, "oslo_rpc_server_ping") == "pong"


def test_a_stock_client_gets_the_failures_of_a_server_in_rust(rust: Any, made: Any, rabbit_url: str, topic: str) -> None:
    rust("serve", rabbit_url, topic, "one")
    client = stock.client(made, topic)
    with pytest.raises(ValueError, match="no such value") as raised:
        client.call({}, "raise")
    assert raised.value.args[1] == 7
    for method, version, kind in [
        ("subtract", "1.0", "NoSuchMethod"),
        ("_private", "1.0", "NoSuchMethod"),
        ("add", "1.3", "UnsupportedVersion"),
        ("add", "2.0", "UnsupportedVersion"),
    ]:
        with pytest.raises(oslo_messaging.RemoteError) as remote:
            client.prepare(version=version).call({}, method)
        assert remote.value.exc_type == kind
    with pytest.raises(TypeError):
        client.call({}, "add", a=1)


def test_a_stock_client_times_out_and_monitors_a_server_in_rust(
    rust: Any, made: Any, rabbit_url: str, topic: str
) -> None:
    rust("serve", rabbit_url, topic, "one")
    client = stock.client(made, topic)
    with pytest.raises(oslo_messaging.MessagingTimeout):
        client.prepare(timeout=1).call({}, "slow", seconds=5)
    # Without heartbeats, the monitor would end it after 2 s.
    assert client.prepare(call_monitor_timeout=2).call({}, "slow", seconds=4) == "done"


def test_a_stock_client_casts_to_servers_in_rust(rust: Any, made: Any, rabbit_url: str, topic: str) -> None:
    one, two = rust("serve", rabbit_url, topic, "one"), rust("serve", rabbit_url, topic, "two")
    client = stock.client(made, topic)
    client.prepare(fanout=True).cast({}, "tell", n=1)
    assert [peer.next()["args"] for peer in (one, two)] == [{"n": 1}, {"n": 1}]
    client.prepare(server="two").cast({}, "tell", n=2)
    assert two.next()["args"] == {"n": 2}


def test_a_server_in_rust_that_is_killed_is_a_timeout(rust: Any, made: Any, rabbit_url: str, topic: str) -> None:
    peer = rust("serve", rabbit_url, topic, "one")
    client = stock.client(made, topic)
    assert client.call({}, "add", a=1, b=2) == 3
    peer.kill()
    with pytest.raises(oslo_messaging.MessagingTimeout):
        client.prepare(timeout=2).call({}, "slow", seconds=1)


@pytest.mark.parametrize("compression", ["gzip", "bzip2"])
def test_compressed_messages_from_a_stock_client(rust: Any, rabbit_url: str, topic: str, compression: str) -> None:
    rust("serve", rabbit_url, topic, "one", f"kombu_compression={compression}")
    made = stock.transport(rabbit_url, kombu_compression=compression)
    text = "compressible " * 1000
    assert stock.client(made, topic).call({}, "echo", text=text)["args"] == {"text": text}
    made.cleanup()


# ---- Rust client, stock server ----------------------------------------------------------------------------------


def test_rust_calls_a_stock_server(rust: Any, rabbit_url: str, topic: str) -> None:
    with stock.Server(stock.transport(rabbit_url), topic, "one"):
        peer = rust("client", rabbit_url, topic)
        assert peer.order("call", "add", {"a": 1, "b": 2}, version="1.1") == {"result": 3}
        context = {"request_id": "req-1", "unknown": [1, None]}
        assert peer.order("call", "echo", {"x": "ü"}, context=context, server="one") == {
            "result": {"args": {"x": "ü"}, "context": context}
        }


def test_rust_gets_the_failures_of_a_stock_server(rust: Any, rabbit_url: str, topic: str) -> None:
    with stock.Server(stock.transport(rabbit_url), topic, "one"):
        peer = rust("client", rabbit_url, topic)
        failure = peer.order("call", "refuse")["failure"]
        assert (failure["class"], failure["module"], failure["args"]) == ("ValueError", "builtins", ["no such value", 7])
        assert any("refuse" in line for line in failure["tb"])
        assert peer.order("call", "subtract")["failure"]["class"] == "NoSuchMethod"
        assert peer.order("call", "add", version="1.3")["failure"]["class"] == "UnsupportedVersion"
        assert peer.order("call", "slow", {"seconds": 3}, timeout=1) == {"error": "timeout"}
        assert peer.order("call", "slow", {"seconds": 4}, monitor=2) == {"result": "done"}


def test_rust_casts_to_stock_servers(rust: Any, rabbit_url: str, topic: str) -> None:
    with (
        stock.Server(stock.transport(rabbit_url), topic, "one") as one,
        stock.Server(stock.transport(rabbit_url), topic, "two") as two,
    ):
        peer = rust("client", rabbit_url, topic)
        assert peer.order("fanout", "tell", {"n": 1}) == {"result": None}
        until(lambda: one.endpoint.told == two.endpoint.told == [{"n": 1}])
        assert peer.order("cast", "tell", {"n": 2}, server="two") == {"result": None}
        until(lambda: two.endpoint.told == [{"n": 1}, {"n": 2}])


def test_a_cast_from_rust_waits_for_a_stock_server_that_starts_later(rust: Any, rabbit_url: str, topic: str) -> None:
    peer = rust("client", rabbit_url, topic)
    for n in range(10):
        assert peer.order("cast", "tell", {"n": n}) == {"result": None}
    with stock.Server(stock.transport(rabbit_url), topic, "one") as server:
        until(lambda: sorted(told["n"] for told in server.endpoint.told) == list(range(10)))


def test_what_rust_declares_does_not_keep_a_stock_server_from_starting(rust: Any, rabbit_url: str, unique: Any) -> None:
    for options in [
        {},
        {"amqp_durable_queues": True},
        {"rabbit_quorum_queue": True},
        {"rabbit_quorum_queue": True, "rabbit_transient_quorum_queue": True, "rabbit_quorum_delivery_limit": 5},
    ]:
        topic, exchange = unique("topic"), unique("exchange")
        given = [f"{name}={value}" for name, value in options.items()]
        rust("serve", rabbit_url, topic, "one", f"control_exchange={exchange}", *given)
        made = stock.transport(rabbit_url, exchange=exchange, **options)
        with stock.Server(made, topic, "one") as server:
            peer = rust("client", rabbit_url, topic, f"control_exchange={exchange}", *given)
            assert peer.order("fanout", "tell", {"n": 1}) == {"result": None}
            until(lambda server=server: server.endpoint.told == [{"n": 1}])
            assert peer.order("call", "add", {"a": 1, "b": 2}) == {"result": 3}


def test_a_fanout_cast_over_a_stream(rust: Any, rabbit_url: str, topic: str) -> None:
    """Of which rust and stock servers share one queue."""
    options = {
        "rabbit_stream_fanout": True,
        "rabbit_qos_prefetch_count": 10,
        "rabbit_transient_quorum_queue": True,
        "control_exchange": topic,
    }
    given = [f"{name}={value}" for name, value in options.items()]
    del options["control_exchange"]
    one = rust("serve", rabbit_url, topic, "one", *given)
    made = stock.transport(rabbit_url, exchange=topic, **options)
    with stock.Server(made, topic, "two") as two:
        peer = rust("client", rabbit_url, topic, *given)
        assert peer.order("fanout", "tell", {"n": 1}) == {"result": None}
        until(lambda: two.endpoint.told == [{"n": 1}])
        assert one.next()["args"] == {"n": 1}
        stock.client(made, topic).prepare(fanout=True).cast({}, "tell", n=2)
        until(lambda: two.endpoint.told == [{"n": 1}, {"n": 2}])
        assert one.next()["args"] == {"n": 2}


# ---- notifications ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["messaging", "messagingv2"])
def test_rust_listens_to_a_stock_notifier(rust: Any, rabbit_url: str, topic: str, driver: str) -> None:
    made = stock.transport(rabbit_url, rpc=False)
    notifier = oslo_messaging.Notifier(made, publisher_id="stock.host", driver=driver, topics=[topic])
    notifier.info({"user_id": "u-1"}, "instance.create", {"id": 7})
    listener = rust("listen", rabbit_url, topic)
    heard = listener.next()
    # The stock notifier sends a part of the context only.
    assert isinstance(heard.pop("context"), dict)
    assert heard == {
        "publisher_id": "stock.host",
        "event_type": "instance.create",
        "priority": "info",
        "payload": {"id": 7},
    }
    notifier.sample({}, "cpu", 0.5)
    assert listener.next()["priority"] == "sample"
    made.cleanup()


def test_a_stock_listener_hears_rust(rust: Any, rabbit_url: str, topic: str) -> None:
    peer = rust("client", rabbit_url, topic)
    assert peer.order("notify", "instance.create", {"id": 7}) == {"result": None}
    with stock.Listener(stock.transport(rabbit_url, rpc=False), topic) as listener:
        assert listener.arrived.wait(LONG)
        assert listener.heard == [("info", "rust.peer", "instance.create", {"id": 7})]


# ---- Rust on both ends ------------------------------------------------------------------------------------------


def test_rust_calls_rust_and_a_killed_server_is_a_timeout(rust: Any, rabbit_url: str, topic: str) -> None:
    server = rust("serve", rabbit_url, topic, "one")
    peer = rust("client", rabbit_url, topic)
    assert peer.order("call", "add", {"a": 1, "b": 2}) == {"result": 3}
    peer.send("call", "slow", {"seconds": 20}, timeout=3)
    server.kill()
    assert peer.next() == {"error": "timeout"}
