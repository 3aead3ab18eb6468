"""The native client and stock oslo.messaging on the two ends of a topic, in both directions."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import stock
from stock import oslo_messaging

import murano_messaging as mm
from murano_messaging import aio


@pytest.fixture
def topic(unique: Any) -> str:
    return str(unique("topic"))


@pytest.fixture
def made(rabbit_url: str) -> Any:
    made = stock.transport(rabbit_url)
    yield made
    made.cleanup()


class Endpoint:
    """Without a word about oslo.messaging."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.arrived = threading.Event()

    def add(self, context: dict[str, Any], a: int, b: int) -> int:
        return a + b

    def echo(self, context: dict[str, Any], **args: Any) -> dict[str, Any]:
        return {"args": args, "context": context}

    def refuse(self, context: dict[str, Any]) -> None:
        raise ValueError("no such value", 7)

    def tell(self, context: dict[str, Any], **args: Any) -> None:
        self.told.append(args)
        self.arrived.set()


def check_stock_client(made: Any, topic: str, endpoint: Endpoint) -> None:
    client = stock.client(made, topic)
    assert client.call({}, "add", a=1, b=2) == 3
    context = {"request_id": "req-1", "unknown": [1, {"a": None}]}
    assert client.call(context, "echo", text="ü\u2028", none=None) == {
        "args": {"text": "ü\u2028", "none": None},
        "context": context,
    }
    with pytest.raises(ValueError, match="no such value") as raised:
        client.call({}, "refuse")
    assert raised.value.args[1] == 7
    for method, version, kind in [("subtract", "1.0", "NoSuchMethod"), ("add", "2.0", "UnsupportedVersion")]:
        with pytest.raises(oslo_messaging.RemoteError) as remote:
            client.prepare(version=version).call({}, method)
        assert remote.value.exc_type == kind
    with pytest.raises(TypeError):
        client.call({}, "add", a=1)
    # Python writes it, JSON has it not: the caller hears so at once.
    with pytest.raises(ValueError, match="cannot read the request"):
        client.call({}, "echo", n=float("nan"))
    client.prepare(fanout=True).cast({}, "tell", n=1)
    client.prepare(server="one").cast({}, "tell", n=2)


def test_a_stock_client_calls_a_native_server(made: Any, uri: str, topic: str) -> None:
    endpoint = Endpoint()
    with mm.connect(uri) as client, client.rpc_server(topic, "one", [endpoint]):
        check_stock_client(made, topic, endpoint)
        assert endpoint.arrived.wait(stock.LONG)


def test_a_stock_client_calls_a_native_server_in_asyncio(made: Any, uri: str, topic: str) -> None:
    async def main() -> None:
        endpoint = Endpoint()
        async with aio.connect(uri) as client, client.rpc_server(topic, "one", [endpoint]):
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, check_stock_client, made, topic, endpoint)
            assert await loop.run_in_executor(None, endpoint.arrived.wait, stock.LONG)

    asyncio.run(main())


def test_a_native_client_calls_a_stock_server(uri: str, rabbit_url: str, topic: str) -> None:
    with stock.Server(stock.transport(rabbit_url), topic, "one") as server, mm.connect(uri) as client:
        rpc = client.rpc(topic, timeout=stock.LONG, context={"request_id": "req-1"})
        assert rpc.prepare(version="1.1").call("add", a=1, b=2) == 3
        assert rpc.prepare(server="one").call("echo", x="ü") == {
            "args": {"x": "ü"},
            "context": {"request_id": "req-1"},
        }
        with pytest.raises(mm.RemoteError) as caught:
            rpc.call("refuse")
        error = caught.value
        assert (error.class_name, error.module, error.args) == ("ValueError", "builtins", ("no such value", 7))
        assert any("refuse" in line for line in error.traceback)
        for method, version, kind in [("subtract", "1.0", "NoSuchMethod"), ("add", "1.3", "UnsupportedVersion")]:
            with pytest.raises(mm.RemoteError) as caught:
                rpc.prepare(version=version).call(method)
            assert caught.value.class_name == kind
        with pytest.raises(mm.OperationTimeoutError):
            rpc.prepare(timeout=1).call("slow", seconds=3)
        assert rpc.prepare(monitor=2).call("slow", seconds=4) == "done"
        rpc.fanout("tell", n=1)
        rpc.cast("tell", n=2)
        assert rpc.call("add", a=1, b=2) == 3
        deadline = threading.Event()
        for _ in range(stock.LONG * 50):
            if sorted(told["n"] for told in server.endpoint.told) == [1, 2]:
                break
            deadline.wait(0.02)
        assert sorted(told["n"] for told in server.endpoint.told) == [1, 2]


def test_a_reply_that_is_no_json_ends_the_call(uri: str, rabbit_url: str, topic: str) -> None:
    class Strange:
        target = oslo_messaging.Target(version="1.0")

        def strange(self, ctxt: dict[str, Any]) -> float:
            return float("inf")

    with stock.Server(stock.transport(rabbit_url), topic, "one", Strange()), mm.connect(uri) as client:  # noqa: SIM117
        with pytest.raises(mm.JsonError, match="cannot be read"):
            client.rpc(topic, timeout=stock.LONG).call("strange")


@pytest.mark.parametrize("driver", ["messaging", "messagingv2"])
def test_a_native_listener_hears_a_stock_notifier(uri: str, rabbit_url: str, topic: str, driver: str) -> None:
    made = stock.transport(rabbit_url, rpc=False)
    notifier = oslo_messaging.Notifier(made, publisher_id="stock.host", driver=driver, topics=[topic])
    notifier.info({"user_id": "u-1"}, "instance.create", {"id": 7})
    with mm.connect(uri) as client, client.notification_listener(topic) as listener:
        notification = listener.get(timeout=stock.LONG)
        assert notification is not None
        found = (notification.publisher_id, notification.event_type, notification.priority, notification.payload)
        assert found == ("stock.host", "instance.create", "info", {"id": 7})
        notification.ack()
    made.cleanup()


def test_a_stock_listener_hears_a_native_notifier(uri: str, rabbit_url: str, topic: str) -> None:
    with mm.connect(uri) as client:
        client.notifier("native.host", topics=topic).info("instance.create", {"id": 7})
        with stock.Listener(stock.transport(rabbit_url, rpc=False), topic) as listener:
            assert listener.arrived.wait(stock.LONG)
            assert listener.heard == [("info", "native.host", "instance.create", {"id": 7})]
