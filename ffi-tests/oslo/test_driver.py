"""The drivers ``murano`` and ``rabbit`` on the two ends of a topic, in both directions; and Rust beside ours."""

from __future__ import annotations

from typing import Any

import pytest
import stock
from stock import LONG, oslo_messaging, until

MATRIX = [("rabbit", "murano"), ("murano", "rabbit"), ("murano", "murano")]


# ---- the matrix ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("calling", "serving"), MATRIX)
def test_a_call_and_its_context(url: Any, topic: str, calling: str, serving: str) -> None:
    made = stock.transport(url(calling))
    with stock.Server(stock.transport(url(serving)), topic, "one"):
        client = stock.client(made, topic, version="1.1")
        assert client.call({}, "add", a=1, b=2) == 3
        context = {"request_id": "req-1", "unknown": [1, {"a": None}], "traceparent": "00-ab-cd-01"}
        assert client.call(context, "echo", text="ü\u2028", none=None) == {
            "args": {"text": "ü\u2028", "none": None},
            "context": context,
        }
        assert client.prepare(server="one").call({}, "add", a=2, b=2) == 4
    made.cleanup()


@pytest.mark.parametrize(("calling", "serving"), MATRIX)
def test_every_kind_of_failure(url: Any, topic: str, calling: str, serving: str) -> None:
    made = stock.transport(url(calling))
    with stock.Server(stock.transport(url(serving)), topic, "one"):
        client = stock.client(made, topic)
        with pytest.raises(ValueError, match="no such value") as raised:
            client.call({}, "refuse")
        assert raised.value.args[1] == 7
        for method, version, kind in [
            ("subtract", "1.0", "NoSuchMethod"),
            ("_private", "1.0", "NoSuchMethod"),
            ("add", "1.3", "UnsupportedVersion"),
        ]:
            with pytest.raises(oslo_messaging.RemoteError) as remote:
                client.prepare(version=version).call({}, method)
            assert remote.value.exc_type == kind
        with pytest.raises(oslo_messaging.MessagingTimeout):
            client.prepare(timeout=1).call({}, "slow", seconds=3)
        # Without heartbeats, the monitor would end it after 2 s.
        assert client.prepare(call_monitor_timeout=2).call({}, "slow", seconds=3) == "done"
    made.cleanup()


@pytest.mark.parametrize(("calling", "serving"), MATRIX)
def test_casts_to_one_server_and_to_all(url: Any, topic: str, calling: str, serving: str) -> None:
    made = stock.transport(url(calling))
    with (
        stock.Server(stock.transport(url(serving)), topic, "one") as one,
        stock.Server(stock.transport(url(serving)), topic, "two") as two,
    ):
        client = stock.client(made, topic)
        client.prepare(fanout=True).cast({}, "tell", n=1)
        until(lambda: one.endpoint.told == two.endpoint.told == [{"n": 1}])
        client.prepare(server="two").cast({}, "tell", n=2)
        until(lambda: two.endpoint.told == [{"n": 1}, {"n": 2}])
        for n in range(10):
            client.cast({}, "tell", n=n)
        until(lambda: len(one.endpoint.told) + len(two.endpoint.told) == 3 + 10)
    made.cleanup()


@pytest.mark.parametrize("compression", ["gzip", "bz2"])
@pytest.mark.parametrize(("calling", "serving"), MATRIX)
def test_compressed_messages(url: Any, topic: str, calling: str, serving: str, compression: str) -> None:
    made = stock.transport(
        url(calling), kombu_compression="bzip2" if (calling, compression) == ("rabbit", "bz2") else compression
    )
    with stock.Server(stock.transport(url(serving), kombu_compression="gzip"), topic, "one"):
        text = "compressible " * 1000
        assert stock.client(made, topic).call({}, "echo", text=text)["args"] == {"text": text}
    made.cleanup()


@pytest.mark.parametrize("driver", ["messaging", "messagingv2"])
@pytest.mark.parametrize(("sending", "hearing"), MATRIX)
def test_notifications(url: Any, topic: str, sending: str, hearing: str, driver: str) -> None:
    made = stock.transport(url(sending), rpc=False)
    notifier = oslo_messaging.Notifier(made, publisher_id="a.host", driver=driver, topics=[topic])
    # Before anybody listens.
    notifier.info({}, "instance.create", {"id": 7})
    with stock.Listener(stock.transport(url(hearing), rpc=False), topic) as listener:
        assert listener.arrived.wait(LONG)
        assert listener.heard == [("info", "a.host", "instance.create", {"id": 7})]
    made.cleanup()


@pytest.mark.parametrize(("sending", "hearing"), MATRIX)
def test_a_pool_gets_a_copy(url: Any, topic: str, sending: str, hearing: str) -> None:
    made = stock.transport(url(sending), rpc=False)
    notifier = oslo_messaging.Notifier(made, publisher_id="a.host", driver="messagingv2", topics=[topic])
    with (
        stock.Listener(stock.transport(url(hearing), rpc=False), topic) as plain,
        stock.Listener(stock.transport(url(hearing), rpc=False), topic, pool=f"{topic}-pool") as pool,
    ):
        notifier.info({}, "instance.create", {"id": 7})
        assert plain.arrived.wait(LONG)
        assert pool.arrived.wait(LONG)
        assert plain.heard == pool.heard
    made.cleanup()


# ---- Rust ---------------------------------------------------------------------------------------------------------


def test_our_client_calls_a_server_in_rust(rust: Any, ours: Any, rabbit_url: str, topic: str) -> None:
    peer = rust("serve", rabbit_url, topic, "one")
    client = stock.client(ours, topic)
    assert client.call({}, "add", a=1, b=2) == 3
    with pytest.raises(ValueError, match="no such value") as raised:
        client.call({}, "raise")
    assert raised.value.args[1] == 7
    client.prepare(fanout=True).cast({}, "tell", n=1)
    assert peer.next()["args"] == {"n": 1}
    assert client.prepare(call_monitor_timeout=2).call({}, "slow", seconds=3) == "done"


def test_rust_calls_our_server(rust: Any, url: Any, rabbit_url: str, topic: str) -> None:
    with stock.Server(stock.transport(url("murano")), topic, "one") as server:
        peer = rust("client", rabbit_url, topic)
        assert peer.order("call", "add", {"a": 1, "b": 2}) == {"result": 3}
        failure = peer.order("call", "refuse")["failure"]
        assert (failure["class"], failure["module"], failure["args"]) == ("ValueError", "builtins", ["no such value", 7])
        assert peer.order("fanout", "tell", {"n": 1}) == {"result": None}
        until(lambda: server.endpoint.told == [{"n": 1}])
        assert peer.order("call", "slow", {"seconds": 3}, monitor=2) == {"result": "done"}


def test_notifications_between_ours_and_rust(rust: Any, url: Any, rabbit_url: str, topic: str) -> None:
    peer = rust("client", rabbit_url, topic)
    assert peer.order("notify", "instance.create", {"id": 7}) == {"result": None}
    with stock.Listener(stock.transport(url("murano"), rpc=False), topic) as listener:
        assert listener.arrived.wait(LONG)
        assert listener.heard == [("info", "rust.peer", "instance.create", {"id": 7})]
    made = stock.transport(url("murano"), rpc=False)
    notifier = oslo_messaging.Notifier(made, publisher_id="a.host", driver="messagingv2", topics=[topic])
    notifier.sample({}, "cpu", 0.5)
    heard = rust("listen", rabbit_url, topic).next()
    assert (heard["publisher_id"], heard["priority"], heard["payload"]) == ("a.host", "sample", 0.5)
    made.cleanup()


# ---- what only ours does ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("serving", ["rabbit", "murano"])
def test_casts_wait_for_a_server_that_starts_later(url: Any, ours: Any, topic: str, serving: str) -> None:
    client = stock.client(ours, topic)
    for n in range(10):
        client.cast({}, "tell", n=n)
        client.prepare(server="one").cast({}, "tell", n=n)
    with stock.Server(stock.transport(url(serving)), topic, "one") as server:
        until(lambda: sorted(told["n"] for told in server.endpoint.told) == sorted([*range(10)] * 2))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"amqp_durable_queues": True},
        {"amqp_auto_delete": True},
        {"rabbit_quorum_queue": True},
        {"rabbit_quorum_queue": True, "rabbit_transient_quorum_queue": True, "rabbit_quorum_delivery_limit": 5},
        {
            "rabbit_quorum_queue": True,
            "rabbit_transient_quorum_queue": True,
            "rabbit_stream_fanout": True,
            "rabbit_qos_prefetch_count": 5,
        },
    ],
    ids=lambda options: "+".join(options) or "default",
)
def test_a_stock_server_starts_beside_ours(url: Any, unique: Any, options: dict[str, Any]) -> None:
    topic, exchange = unique("topic"), unique("exchange")
    with (
        stock.Server(stock.transport(url("murano"), exchange=exchange, **options), topic, "ours") as ours,
        stock.Server(stock.transport(url("rabbit"), exchange=exchange, **options), topic, "stock") as theirs,
    ):
        for calling in ("murano", "rabbit"):
            made = stock.transport(url(calling), exchange=exchange, **options)
            client = stock.client(made, topic)
            before = len(ours.endpoint.told), len(theirs.endpoint.told)
            client.prepare(fanout=True).cast({}, "tell", n=1)
            until(
                lambda before=before: (
                    (len(ours.endpoint.told), len(theirs.endpoint.told)) == (before[0] + 1, before[1] + 1)
                )
            )
            for server in ("ours", "stock"):
                assert client.prepare(server=server).call({}, "add", a=1, b=2) == 3
            made.cleanup()
