"""eventlet as Murano uses it: listeners that are killed, a client for each message, patching of one library only."""

from __future__ import annotations

import textwrap

import pytest
from generations import PACKAGES

import children

PRELUDE = """
import eventlet
eventlet.monkey_patch()
import json, os, sys, time
from importlib import import_module
from urllib.parse import urlsplit
from eventlet import sleep, spawn
import murano_messaging as mm
from brokers import unique

uri, package = sys.argv[1:]
messaging = import_module(package)
parts = urlsplit(uri)
login = (parts.username, parts.password, parts.hostname, parts.port, parts.path[1:] or "/")
queue = unique("q")

def client():
    return messaging.MqClient(*login)

def message(body, id):
    message = messaging.Message()
    message.body, message.id = body, id
    return message

def read(body):
    return json.loads(body) if package.endswith("agent") else body

def eventually(condition):
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "it never happened"
        sleep(0.01)

ticks = [0]
def tick():
    while True:
        ticks[0] += 1
        sleep(0.005)
ticker = spawn(tick)
"""


@pytest.fixture(params=list(PACKAGES))
def run(request, uri):
    def run(code: str, *, prelude: str = PRELUDE) -> None:
        children.run(prelude + textwrap.dedent(code), uri, PACKAGES[request.param], timeout=100)

    return run


def test_a_listener_without_timeout_is_killed_and_its_messages_come_again(run):
    run("""
        handled = []
        left = []

        def listen():
            try:
                with client() as mq:
                    mq.declare(queue, ttl=60000)
                    with mq.open(queue, prefetch_count=3) as subscription:
                        left.append(mq)
                        while True:
                            received = subscription.get_message()
                            handled.append(received.id)
                            if received.id == "kept":
                                # Not acked: in work when the kill comes.
                                continue
                            received.ack()
            finally:
                left.append("left")

        listener = spawn(listen)
        eventually(lambda: left)
        before = ticks[0]
        with client() as mq:
            for id in ("1", "2", "kept", "3"):
                mq.send(message({}, id), queue)
            eventually(lambda: handled == ["1", "2", "kept", "3"])
            assert ticks[0] > before
            listener.kill()
            eventually(lambda: "left" in left)
            with mq.open(queue) as subscription:
                again = subscription.get_message(timeout=20)
                assert again.id == "kept"
                again.ack()
                assert subscription.get_message(timeout=0.1) is None
        try:
            left[0].open(queue)
            raise SystemExit("the killed listener's client is still connected")
        except RuntimeError:
            pass
        with mm.connect(uri) as direct:
            direct.delete_queue(queue)
    """)


def test_a_green_thread_that_ends_with_an_error_does_not_stop_the_others(run):
    run("""
        from eventlet import debug
        debug.hub_exceptions(False)

        def fail():
            with client() as mq:
                mq.declare(queue, ttl=60000)
                mq.send(message({}, "1"), queue)
                # From here on it is the hub that it was resumed by.
                raise ZeroDivisionError

        def leave():
            with client() as mq:
                mq.send(message({}, "2"), queue)
                raise SystemExit

        got = []
        with client() as mq:
            mq.declare(queue, ttl=60000)
            for function in (fail, leave):
                threads = [spawn(function) for _ in range(3)]
                for thread in threads:
                    try:
                        thread.wait()
                    except (ZeroDivisionError, SystemExit) as error:
                        got.append(type(error).__name__)
                assert mq.open(queue) is not None
            with mq.open(queue) as subscription:
                for _ in range(6):
                    subscription.get_message(timeout=20).ack()
        assert got == ["ZeroDivisionError"] * 3 + ["SystemExit"] * 3, got
        with mm.connect(uri) as direct:
            assert direct.delete_queue(queue) == 0
    """)


def test_a_listener_is_killed_while_the_broker_does_not_answer(run):
    run("""
        import logging
        from proxy import Proxy
        logging.disable(logging.WARNING)
        proxy = Proxy(uri)
        mq = messaging.MqClient.from_url(proxy.uri, timeout=2)
        listening = []

        def listen():
            with mq:
                mq.declare(queue, ttl=60000)
                with mq.open(queue) as subscription:
                    listening.append(1)
                    subscription.get_message()

        listener = spawn(listen)
        eventually(lambda: listening)
        proxy.stall()
        started = time.monotonic()
        listener.kill()
        eventually(lambda: listener.dead)
        assert time.monotonic() - started < 15
        proxy.close()
    """)


def test_a_timeout_of_eventlet_ends_a_wait(run):
    run("""
        with client() as mq:
            mq.declare(queue, ttl=60000)
            with mq.open(queue) as subscription:
                try:
                    with eventlet.Timeout(0.1):
                        subscription.get_message()
                    raise SystemExit("nothing ended the wait")
                except eventlet.Timeout:
                    pass
                mq.send(message("after it", "1"), queue)
                received = subscription.get_message(timeout=20)
                assert read(received.body) == "after it"
                received.ack()
        with mm.connect(uri) as direct:
            assert direct.delete_queue(queue) == 0
    """)


def test_dozens_of_clients_at_once_and_one_for_each_message(run):
    run("""
        with client() as mq:
            mq.declare(queue, ttl=60000)

        def descriptors():
            return len(os.listdir("/proc/self/fd"))

        # A client for each message, as Murano's components have it.
        def send(n):
            for i in range(10):
                with client() as mq:
                    mq.declare(queue, ttl=60000)
                    mq.send(message({"n": n}, f"{n}.{i}"), queue)

        before, ticked = descriptors(), ticks[0]
        started = time.monotonic()
        for sender in [spawn(send, n) for n in range(30)]:
            sender.wait()
        elapsed = time.monotonic() - started
        assert elapsed < 25, f"300 clients took {elapsed:.1f} s"
        assert ticks[0] > ticked + 10, "the others had to wait"
        eventually(lambda: descriptors() <= before + 2)
        got = set()
        with client() as mq, mq.open(queue, prefetch_count=50) as subscription:
            for _ in range(300):
                received = subscription.get_message(timeout=20)
                got.add(received.id)
                received.ack()
        assert got == {f"{n}.{i}" for n in range(30) for i in range(10)}
        with mm.connect(uri) as direct:
            assert direct.delete_queue(queue) == 0
    """)


def test_dozens_of_listeners_in_one_process(run):
    run("""
        queues = [f"{queue}-{n}" for n in range(40)]
        got = []

        def listen(name):
            with client() as mq:
                mq.declare(name, ttl=60000)
                with mq.open(name) as subscription:
                    while True:
                        received = subscription.get_message()
                        got.append((name, received.id))
                        received.ack()

        listeners = [spawn(listen, name) for name in queues]
        with mm.connect(uri) as direct, client() as mq:
            def there():
                try:
                    return all(direct.queue_info(name).consumer_count for name in queues)
                except mm.NotFoundError:
                    return False
            eventually(there)
            for name in queues:
                mq.send(message({}, "to " + name), name)
            eventually(lambda: len(got) == 40)
            assert set(got) == {(name, "to " + name) for name in queues}
            for listener in listeners:
                listener.kill()
            eventually(lambda: not any(direct.queue_info(name).consumer_count for name in queues))
            for name in queues:
                direct.delete_queue(name)
    """)


def test_green_threads_go_on_where_only_a_library_is_patched(run):
    run(
        """
        # The originals imported puka and kombu like this, in processes that may have patched nothing.
        again = patcher.import_patched(package)
        assert again.MqClient.__name__ == "MqClient"
        got = []

        def listen():
            with client() as mq:
                mq.declare(queue, ttl=60000)
                with mq.open(queue) as subscription:
                    got.append("listening")
                    received = subscription.get_message()
                    got.append(received.id)
                    received.ack()
                    subscription.get_message()

        listener = spawn(listen)
        eventually(lambda: got)
        before = ticks[0]
        eventually(lambda: ticks[0] > before + 5)
        with again.MqClient(*login) as mq:
            sent = again.Message()
            sent.id = "1"
            mq.send(sent, queue)
        eventually(lambda: got == ["listening", "1"])
        listener.kill()
        eventually(lambda: listener.dead)
        with mm.connect(uri) as direct:
            assert direct.delete_queue(queue) == 0
    """,
        prelude=PRELUDE.replace("eventlet.monkey_patch()", "from eventlet import patcher"),
    )
