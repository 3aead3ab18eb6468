"""Somebody else's event loop: ``fileno``, ``on_read``, ``on_write``, ``needs_write``, ``run_any_callbacks``."""

from __future__ import annotations

import select
import subprocess
import sys
import threading
import time

import pytest

import puka
from proxy import Proxy


@pytest.fixture
def connect(uri):
    clients = []

    def connect():
        client = puka.Client(uri)
        clients.append(client)
        client.wait(client.connect())
        return client

    yield connect
    for client in clients:
        try:
            client.wait(client.close(), timeout=20)
        except puka.ConnectionBroken:
            pass


def readable(client, timeout=0.0):
    return bool(select.select([client], [], [client], timeout)[0])


def test_readable_exactly_when_there_is_something_to_do(connect):
    client = connect()
    assert not readable(client)
    seen = []
    client.queue_declare(exclusive=True, callback=lambda number, result: seen.append(result["queue"]))
    assert readable(client, 20)
    client.on_read()
    # Its result waits for its callback.
    assert readable(client)
    client.run_any_callbacks()
    assert len(seen) == 1
    assert not readable(client, 0.2)


def test_deliveries_make_it_readable(connect, queue):
    client, other = connect(), connect()
    client.wait(client.queue_declare(queue, exclusive=True))
    seen = []
    client.basic_consume(queue, callback=lambda number, result: seen.append(result["body"]))
    # The broker's answer to the consume.
    assert readable(client, 20)
    client.on_read()
    assert not readable(client, 0.2)
    other.wait_for_all([other.basic_publish("", queue, body=str(number)) for number in range(10)])
    deadline = time.monotonic() + 20
    while len(seen) < 10 and time.monotonic() < deadline:
        assert readable(client, 20)
        client.on_read()
        client.run_any_callbacks()
    assert seen == [str(number) for number in range(10)]
    assert not readable(client, 0.2)


def test_publishes_wait_for_on_write(connect, queue):
    client = connect()
    client.wait(client.queue_declare(queue, exclusive=True))
    assert client.needs_write() is False
    seen = []
    client.basic_publish("", queue, body="x", callback=lambda number, result: seen.append(result))
    assert client.needs_write() is True
    assert select.select([], [client], [], 0)[1]
    client.on_write()
    assert client.needs_write() is False
    assert readable(client, 20)
    client.run_any_callbacks()
    assert seen == [{}]


@pytest.mark.parametrize("kind", ["select", "poll", "epoll"])
def test_a_loop_over_several_clients_makes_progress_and_does_not_spin(connect, queue, kind):
    clients = [connect() for _ in range(3)]
    left = 50
    seen = {client: [] for client in clients}

    def delivered(client):
        def on_delivery(number, result):
            seen[client].append(result["body"])
            client.basic_ack(result)
            if len(seen[client]) < left:
                following = clients[(clients.index(client) + 1) % len(clients)]
                following.basic_publish("", f"{queue}-{clients.index(following)}", body=result["body"])

        return on_delivery

    for place, client in enumerate(clients):
        client.wait(client.queue_declare(f"{queue}-{place}", exclusive=True))
    for place, client in enumerate(clients):
        client.basic_consume(f"{queue}-{place}", prefetch_count=1, callback=delivered(client))
    clients[0].basic_publish("", f"{queue}-0", body="ball")

    turns = 0
    wait = {"select": by_select, "poll": by_poll, "epoll": by_epoll}[kind](clients)
    deadline = time.monotonic() + 60
    while any(len(bodies) < left - 1 for bodies in seen.values()):
        assert time.monotonic() < deadline
        for client in clients:
            client.run_any_callbacks()
        reading, writing = wait([client for client in clients if client.needs_write()], 20)
        assert reading or writing, "nothing happened"
        for client in reading:
            client.on_read()
        for client in writing:
            client.on_write()
        turns += 1
    # Each ball is published, confirmed and delivered: three things, in up to two turns each.
    assert turns < 10 * left * len(clients)
    began, idle = time.monotonic(), 0
    while time.monotonic() - began < 0.5:
        for client in clients:
            client.run_any_callbacks()
        for client in wait([client for client in clients if client.needs_write()], 0.1)[0]:
            client.on_read()
        idle += 1
    assert idle < 20, "the loop spins"


def by_select(clients):
    def wait(writing, timeout):
        return select.select(clients, writing, clients, timeout)[:2]

    return wait


def by_poll(clients):
    by_number = {client.fileno(): client for client in clients}

    def wait(writing, timeout):
        poll = select.poll()
        for client in clients:
            poll.register(client, select.POLLIN | (select.POLLOUT if client in writing else 0))
        events = poll.poll(timeout * 1000)
        reading = [by_number[number] for number, event in events if event & select.POLLIN]
        return reading, [by_number[number] for number, event in events if event & select.POLLOUT]

    return wait


def by_epoll(clients):
    by_number = {client.fileno(): client for client in clients}

    def wait(writing, timeout):
        with select.epoll() as epoll:
            for client in clients:
                epoll.register(client, select.EPOLLIN | (select.EPOLLOUT if client in writing else 0))
            events = epoll.poll(timeout)
        reading = [by_number[number] for number, event in events if event & select.EPOLLIN]
        return reading, [by_number[number] for number, event in events if event & select.EPOLLOUT]

    return wait


def test_the_socket_stands_for_the_client(connect):
    client = connect()
    assert client.socket() is client.socket()
    client.queue_declare(exclusive=True)
    assert select.select([client.socket()], [], [], 20)[0]
    client.run_any_callbacks()
    assert not select.select([client.socket()], [], [], 0.2)[0]
    client.socket().close()


LOOP = """
import sys, puka
uri, queue = sys.argv[1:]
first, second = puka.Client(uri), puka.Client(uri)

def on_delivery(number, result):
    print(result["body"], flush=True)
    second.basic_ack(result)

def consume(number, result):
    second.basic_consume(queue, callback=on_delivery)
    first.basic_publish("", queue, body="through the loop")

second.wait(second.connect())
first.connect(callback=lambda number, result: second.queue_declare(queue, exclusive=True, callback=consume))
puka.loop([first, second])
"""


def test_puka_loop(uri, queue):
    with subprocess.Popen([sys.executable, "-c", LOOP, uri, queue], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "through the loop\n"
            assert process.poll() is None
        finally:
            process.kill()


@pytest.fixture
def lost(uri, queue):
    """A client that consumes, whose connection is cut, and what its callbacks have heard."""
    proxy = Proxy(uri)
    client = puka.Client(proxy.uri)
    heard = []
    client.wait(client.connect(callback=lambda number, result: heard.append("connect")))
    client.wait(client.queue_declare(queue, auto_delete=True))
    client.basic_consume(queue, callback=lambda number, result: heard.append(type(result.exception)))
    heard.clear()
    # Registered before the end, as loops other than `select` do.
    client.fileno()
    proxy.cut()
    yield client, heard
    proxy.close()


def test_puka_loop_ends_with_a_lost_connection(connect, lost):
    client, heard = lost
    with pytest.raises(puka.ConnectionBroken):
        puka.loop([connect(), client])
    assert heard == ["connect", puka.ConnectionBroken]


@pytest.mark.parametrize("kind", ["poll", "epoll", "select"])
def test_another_loop_is_told_of_a_lost_connection(lost, kind):
    client, heard = lost
    with select.epoll() as epoll:
        poll = select.poll()
        for one in (poll, epoll):
            one.register(client.fileno(), select.POLLIN)
        waits = {
            "poll": lambda: poll.poll(20_000),
            "epoll": lambda: epoll.poll(20),
            "select": lambda: select.select([client], [], [], 20)[0],
        }
        turns = 0
        with pytest.raises(puka.ConnectionBroken):
            while waits[kind]():
                client.on_read()
                client.run_any_callbacks()
                turns += 1
        assert heard == ["connect", puka.ConnectionBroken]
        assert turns < 10
        # Whoever goes on all the same does not spin.
        assert poll.poll(200) == []
        with pytest.raises(puka.ConnectionBroken):
            client.on_read()
        with pytest.raises(puka.ConnectionBroken):
            client.fileno()


def test_loop_break_from_another_thread(connect):
    client = connect()
    timer = threading.Timer(0.3, client.loop_break)
    timer.start()
    began = time.monotonic()
    client.loop(timeout=60)
    assert time.monotonic() - began < 30
    timer.join()


def test_a_steady_stream_does_not_keep_a_loop_from_its_timeout(connect, queue):
    client, other = connect(), connect()
    client.wait(client.queue_declare(queue, exclusive=True))
    stop = threading.Event()

    def publish():
        while not stop.is_set():
            other.wait_for_all([other.basic_publish("", queue, body="x" * 10) for _ in range(200)])

    thread = threading.Thread(target=publish)
    client.basic_consume(queue, no_ack=True, callback=lambda number, result: seen.append(number))
    seen = []
    thread.start()
    try:
        began = time.monotonic()
        client.loop(timeout=1)
        assert time.monotonic() - began < 10
    finally:
        stop.set()
        thread.join()
    assert seen
