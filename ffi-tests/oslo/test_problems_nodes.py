"""What operators of the driver rabbit report, by its number in docs/oslo.md; here what takes a broker of its own."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import stock
from stock import LONG, oslo_messaging, until

import murano_messaging as mm
from nodes import ControlledNode

WHOLE = bool(os.environ.get("MURANO_WHOLE"))


@pytest.fixture(scope="module")
def node() -> Any:
    with ControlledNode() as node:
        yield node


@pytest.fixture
def murano_url(node: ControlledNode) -> str:
    return node.uri.replace("amqp://", "murano://", 1)


@pytest.fixture
def limited(node: ControlledNode) -> Any:
    """The broker refuses messages over 100 kB."""
    before = "".join(node.ctl("eval", "rabbit_misc:rs(0), application:get_env(rabbit, max_message_size, 134217728)."))
    node.ctl("eval", "application:set_env(rabbit, max_message_size, 100000).")
    yield
    node.ctl("eval", f"application:set_env(rabbit, max_message_size, {before.strip()}).")


def warnings_of(caplog: Any, name: str) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if name in record.getMessage() and "as it is" in record.getMessage()
    ]


@pytest.mark.parametrize("exchange_is_durable", [False, True], ids=["06", "07"])
def test_problem_06_07_a_control_exchange_that_is_not_as_configured(
    node: ControlledNode, murano_url: str, transport: Any, unique: Any, caplog: Any, exchange_is_durable: bool
) -> None:
    """What exists is used as it is, with one warning; a durable queue keeps everything through a restart."""
    topic, exchange = unique("topic"), unique("exchange")
    with mm.connect(node.uri) as client:
        client.declare_exchange(exchange, "topic", durable=exchange_is_durable)
        client.forget(exchange)
    options = {"exchange": exchange, "amqp_durable_queues": not exchange_is_durable}
    client = stock.client(transport(murano_url, **options), topic)
    casts = 500
    for n in range(casts):
        client.cast({}, "tell", n=n)
    assert len(warnings_of(caplog, exchange)) == 1
    if not exchange_is_durable:
        node.stop()
        node.start()
    with stock.Server(transport(murano_url, **options), topic, "one") as server:
        until(lambda: len(server.endpoint.told) == casts)
        assert client.call({}, "add", a=1, b=1) == 2


def test_problem_12_what_is_queued_survives_a_restart_where_queues_are_durable(
    node: ControlledNode, murano_url: str, transport: Any, unique: Any
) -> None:
    topic, options = unique("topic"), {"exchange": unique("exchange"), "amqp_durable_queues": True}
    client = stock.client(transport(murano_url, **options), topic)
    for n in range(500):
        client.cast({}, "tell", n=n)
    node.kill()
    node.start()
    with stock.Server(transport(murano_url, **options), topic, "one") as server:
        until(lambda: len(server.endpoint.told) == 500)


def test_problem_15_a_request_over_the_size_limit_says_so(
    limited: None, murano_url: str, transport: Any, unique: Any
) -> None:
    topic = unique("topic")
    client = stock.client(transport(murano_url), topic)
    with stock.Server(transport(murano_url), topic, "one"):
        with pytest.raises(oslo_messaging.MessageDeliveryFailure, match=r"\d{6}.*100000"):
            client.call({}, "echo", text="x" * 200_000)
        with pytest.raises(oslo_messaging.MessageDeliveryFailure, match=r"\d{6}.*100000"):
            client.cast({}, "echo", text="x" * 200_000)
        assert client.call({}, "add", a=1, b=1) == 2


def test_problem_16_a_reply_over_the_size_limit_is_a_failure_for_the_caller(
    limited: None, murano_url: str, transport: Any, unique: Any
) -> None:
    class Endpoint:
        def long(self, ctxt: Any) -> str:
            return "x" * 200_000

    topic = unique("topic")
    client = stock.client(transport(murano_url, exmods=["oslo_messaging.exceptions"]), topic)
    with (
        stock.Server(transport(murano_url), topic, "one", Endpoint()),
        pytest.raises(oslo_messaging.MessageDeliveryFailure, match=r"\d{6}.*100000"),
    ):
        client.call({}, "long")


def test_a_broker_that_is_killed_in_the_middle_of_calls(
    node: ControlledNode, murano_url: str, transport: Any, unique: Any, caplog: Any
) -> None:
    """From 16 threads: every call is answered, and none twice as its caller sees it."""
    caplog.set_level(logging.CRITICAL)
    calls = 10_000 if WHOLE else 1_500
    topic = unique("topic")
    options = {"exchange": unique("exchange"), "amqp_durable_queues": True, "rabbit_transient_quorum_queue": True}
    with (
        stock.Server(transport(murano_url, **options), topic, "one"),
        ThreadPoolExecutor(16) as threads,
    ):
        client = stock.client(transport(murano_url, **options), topic).prepare(timeout=100)
        answers = [threads.submit(client.call, {}, "add", a=n, b=1) for n in range(calls)]
        answers[calls // 3].result(LONG)
        node.kill()
        node.start()
        assert [answer.result(LONG + 60) for answer in answers] == [n + 1 for n in range(calls)]
