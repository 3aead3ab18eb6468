"""What cannot be compared: the end of connections, signals, threads, forks, bodies as one asks for them."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import statistics
import threading
import time
import weakref

import pytest
from fake_broker import FakeBroker

import children
import murano_messaging.compat.puka
import puka
from nodes import ControlledNode
from proxy import Proxy


@pytest.fixture
def connect(uri):
    clients = []

    def connect(to=uri, **options):
        client = puka.Client(to, **options)
        clients.append(client)
        client.wait(client.connect(), timeout=20)
        return client

    yield connect
    for client in clients:
        try:
            client.wait(client.close(), timeout=20)
        except (puka.ConnectionBroken, puka.AMQPError):
            pass


def test_both_names_are_the_same():
    assert puka.Client is murano_messaging.compat.puka.Client
    assert puka.NotFound is murano_messaging.compat.puka.NotFound
    assert set(puka.__all__) == set(murano_messaging.compat.puka.__all__)


@pytest.mark.parametrize(
    ("body_type", "text", "binary"),
    [(None, "h\xe9", b"\xff"), (bytes, "h\xe9".encode(), b"\xff"), (str, "h\xe9", "\udcff")],
)
def test_the_type_of_bodies(connect, queue, body_type, text, binary):
    client = connect(body_type=body_type)
    client.wait(client.queue_declare(queue, exclusive=True))
    for body in ("h\xe9", b"\xff"):
        client.wait(client.basic_publish("", queue, body=body))
    assert client.wait(client.basic_get(queue, no_ack=True))["body"] == text
    assert client.wait(client.basic_get(queue, no_ack=True))["body"] == binary
    returned = client.wait(client.basic_publish("", "nobody", mandatory=True, body=b"\xff"), raise_errors=False)
    assert returned["body"] == binary


def test_another_type_of_bodies_is_refused(uri):
    with pytest.raises(TypeError):
        puka.Client(uri, body_type=int)


def test_headers_that_are_not_text(connect, queue):
    client = connect()
    client.wait(client.queue_declare(queue, exclusive=True))
    client.wait(client.basic_publish("", queue, headers={"h\xe9": b"\xff", b"bytes": "x"}))
    assert client.wait(client.basic_get(queue, no_ack=True))["headers"] == {"h\xe9": b"\xff", "bytes": "x"}


def test_the_fork_had_the_arguments_of_a_queue_in_fifth_place(connect, queue):
    client = connect()
    client.wait(client.queue_declare(queue, False, True, False, {"x-expires": 60000}))
    with pytest.raises(puka.PreconditionFailed):
        client.wait(client.queue_declare(queue, exclusive=True))


def test_nothing_but_what_was_sent(connect, queue):
    """Puka's own header was for Puka itself."""
    client = connect()
    client.wait(client.queue_declare(queue, exclusive=True))
    client.wait(client.basic_publish("", queue, body="x"))
    assert client.wait(client.basic_get(queue, no_ack=True))["headers"] == {}


# ---- the end of connections ----------------------------------------------------------------------------------


def test_a_lost_connection_ends_every_promise(connect, uri, queue):
    proxy = Proxy(uri)
    client = connect(proxy.uri)
    client.wait(client.queue_declare(queue, exclusive=True))
    ended = []
    consume = client.basic_consume(queue)
    client.basic_consume(queue, callback=lambda number, result: ended.append(result.exception))
    client.wait(client.basic_publish("", queue, body="x"))
    assert client.wait(consume, timeout=20)["body"] == "x"
    proxy.stall()
    publish = client.basic_publish("", queue, body="y")
    declare = client.queue_declare(exclusive=True)
    assert client.wait([publish, declare], timeout=0.1) is None
    # Nothing that waits in the proxy may reach the broker.
    proxy.cut()
    proxy.resume()
    for promise in (consume, publish, declare):
        with pytest.raises(puka.ConnectionBroken) as caught:
            while True:
                client.wait(promise, timeout=20)
        assert isinstance(caught.value, socket.error)
    client.run_any_callbacks()
    assert [type(error) for error in ended] == [puka.ConnectionBroken]
    with pytest.raises(puka.ConnectionBroken):
        client.queue_declare(queue)
    proxy.close()


def everything_has_come(client, consume, queue):
    """As `arrived` in scenarios.py."""
    deadline = time.monotonic() + 20
    while client.wait(client.queue_declare(queue, passive=True))["message_count"] > 0:
        assert time.monotonic() < deadline
    client.wait(client.basic_qos(consume))


def test_what_came_without_acks_before_a_loss_is_handed_out(uri, queue):
    proxy = Proxy(uri)
    client = puka.Client(proxy.uri)
    client.wait(client.connect())
    client.wait(client.queue_declare(queue, auto_delete=True))
    client.wait_for_all([client.basic_publish("", queue, body=str(number)) for number in range(100)])
    consume = client.basic_consume(queue, no_ack=True)
    everything_has_come(client, consume, queue)
    declare = client.queue_declare(queue, passive=True)
    proxy.cut()
    while True:
        try:
            client.wait(declare, timeout=20)
        except puka.ConnectionBroken:
            break
        declare = client.queue_declare(queue, passive=True)
    assert [client.wait(consume)["body"] for _ in range(100)] == [str(number) for number in range(100)]
    with pytest.raises(puka.ConnectionBroken):
        client.wait(consume)
    proxy.close()


def test_a_node_that_stops_is_told_to_every_promise():
    with ControlledNode() as node:
        client = puka.Client(node.uri)
        connect = client.connect()
        client.wait(connect)
        seen = []
        queue = client.wait(client.queue_declare(exclusive=True))["queue"]
        consume = client.basic_consume(queue, callback=lambda number, result: seen.append(result.exception))
        several = client.basic_consume_multi([queue, queue])
        client.wait(client.basic_qos(several, 1))
        node.stop()
        for promise in (connect, consume, several):
            with pytest.raises(puka.ConnectionForced) as caught:
                client.wait(promise, timeout=20)
            assert caught.value.args[0].name == "connection.close"
            assert caught.value.args[0]["reply_code"] == caught.value.reply_code == 320
        assert [type(error) for error in seen] == [puka.ConnectionForced]


def test_results_of_lost_connections_are_frames_too(uri):
    proxy = Proxy(uri)
    client = puka.Client(proxy.uri)
    connect = client.connect()
    client.wait(connect)
    proxy.cut()
    result = client.wait(connect, timeout=20, raise_errors=False)
    assert result.is_error
    assert (result.name, result.method_id) == ("connection.close", 10 << 16 | 50)
    assert result["reply_code"] == 0
    assert result["reply_text"] == str(result.exception)
    proxy.close()


def test_what_the_client_says_of_itself():
    broker = FakeBroker()
    client = puka.Client(broker.uri, client_properties={"mine": "value", "product": "Mine"}, heartbeat=7)
    client.wait(client.connect(), timeout=20)
    for text in (b"\x04mineS\0\0\0\x05value", b"\x07productS\0\0\0\x04Mine", b"\x16consumer_cancel_notifyt\x01"):
        assert text in broker.start_ok
    assert b"Puka" not in broker.start_ok
    assert b"\0user\0password" in broker.start_ok
    assert broker.tune_ok[2] == 7
    broker.close()


@pytest.mark.parametrize("heartbeat", [0.5, -1, 65536, 1.5, float("nan"), float("inf")])
def test_a_heartbeat_that_amqp_does_not_have(heartbeat):
    with pytest.raises(ValueError, match="whole seconds"):
        puka.Client(heartbeat=heartbeat)


def test_a_heartbeat_that_is_no_number():
    with pytest.raises(TypeError):
        puka.Client(heartbeat="10")
    client = puka.Client(heartbeat=None)
    client.heartbeat = 0.5
    with pytest.raises(ValueError, match="whole seconds"):
        client.connect()


def test_the_promise_of_connect_tells_of_the_end(uri):
    proxy = Proxy(uri)
    client = puka.Client(proxy.uri)
    seen = []
    promise = client.connect(callback=lambda number, result: seen.append(result.is_error))
    client.wait(promise)
    proxy.cut()
    with pytest.raises(puka.ConnectionBroken):
        client.wait(promise, timeout=20)
    assert seen == [False, True]
    proxy.close()


def test_a_client_can_connect_again(uri, queue):
    proxy = Proxy(uri)
    client = puka.Client(proxy.uri)
    client.wait(client.connect())
    proxy.cut()
    with pytest.raises(puka.ConnectionBroken):
        client.wait(client.queue_declare(queue, exclusive=True), timeout=20)
    promise = client.connect()
    assert client.wait(promise, timeout=20)["version_minor"] == 9
    assert client.wait(client.queue_declare(queue, exclusive=True), timeout=20)["queue"] == queue
    assert client.close() == promise
    assert client.wait(promise, timeout=20) == {}
    proxy.close()


def test_a_connection_that_the_broker_closes(connect):
    client = connect()
    # RabbitMQ closes the connection over this.
    with pytest.raises(puka.CommandInvalid) as caught:
        client.wait(client.exchange_declare("x", type="no-such-type"), timeout=20)
    assert isinstance(caught.value, puka.AMQPHardError)
    assert caught.value.args[0].name == "connection.close"
    assert caught.value.args[0]["reply_code"] == caught.value.reply_code == 503


def test_a_peer_that_says_nothing_is_waited_for(uri):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = puka.Client(f"amqp://127.0.0.1:{listener.getsockname()[1]}")
        promise = client.connect()
        assert client.wait(promise, timeout=0.3) is None
        peer, _ = listener.accept()
        peer.close()
        with pytest.raises(puka.ConnectionBroken):
            client.wait(promise, timeout=20)


def test_a_peer_of_another_protocol(uri):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = puka.Client(f"amqp://127.0.0.1:{listener.getsockname()[1]}")
        promise = client.connect()
        peer, _ = listener.accept()
        with peer:
            peer.sendall(b"AMQP\0\0\x09\0")
            with pytest.raises(puka.exceptions.UnsupportedProtocol):
                client.wait(promise, timeout=20)


def test_an_attempt_to_connect_can_be_given_up(uri):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for end in ("close", "drop"):
            client = puka.Client(f"amqp://127.0.0.1:{listener.getsockname()[1]}")
            promise = client.connect()
            peer, _ = listener.accept()
            assert client.wait(promise, timeout=0.1) is None
            if end == "close":
                assert client.close() == promise
                assert client.wait(promise, timeout=20) == {}
            else:
                del client
                gc.collect()
            with peer:
                peer.settimeout(20)
                while peer.recv(100):
                    pass


def test_what_the_broker_said_is_known_after_the_end(uri):
    client = puka.Client(uri)
    result = client.wait(client.connect())
    client.wait(client.close())
    assert client.x_server_props == result["server_properties"]


def test_publishing_after_the_end(uri):
    proxy = Proxy(uri)
    client = puka.Client(proxy.uri)
    promise = client.connect()
    client.wait(promise)
    key = "nobody"
    client.wait(client.basic_publish("", key))
    proxy.cut()
    with pytest.raises(puka.ConnectionBroken):
        client.wait(promise, timeout=20)
    with pytest.raises(puka.ConnectionBroken):
        client.basic_publish("", key)
    client.wait(client.connect())
    assert client.wait(client.basic_publish("", key), timeout=20) == {}
    client.wait(client.close())
    proxy.close()


def test_no_channel_is_free(connect, queue):
    client = connect()
    client.wait(client.queue_declare(queue, exclusive=True))
    for _ in range(2047):
        client.basic_consume(queue)
    with pytest.raises(puka.ChannelError):
        client.wait([client.basic_consume(queue) for _ in range(3)], timeout=60)


def test_ten_thousand_promises_in_any_order(connect, queue):
    client = connect()
    client.wait(client.queue_declare(queue, exclusive=True))
    promises = [client.basic_publish("", queue, body=str(number)) for number in range(10_000)]
    order = promises[::2] + promises[1::2][::-1]
    client.wait_for_all(order)
    assert client.wait(client.queue_declare(queue, passive=True))["message_count"] == 10_000


def test_a_client_in_a_cycle_is_collected(uri):
    def use():
        client = puka.Client(uri)
        client.wait(client.connect())
        # A cycle through a callback.
        client.queue_declare(exclusive=True, callback=lambda number, result: client)
        return weakref.ref(client)

    known = use()
    gc.collect()
    assert known() is None


# ---- consuming -----------------------------------------------------------------------------------------------


def held(client, consume):
    """What comes until nothing more comes."""
    messages = []
    while (message := client.wait(consume, timeout=1)) is not None:
        messages.append(message)
    return messages


def test_a_nack_is_a_soft_error():
    assert issubclass(puka.PublishNacked, puka.AMQPSoftError)
    assert puka.PublishNacked.reply_code == 0
    assert 0 not in puka.ERRORS


def test_the_prefetch_of_several_queues_is_changed(connect):
    client = connect()
    queues = [client.wait(client.queue_declare(exclusive=True))["queue"] for _ in range(2)]
    for queue in queues:
        client.wait_for_all([client.basic_publish("", queue, body="x") for _ in range(6)])
    consume = client.basic_consume_multi(queues, prefetch_count=2)
    messages = held(client, consume)
    assert len(messages) == 2
    client.wait(client.basic_qos(consume, prefetch_count=5))
    messages += held(client, consume)
    assert len(messages) == 5
    for message in messages:
        client.basic_ack(message)
    messages = held(client, consume)
    assert len(messages) == 5
    client.wait(client.basic_qos(consume, prefetch_count=0))
    assert len(held(client, consume)) == 2


def test_the_prefetch_of_a_quorum_queue_is_changed(connect, queue):
    client = connect()
    client.wait(client.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"}))
    client.wait_for_all([client.basic_publish("", queue, body=str(number)) for number in range(6)])
    for options in ({}, {"exclusive": True}):
        consume = client.basic_consume(queue, prefetch_count=2, **options)
        messages = held(client, consume)
        assert len(messages) == 2
        client.wait(client.basic_qos(consume, prefetch_count=4))
        messages += held(client, consume)
        assert len(messages) == 4
        assert len({message["delivery_tag"] for message in messages}) == 4
        for message in messages:
            client.basic_reject(message)
        client.wait(client.basic_cancel(consume))
    client.wait(client.queue_delete(queue))


def test_an_exclusive_consumer_of_an_auto_delete_queue_keeps_its_prefetch_and_its_queue(connect, queue, caplog):
    client, other = connect(), connect()
    other.wait(other.queue_declare(queue, auto_delete=True))
    other.wait_for_all([other.basic_publish("", queue, body=str(number)) for number in range(6)])
    consume = client.basic_consume(queue, prefetch_count=2, exclusive=True)
    messages = held(client, consume)
    assert len(messages) == 2
    caplog.set_level(logging.WARNING)
    client.wait(client.basic_qos(consume, prefetch_count=4))
    deadline = time.monotonic() + 30
    # Records come from a thread of their own.
    while "the prefetch stays as it is" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for message in messages:
        client.basic_ack(message)
    messages += held(client, consume)
    assert [message["body"] for message in messages] == ["0", "1", "2", "3"]


def test_the_tag_of_a_cancel_is_that_of_the_consumer_that_is_cancelled(connect, queue):
    client, other = connect(), connect()
    queues = [f"{queue}-{place}" for place in range(3)]
    for name in queues:
        other.wait(other.queue_declare(name))
    for place in (0, 1, 2):
        consume = client.basic_consume_multi(queues)
        client.wait(client.basic_qos(consume, 1))
        other.wait(other.queue_delete(queues[place]))
        assert client.wait(consume, timeout=20) == {"consumer_tag": f"{consume}.{place}."}
        other.wait(other.queue_declare(queues[place]))
    for name in queues:
        other.wait(other.queue_delete(name))


def test_the_prefetch_of_a_consumer_that_starts(connect):
    client = connect()
    queue = client.wait(client.queue_declare(exclusive=True))["queue"]
    for _ in range(5):
        client.wait(client.basic_publish("", queue, body="x"))
    consume = client.basic_consume(queue, prefetch_count=1)
    qos = client.basic_qos(consume, prefetch_count=3)
    assert client.wait(qos, timeout=20).name == "basic.qos_ok"
    held = [client.wait(consume, timeout=20) for _ in range(3)]
    assert None not in held
    assert client.wait(consume, timeout=0.5) is None


def test_the_prefetch_of_a_consumer_that_does_not_start(uri, connect, queue):
    proxy = Proxy(uri)
    client = connect(proxy.uri)
    # The answer must not be there before all three are under way.
    proxy.stall()
    consume = client.basic_consume(queue)
    qos = client.basic_qos(consume, 1)
    cancel = client.basic_cancel(consume)
    proxy.resume()
    with pytest.raises(puka.NotFound):
        client.wait(consume, timeout=20)
    with pytest.raises(puka.PreconditionFailed):
        client.wait(qos, timeout=20)
    assert client.wait(cancel, timeout=20).name == "basic.cancel_ok"
    for method in (client.basic_qos, client.basic_cancel):
        with pytest.raises(KeyError, match="has no consumer"):
            method(consume)
    proxy.close()


def test_nothing_to_consume(connect):
    with pytest.raises(ValueError, match="at least one"):
        connect().basic_consume_multi([])


# ---- signals, threads, forks ---------------------------------------------------------------------------------


def test_ctrl_c_ends_a_wait_within_100_ms(uri, queue):
    program = """
        import sys, time, puka
        uri, queue = sys.argv[1:]
        client = puka.Client(uri)
        client.wait(client.connect())
        client.wait(client.queue_declare(queue, exclusive=True))
        consume = client.basic_consume(queue)
        waits = [lambda: client.wait(consume), lambda: client.wait(consume, timeout=60), client.loop]
        for wait in waits * 3:
            print("waiting", flush=True)
            try:
                wait()
            except KeyboardInterrupt:
                print(time.monotonic(), flush=True)
        client.wait(client.close())
        print("usable", flush=True)
    """
    late = []
    with children.start(program, uri, queue) as process:
        for _ in range(9):
            assert process.line() == "waiting"
            process.until_it_sleeps()
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            late.append(float(process.line()) - sent)
        assert process.end() == "usable\n"
    assert statistics.median(late) < 0.1, late


def test_threads_share_a_client(connect, queue):
    client = connect()
    client.wait(client.queue_declare(queue, exclusive=True))
    consume = client.basic_consume(queue)
    bodies, errors = [], []

    def work(first):
        try:
            for number in range(first, first + 50):
                client.wait(client.basic_publish("", queue, body=str(number)), timeout=30)
                message = client.wait(consume, timeout=30)
                bodies.append(message["body"])
                client.basic_ack(message)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(50 * place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(bodies, key=int) == [str(number) for number in range(400)]


def started(*works):
    """Threads other than the main one, which wait without looking up: a lost wake-up holds them for ever."""
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    return threads


def ended(threads):
    deadline = time.monotonic() + 60
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


def test_threads_that_wait_for_promises_of_their_own(connect, queue):
    client = connect()
    client.wait(client.queue_declare(queue, exclusive=True))
    done = []

    def publish():
        for number in range(2000):
            client.wait(client.basic_publish("", queue, body=str(number)))
        done.append("publish")

    def declare():
        for _ in range(2000):
            client.wait(client.queue_declare(queue, passive=True))
        done.append("declare")

    assert ended(started(publish, publish, declare, declare)), f"only {done} ended"
    assert sorted(done) == ["declare", "declare", "publish", "publish"]


def test_a_loop_while_another_thread_publishes_and_waits(connect, queue):
    client = connect()
    client.wait(client.queue_declare(queue, exclusive=True))
    seen, errors = [], []

    def on_delivery(number, message):
        client.basic_ack(message)
        seen.append(message["body"])
        if len(seen) == 1000:
            client.loop_break()

    def publish():
        try:
            for number in range(1000):
                promise = client.basic_publish("", queue, body=str(number))
                # The loop may have taken its result by now.
                with contextlib.suppress(KeyError):
                    client.wait(promise)
        except Exception as error:
            errors.append(error)

    client.basic_consume(queue, callback=on_delivery)
    assert ended(started(client.loop, publish)), f"stuck after {len(seen)} deliveries"
    assert not errors
    assert seen == [str(number) for number in range(1000)]


def waiting(client, work):
    """Have a thread wait in `work`; returns it and what it came to."""
    outcome = []

    def run():
        try:
            outcome.append(work())
        except Exception as error:
            outcome.append(error)

    threads = started(run)
    # Until it waits, which nothing shows from outside; a thread that came late would only find what is there.
    time.sleep(0.2)
    return threads, outcome


def test_what_is_ready_at_once_wakes_a_loop_of_another_thread(connect, queue):
    client = connect()
    client.wait(client.queue_declare(queue, exclusive=True))
    threads, outcome = waiting(client, client.loop)
    # What RabbitMQ would refuse is not sent: the promise has its result as soon as it is made.
    refused = {"expiration": "never"}
    client.basic_publish("", queue, headers=refused, callback=lambda number, result: client.loop_break())
    assert ended(threads), "the loop was not woken"
    assert outcome == [None]


def test_an_ack_wakes_who_waits_for_the_next_delivery(connect, queue):
    client = connect()
    client.wait(client.queue_declare(queue, exclusive=True))
    client.wait_for_all([client.basic_publish("", queue, body=str(number)) for number in range(2)])
    consume = client.basic_consume(queue, prefetch_count=1)
    first = client.wait(consume)
    client.wait(client.basic_qos(consume, prefetch_count=1))
    threads, outcome = waiting(client, lambda: client.wait(consume)["body"])
    client.basic_ack(first)
    assert ended(threads), "the wait was not woken"
    assert outcome == ["1"]


def test_waiting_does_not_keep_other_threads_from_running(connect, queue):
    client = connect()
    client.wait(client.queue_declare(queue, exclusive=True))
    consume = client.basic_consume(queue)
    turns = []
    stop = threading.Event()

    def turn():
        while not stop.is_set():
            turns.append(1)
            time.sleep(0.005)

    thread = threading.Thread(target=turn)
    thread.start()
    assert client.wait(consume, timeout=0.5) is None
    stop.set()
    thread.join()
    assert len(turns) > 20


def test_a_forked_child_is_told_and_makes_its_own(uri, queue):
    out = children.run(
        """
        import os, sys, gc, puka
        uri, queue = sys.argv[1:]
        client = puka.Client(uri)
        client.wait(client.connect())
        client.wait(client.queue_declare(queue, exclusive=True, callback=lambda number, result: client))
        child = os.fork()
        if child == 0:
            gc.collect()
            try:
                client.queue_declare(queue)
            except RuntimeError as error:
                print(type(error).__name__, flush=True)
            own = puka.Client(uri)
            own.wait(own.connect())
            own.wait(own.queue_declare(exclusive=True))
            own.wait(own.close())
            print("its own", flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        client.wait(client.queue_declare(queue, passive=True))
        print("unharmed")
        """,
        uri,
        queue,
    )
    assert out.splitlines() == ["ForkedError", "its own", "unharmed"]


def test_no_descriptor_is_left(uri):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    first = puka.Client(uri)
    first.wait(first.connect())
    first.fileno()
    before = descriptors()
    for _ in range(5):
        client = puka.Client(uri)
        client.wait(client.connect())
        client.fileno()
        client.wait(client.close())
        del client
    gc.collect()
    deadline = time.monotonic() + 20
    while descriptors() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert descriptors() <= before
    first.wait(first.close())
