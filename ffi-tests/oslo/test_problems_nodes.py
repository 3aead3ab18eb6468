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


@pytest.fixture(scope="module")
def limited(node: ControlledNode) -> None:
    """The broker refuses messages over 100 kB from here on."""
    node.ctl("eval", "application:set_env(rabbit, max_message_size, 100000).")


CASTS = 500


class Prepared:
    """A topic with casts that wait for its server: with an exchange as it is, or as the configuration says."""

    def __init__(self, node: ControlledNode, unique: Any, caplog: Any, options: dict[str, Any], durable: bool | None):
        self.topic, exchange = unique("topic"), unique("exchange")
        self.url = node.uri.replace("amqp://", "murano://", 1)
        self.options = {"exchange": exchange, **options}
        if durable is not None:
            with mm.connect(node.uri) as client:
                client.declare_exchange(exchange, "topic", durable=durable)
                client.forget(exchange)
        made = stock.transport(self.url, **self.options)
        client = stock.client(made, self.topic)
        for n in range(CASTS):
            client.cast({}, "tell", n=n)
        made.cleanup()
        messages = [record.getMessage() for record in caplog.records]
        self.warnings = [text for text in messages if exchange in text and "as it is" in text]

    def assert_all_arrive(self) -> None:
        made = stock.transport(self.url, **self.options)
        with stock.Server(stock.transport(self.url, **self.options), self.topic, "one") as server:
            until(lambda: len(server.endpoint.told) == CASTS)
            assert stock.client(made, self.topic).call({}, "add", a=1, b=1) == 2
        made.cleanup()


def test_problem_06_12_a_restart_of_the_broker_and_what_is_durable(
    node: ControlledNode, unique: Any, caplog: Any
) -> None:
    """06: the exchange is transient and the service is not; 12: the exchange is as configured."""
    durable = {"amqp_durable_queues": True}
    mismatched = Prepared(node, unique, caplog, durable, durable=False)
    as_configured = Prepared(node, unique, caplog, durable, durable=None)
    assert (len(mismatched.warnings), len(as_configured.warnings)) == (1, 0)
    node.kill()
    node.start()
    mismatched.assert_all_arrive()
    as_configured.assert_all_arrive()


def test_problem_07_a_durable_exchange_and_a_service_that_is_not(node: ControlledNode, unique: Any, caplog: Any) -> None:
    mismatched = Prepared(node, unique, caplog, {}, durable=True)
    assert len(mismatched.warnings) == 1
    mismatched.assert_all_arrive()


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
    calls = 10_000 if WHOLE else 600
    topic = unique("topic")
    options = {"exchange": unique("exchange"), "amqp_durable_queues": True, "rabbit_transient_quorum_queue": True}
    with (
        stock.Server(transport(murano_url, **options), topic, "one"),
        ThreadPoolExecutor(16) as threads,
    ):
        client = stock.client(transport(murano_url, **options), topic).prepare(timeout=100)
        answers = [threads.submit(client.call, {}, "add", a=n, b=1) for n in range(calls)]
        answers[calls // 3].result(LONG)
        # RabbitMQ 3.10 forgets a durable queue, with what it has confirmed for it, when it is killed within a tenth of a
        # second of its declaration.
        node.ctl("eval", "mnesia:dump_log().")
        node.kill()
        node.start()
        assert [answer.result(LONG + 60) for answer in answers] == [n + 1 for n in range(calls)]
