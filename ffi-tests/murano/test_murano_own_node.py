"""What needs a broker of its own: alarms, users, and what the broker says of connections."""

from __future__ import annotations

import logging
import time
from urllib.parse import quote

import pytest
from generations import PACKAGES, Generation, login

import murano_messaging as mm
from nodes import ControlledNode
from proxy import Proxy

LOGGER = "murano-common.messaging"


@pytest.fixture(scope="module")
def own():
    with ControlledNode() as node:
        yield node


def eventually(condition, seconds: float = 30):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)


@pytest.fixture
def add_user(own):
    added = []

    def add_user(name: str, password: str) -> None:
        own.ctl("add_user", name, password)
        added.append(name)
        own.ctl("set_permissions", "-p", "/", name, ".*", ".*", ".*")

    yield add_user
    for name in added:
        own.ctl("delete_user", name)


def test_every_agent_has_a_heartbeat_of_its_own_and_the_broker_knows_it(own):
    agent = Generation("agent")
    clients = [agent.client(own.uri) for _ in range(10)]
    for client in clients:
        client.connect()
    heartbeats = [int(line) for line in own.ctl("list_connections", "timeout") if line.isdigit()]
    for client in clients:
        client.close()
    assert len(heartbeats) == 10
    assert all(20 <= seconds <= 40 for seconds in heartbeats)
    assert len(set(heartbeats)) > 1
    # A URL may say otherwise.
    with agent.package.MqClient.from_url(f"{own.uri}?heartbeat=11"):
        assert "11" in own.ctl("list_connections", "timeout")


@pytest.fixture
def alarm(own):
    """Has the broker block publishers, or not any more."""

    def alarm(on: bool) -> None:
        own.ctl("set_vm_memory_high_watermark", "0.000001" if on else "0.4")
        eventually(lambda: ("memory" in "".join(own.ctl("eval", "rabbit_alarm:get_alarms()."))) == on)

    yield alarm
    alarm(False)


def test_under_a_memory_alarm_what_is_there_is_received_and_sending_ends_at_its_deadline(
    own, alarm, generation, queue, caplog
):
    client = generation.package.MqClient.from_url(own.uri, timeout=5)
    with client:
        client.declare(queue, ttl=60000)
        for n in range(3):
            client.send(generation.message(n, f"{n}"), queue)
        with client.open(queue) as subscription:
            alarm(True)
            for n in range(3):
                message = subscription.get_message(timeout=10)
                assert message.id == f"{n}"
                message.ack()
            # Here the broker stops reading from the only connection, as it did from the original's.
            with pytest.raises(TimeoutError):
                client.send(generation.message({}, "blocked"), queue)
            if generation.name == "2014":
                with caplog.at_level(logging.WARNING, LOGGER):
                    client.send(generation.message({}, "blocked"), queue, timeout=0.3)
                assert f"'blocked' to {queue!r} was not confirmed within 0.3 s" in caplog.text
            alarm(False)
            client.send(generation.message({}, "after"), queue)
            while (message := subscription.get_message(timeout=10)).id != "after":
                # One that was on its way.
                assert message.id == "blocked"
                message.ack()
            message.ack()


@pytest.mark.parametrize("how", ["raw", "as for a URL", "in a URL"])
def test_logins_may_have_any_characters(own, add_user, generation, how):
    name, password = "ü@:/? 41", "p@ss:/w#%"
    add_user(name, password)
    host, port = login(own.uri)[2:4]
    client = generation.package.MqClient
    quoted = [quote(text, safe="") for text in (name, password)]
    made = {
        "raw": lambda: client(name, password, host, port, "/"),
        "as for a URL": lambda: client(*quoted, host, port, "%2F"),
        "in a URL": lambda: client.from_url("amqp://{}:{}@{}:{}/%2F".format(*quoted, host, port)),
    }[how]()
    with made:
        assert f"{name}" in own.ctl("list_connections", "user")


@pytest.mark.parametrize("name", list(PACKAGES))
def test_a_login_that_is_refused_when_the_connection_is_lost(own, add_user, name, queue):
    generation = Generation(name)
    add_user("guest of a day", "secret")
    proxy = Proxy(own.uri)
    url = f"amqp://guest%20of%20a%20day:secret@127.0.0.1:{proxy.port}"
    client = generation.package.MqClient.from_url(url, recovery=mm.Recovery(refused_for=0.5, max_delay=0.1))
    with client:
        client.declare(queue, ttl=60000)
        with client.open(queue) as subscription:
            own.ctl("change_password", "guest of a day", "another")
            proxy.cut()
            with pytest.raises(PermissionError) as caught:
                subscription.get_message()
            assert "secret" not in str(caught.value)
            with pytest.raises(PermissionError):
                client.declare(queue)
            if name == "agent":
                for call in (subscription.get_message, lambda: client.open(queue), lambda: client.declare(queue)):
                    with pytest.raises(RuntimeError, match=r"^Not connected to RabbitMQ$"):
                        call()
            else:
                with pytest.raises(PermissionError):
                    subscription.get_message(timeout=1)
    proxy.close()
    with mm.connect(own.uri) as direct:
        direct.delete_queue(queue)
