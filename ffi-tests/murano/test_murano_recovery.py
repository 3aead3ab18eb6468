"""What outlives a lost connection, a restarted broker and an agent that is late; and what a queue's TTL does."""

from __future__ import annotations

import threading
import time

import pytest
from generations import PACKAGES, Generation

import murano_messaging as mm
from nodes import ControlledNode
from proxy import Proxy


@pytest.fixture
def proxy(uri):
    proxy = Proxy(uri)
    yield proxy
    proxy.close()


def eventually(condition, seconds: float = 30):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)


class Listener(threading.Thread):
    """Sits in ``get_message()`` without a timeout, and acks what it gets."""

    def __init__(self, generation: Generation, uri: str, queue: str, ttl: int = 0) -> None:
        super().__init__(daemon=True)
        self.client = generation.client(uri)
        self.queue = queue
        self.ttl = ttl
        self.ids: list[str] = []
        self.listening = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with self.client as client:
                client.declare(self.queue, ttl=self.ttl)
                with client.open(self.queue) as subscription:
                    self.listening.set()
                    while True:
                        message = subscription.get_message()
                        self.ids.append(message.id)
                        message.ack()
        except BaseException as error:
            self.error = error

    def __enter__(self) -> Listener:
        self.start()
        assert self.listening.wait(30), self.error
        return self

    def __exit__(self, *error) -> None:
        self.client.close()
        self.join(30)
        assert not self.is_alive()


def consumed(uri, queue) -> bool:
    """Whether the broker is there, and somebody consumes the queue."""
    try:
        with mm.connect(uri) as direct:
            return direct.queue_info(queue).consumer_count == 1
    except (mm.NotFoundError, ConnectionError, PermissionError):
        return False


def test_subscriptions_and_clients_survive_a_restart_of_the_broker(queue):
    generations = {name: Generation(name) for name in PACKAGES}
    with ControlledNode() as node:
        # With and without a TTL.
        listeners = {
            (name, ttl): Listener(one, node.uri, f"{queue}-{name}-{ttl}", ttl)
            for name, one in generations.items()
            for ttl in (0, 86400000)
        }
        senders = {name: one.client(node.uri) for name, one in generations.items()}

        def send_all(message_id: str) -> None:
            for (name, _), listener in listeners.items():
                # It waits until its own connection is there again.
                senders[name].send(generations[name].message({}, message_id), listener.queue)
                eventually(lambda listener=listener: message_id in listener.ids or listener.error)
                assert listener.error is None

        for listener in listeners.values():
            listener.__enter__()
        for sender in senders.values():
            sender.connect()
        send_all("before")
        for stop in (node.stop, node.kill):
            stop()
            node.start()
            # The agent's queues are not durable: they are there again when their listeners have declared them.
            for listener in listeners.values():
                eventually(lambda listener=listener: consumed(node.uri, listener.queue))
            send_all(stop.__name__)
        for key, listener in listeners.items():
            # A broker that is killed may have forgotten an ack: a message comes again, and none is lost.
            assert list(dict.fromkeys(listener.ids)) == ["before", "stop", "kill"], key
        for sender in senders.values():
            sender.close()
        for listener in listeners.values():
            listener.__exit__()


def test_what_was_sent_is_there_after_a_restart_of_the_broker(queue):
    engine, old = Generation("engine"), Generation("2014")
    with ControlledNode() as node:
        for generation in (engine, old):
            with generation.client(node.uri) as client:
                client.declare(queue, ttl=3600000)
                client.send(generation.message({"n": generation.name}, generation.name), queue)
        # Not by a kill: RabbitMQ writes its list of queues to disk some time after it said that one is declared.
        node.stop()
        node.start()
        with engine.client(node.uri) as client, client.open(queue, prefetch_count=2) as subscription:
            ids = {subscription.get_message(timeout=30).id for _ in range(2)}
        assert ids == {"engine", "2014"}


def test_a_plan_whose_ack_was_lost_comes_again(generation, proxy, uri, queue):
    client = generation.client(proxy.uri)
    with client, generation.client(uri) as direct:
        client.declare(queue, ttl=60000)
        direct.send(generation.message({}, "the plan"), queue)
        with client.open(queue) as subscription:
            first = subscription.get_message(timeout=30)
            proxy.cut()
            again = subscription.get_message(timeout=30)
            assert (first.id, again.id) == ("the plan", "the plan")
            # The first one's connection is gone, and its ack with it: that is no error.
            first.ack()
            again.ack()
            direct.send(generation.message({}, "the next"), queue)
            last = subscription.get_message(timeout=30)
            assert last.id == "the next"
            last.ack()
    with mm.connect(uri) as direct:
        assert direct.delete_queue(queue) == 0


def test_a_listener_goes_on_after_many_cuts(generation, proxy, uri, queue):
    with Listener(generation, proxy.uri, queue, ttl=60000) as listener, generation.client(uri) as sender:
        for n in range(5):
            sender.send(generation.message({}, f"{n}"), queue)
            eventually(lambda n=n: f"{n}" in listener.ids)
            proxy.cut()
        sender.send(generation.message({}, "last"), queue)
        eventually(lambda: "last" in listener.ids)
        assert listener.error is None


def test_sending_waits_for_a_connection_that_is_being_recovered(generation, proxy, uri, queue):
    with generation.client(proxy.uri) as client:
        client.declare(queue, ttl=60000)
        for n in range(10):
            proxy.cut()
            client.send(generation.message({}, f"{n}"), queue)
    with generation.client(uri) as client, client.open(queue, prefetch_count=100) as subscription:
        ids = set()
        while (message := subscription.get_message(timeout=0.5)) is not None:
            ids.add(message.id)
            message.ack()
    assert ids == {f"{n}" for n in range(10)}


def test_an_agent_that_starts_later_gets_its_plan(other, generation, uri, queue):
    with generation.client(uri) as engine:
        # An hour's TTL; the plan waits, and the engine is gone by then.
        engine.declare(queue, enable_ha=True, ttl=3600000)
        engine.send(generation.message({"Action": "Execute"}, "the plan"), queue)
    with other.client(uri) as agent, agent.open(queue) as subscription:
        message = subscription.get_message(timeout=30)
        assert (message.id, other.read(message.body)) == ("the plan", {"Action": "Execute"})
        message.ack()
    with mm.connect(uri) as direct:
        assert direct.delete_queue(queue) == 0


def test_a_queue_that_nobody_uses_for_its_ttl_is_gone_and_one_that_is_consumed_is_not(
    generation, uri, queue, unique, caplog
):
    used = unique("q")
    with Listener(generation, uri, used, ttl=2000) as listener, generation.client(uri) as client:
        client.declare(queue, ttl=2000)
        client.send(generation.message({}, "too late"), queue)

        def gone():
            with mm.connect(uri) as direct:
                try:
                    direct.queue_info(queue)
                except mm.NotFoundError:
                    return True
                # Looking at it renews it.
                time.sleep(2.3)
                return False

        eventually(gone)
        client.send(generation.message({}, "no queue"), queue)
        assert queue in caplog.text
        client.send(generation.message({}, "to the used one"), used)
        eventually(lambda: listener.ids == ["to the used one"])
        # The next agent of this name begins anew.
        client.declare(queue, ttl=60000)
        with client.open(queue) as subscription:
            assert subscription.get_message(timeout=0.1) is None
    with mm.connect(uri) as direct:
        direct.delete_queue(queue)


def test_an_expired_queue_is_not_brought_back_by_a_reconnect(generation, proxy, uri, unique):
    queues = [unique("q") for _ in range(3)]
    with generation.client(proxy.uri) as client, mm.connect(uri) as direct:
        for queue in queues:
            client.declare(queue, ttl=300)

        def gone(queue):
            time.sleep(0.4)
            try:
                direct.queue_info(queue)
            except mm.NotFoundError:
                return True
            return False

        for queue in queues:
            eventually(lambda queue=queue: gone(queue))
        proxy.cut()
        last = unique("q")
        client.declare(last, ttl=60000)
        for queue in queues:
            with pytest.raises(mm.NotFoundError):
                direct.queue_info(queue)
        direct.delete_queue(last)


@pytest.mark.parametrize("call", ["send", "declare", "open", "get_message", "get_message(timeout=1)"])
def test_the_agent_raises_what_it_found_in_the_background_once(uri, queue, call):
    agent = Generation("agent")
    proxy = Proxy(uri)
    with mm.connect(uri) as direct:
        direct.declare_queue(queue, expires=60)
    client = agent.package.MqClient.from_url(proxy.uri, recovery=False, heartbeat=5)
    with client, client.open(queue) as subscription:
        calls = {
            "send": lambda: client.send(agent.message({}), queue),
            "declare": lambda: client.declare(queue),
            "open": lambda: client.open(queue),
            "get_message": subscription.get_message,
            "get_message(timeout=1)": lambda: subscription.get_message(timeout=1),
        }
        proxy.close()
        eventually(lambda: client._client.closed)
        with pytest.raises(ConnectionError):
            calls[call]()
        for after in calls.values():
            for _ in range(2):
                with pytest.raises(RuntimeError, match=r"^Not connected to RabbitMQ$"):
                    after()


@pytest.mark.parametrize("name", ["2014", "engine"])
def test_the_others_raise_what_ended_their_connection_at_every_call(uri, queue, name):
    generation = Generation(name)
    proxy = Proxy(uri)
    client = generation.package.MqClient.from_url(proxy.uri, recovery=False)
    with client:
        client.declare(queue, ttl=60000)
        with client.open(queue) as subscription:
            proxy.close()
            for _ in range(2):
                with pytest.raises(ConnectionError):
                    subscription.get_message()
                with pytest.raises(ConnectionError):
                    subscription.get_message(timeout=1)
            for _ in range(2):
                with pytest.raises(ConnectionError):
                    client.send(generation.message({}), queue)
                with pytest.raises(ConnectionError):
                    client.declare(queue)
    with mm.connect(uri) as direct:
        direct.delete_queue(queue)
