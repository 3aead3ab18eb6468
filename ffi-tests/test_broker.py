"""The embedded broker as tests of applications use it: blocked, cut, restarted, forgotten."""

from __future__ import annotations

import subprocess
import sys
import time
import weakref

import pytest

import murano_messaging as mm
from murano_messaging import aio, events


@pytest.fixture
def embedded():
    with mm.Broker() as embedded:
        yield embedded


def eventually(condition, seconds: float = 30):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.01)
    return found


def wait_for(listener, kind):
    until = time.monotonic() + 30
    while time.monotonic() < until:
        event = listener.get(timeout=30)
        if isinstance(event, kind):
            return event
    raise AssertionError(f"no {kind.__name__} came")


def test_a_broker_is_the_one_that_its_uri_means(embedded):
    with mm.connect(embedded.uri) as client:
        client.declare_queue("q")
        client.publish(b"x", routing_key="q")
        assert embedded.queue_depth("q") == mm.QueueDepth(ready=1, unacked=0, consumers=0)
        assert embedded.queue_depth("nothing") is None
        held = client.get("q")
        assert embedded.queue_depth("q").unacked == 1
        held.ack()
        assert embedded.connections() == 2
    with mm.connect(embedded.uri) as again:
        assert again.queue_info("q").message_count == 0


def test_a_broker_outlives_its_object_and_is_forgotten_when_told(unique):
    name = unique("broker")
    broker = mm.Broker(name)
    with mm.connect(f"memory://{name}") as client:
        client.declare_queue("q")
    gone = weakref.ref(broker)
    del broker
    assert gone() is None
    with mm.connect(f"memory://{name}") as client:
        assert client.queue_info("q").name == "q"
    mm.Broker(name).forget()
    with mm.connect(f"memory://{name}") as client, pytest.raises(mm.NotFoundError):
        client.queue_info("q")
    mm.Broker(name).forget()


def test_two_brokers_know_nothing_of_each_other(embedded):
    with mm.Broker() as other, mm.connect(embedded.uri) as client, mm.connect(other.uri) as elsewhere:
        client.declare_queue("q")
        with pytest.raises(mm.NotFoundError):
            elsewhere.queue_info("q")
    with pytest.raises(mm.InvalidArgumentError, match="letters, digits"):
        mm.Broker("a/b")


def test_a_client_survives_cuts_closes_and_restarts(embedded):
    with mm.connect(embedded.uri) as client:
        client.declare_queue("durable")
        client.declare_queue("transient", durable=False)
        listener = client.events()
        for fault in (embedded.drop_connections, embedded.close_connections, embedded.restart):
            fault()
            wait_for(listener, events.Recovered)
            client.publish(b"kept", routing_key="durable")
        # The last was a restart: the client has declared its queue again.
        assert embedded.queue_depth("durable").ready == 3
        assert client.queue_info("transient").message_count == 0


def test_an_alarm_blocks_who_publishes_and_nobody_else(embedded):
    with mm.connect(embedded.uri) as client:
        client.declare_queue("q")
        client.publish(b"before", routing_key="q")
        embedded.block()
        with pytest.raises(mm.BlockedError):
            client.publish(b"x", routing_key="q", timeout=0.2)
        with client.consume("q") as deliveries:
            deliveries.get(timeout=10).ack()
        embedded.unblock()
        client.publish(b"after", routing_key="q")


def test_a_frozen_broker_times_out(embedded):
    with mm.connect(embedded.uri, timeout=0.3) as client:
        embedded.stall()
        with pytest.raises(mm.OperationTimeoutError):
            client.queue_info("q")
        embedded.stall(False)
        with pytest.raises(mm.NotFoundError):
            client.queue_info("q")


def test_logins_and_connections_are_refused_when_told(embedded):
    embedded.refuse_logins()
    with pytest.raises(mm.AuthenticationError):
        mm.connect(embedded.uri)
    embedded.refuse_logins(False)
    embedded.refuse_connections()
    with pytest.raises(mm.ConnectFailedError):
        mm.connect(embedded.uri)
    embedded.refuse_connections(False)
    embedded.add_user("ann", "secret")
    embedded.add_vhost("tests")
    with mm.connect(embedded.uri, username="ann", password="secret", vhost="tests") as client:
        client.declare_queue("q")
        assert embedded.queue_depth("q") is None, "that of virtual host /"
    embedded.remove_user("ann")
    with pytest.raises(mm.AuthenticationError):
        mm.connect(embedded.uri, username="ann", password="secret")
    embedded.external_user("guest")
    mm.connect(embedded.uri, mechanism="external").close()
    embedded.max_message_size(10)
    with mm.connect(embedded.uri) as client:
        client.declare_queue("q")
        with pytest.raises(mm.PreconditionFailedError):
            client.publish(b"x" * 11, routing_key="q")


def test_another_process_reaches_it_over_tcp(embedded):
    uri = embedded.listen()
    with mm.connect(embedded.uri) as client:
        client.declare_queue("q")
        program = "import sys, murano_messaging as mm\nmm.connect(sys.argv[1]).publish(b'far', routing_key='q')"
        subprocess.run([sys.executable, "-c", program, uri], check=True, timeout=60)
        assert client.get("q").body == b"far"
    embedded.forget()
    eventually(lambda: refused(uri))


def refused(uri: str) -> bool:
    try:
        mm.connect(uri).close()
    except mm.ConnectFailedError:
        return True
    return False


def test_faults_while_asyncio_waits(embedded):
    import asyncio

    async def main():
        async with aio.connect(embedded.uri) as client:
            await client.declare_queue("q")
            listener = client.events()
            waiting = asyncio.ensure_future(client.consume("q").get(timeout=30))
            await asyncio.sleep(0)
            embedded.restart()
            while not isinstance(await listener.get(timeout=30), events.Recovered):
                pass
            await client.publish(b"x", routing_key="q")
            delivery = await waiting
            await delivery.ack()

    asyncio.run(main())
