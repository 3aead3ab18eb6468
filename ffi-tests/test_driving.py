"""Short waits in a row make the caller drive the connections: whatever else goes on must go on all the same.

``burst`` is what brings that about; each test then does something that somebody else has to be woken for.
"""

from __future__ import annotations

import asyncio
import platform
import signal
import sys
import threading
import time
from typing import Callable

import pytest

import children
import murano_messaging as mm
from brokers import unique
from murano_messaging import aio
from murano_messaging._native import _driven_waits
from proxy import Proxy


def burst(client: mm.Client, queue: str, count: int = 100) -> None:
    for _ in range(count):
        client.publish(b"burst", routing_key=queue, persistent=False)


def wait_until(condition: Callable[[], bool], timeout: float = 30) -> None:
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


def until_nearly_all_waits_are_driven(client: mm.Client, queue: str) -> None:
    """Publish until the caller has driven in 95 % of the waits. Not at once: on a busy machine some waits are long."""
    until = time.monotonic() + 60
    while True:
        before = _driven_waits()
        burst(client, queue, 1000)
        driven = _driven_waits() - before
        if driven >= 950:
            return
        assert time.monotonic() < until, f"{driven} of the last 1,000"


@pytest.fixture
def client(uri, queue):
    with mm.connect(uri) as client:
        client.declare_queue(queue, expires=60)
        yield client


def test_a_thread_that_only_sleeps_is_in_nobodys_way(uri, client, queue):
    heard = []
    client.on_event(heard.append)
    idle = threading.Thread(target=client.consume(queue).get)
    idle.start()
    with mm.connect(uri) as other:
        nobodys = unique("q")
        other.declare_queue(nobodys, exclusive=True)
        before = _driven_waits()
        until = time.monotonic() + 60
        # Not at once: on a busy machine some waits are long.
        while _driven_waits() < before + 100:
            assert time.monotonic() < until
            burst(other, nobodys)
    client.publish(b"x", routing_key=queue)
    idle.join(30)
    assert not idle.is_alive()


def test_after_a_pause_of_the_caller_it_drives_again(client, queue):
    client.delete_queue(queue)
    client.declare_queue(queue, exclusive=True, max_length=10)
    for _ in range(3):
        until_nearly_all_waits_are_driven(client, queue)
        time.sleep(0.005)


def test_after_a_stall_of_the_broker_the_caller_drives_again(uri, queue):
    proxy = Proxy(uri)
    with mm.connect(proxy.uri) as client:
        client.declare_queue(queue, exclusive=True, max_length=10)
        for _ in range(2):
            until_nearly_all_waits_are_driven(client, queue)
            proxy.stall()
            late = client.publish_nowait(b"x", routing_key=queue)
            with pytest.raises(mm.OperationTimeoutError):
                mm.wait_all([late], timeout=0.005)
            proxy.resume()
            mm.wait_all([late])
        until_nearly_all_waits_are_driven(client, queue)
    proxy.close()


def test_what_nobody_waits_for_is_done_too(uri, client, queue):
    for _ in range(20):
        burst(client, queue)
        client.publish_nowait(b"x", routing_key=queue)
        wait_until(lambda: client.stats().in_flight == 0)
    delivery = client.get(queue)
    burst(client, queue)
    delivery.ack()
    wait_until(lambda: client.stats().acked == 1)
    burst(client, queue)
    client.consume(queue).cancel()
    with mm.connect(uri) as other:
        wait_until(lambda: other.queue_info(queue).consumer_count == 0)


def test_heartbeats_go_on_while_the_caller_does_something_else(uri):
    proxy = Proxy(uri)
    queue = unique("q")
    with mm.connect(proxy.uri, heartbeat=3) as client:
        client.declare_queue(queue, exclusive=True)
        burst(client, queue)
        # Nobody waits, and heartbeats of both sides pass nevertheless: a dead peer is given up after six seconds.
        before, lost = proxy.received, client.stats().reconnects
        wait_until(lambda: proxy.received >= before + 8 * 8)
        assert client.stats().reconnects == lost
        burst(client, queue)
    proxy.close()


def test_another_thread_consumes_meanwhile(client, queue):
    received = []

    def consume() -> None:
        with client.consume(queue) as deliveries:
            for delivery in deliveries:
                received.append(delivery)
                delivery.ack()
                if len(received) == 3000:
                    return

    consumer = threading.Thread(target=consume)
    consumer.start()
    burst(client, queue, 3000)
    consumer.join(60)
    assert len(received) == 3000


def test_threads_take_turns(client, queue):
    def work() -> None:
        for _ in range(5):
            burst(client, queue)
            time.sleep(0.001)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert client.stats().confirmed == 2000


@pytest.mark.parametrize("idle", [False, True], ids=["at the same time", "afterwards"])
def test_an_event_loop_in_another_thread(uri, client, queue, idle):
    async def publish() -> int:
        async with aio.connect(uri) as other:
            for _ in range(500):
                await other.publish(b"x", routing_key=queue)
            return other.stats().confirmed

    confirmed = []
    thread = threading.Thread(target=lambda: confirmed.append(asyncio.run(publish())))
    if idle:
        burst(client, queue)
        thread.start()
    else:
        thread.start()
        while thread.is_alive():
            burst(client, queue)
    thread.join(60)
    assert confirmed == [500]


def test_a_long_wait_after_short_ones_and_what_ends_it(uri, queue):
    proxy = Proxy(uri)
    with mm.connect(proxy.uri) as client:
        client.declare_queue(queue, expires=60)
        burst(client, queue)
        proxy.stall()
        with pytest.raises(mm.OperationTimeoutError):
            client.publish(b"x", routing_key=queue, timeout=0.2)
        proxy.resume()
        burst(client, queue)
        proxy.cut()
        burst(client, queue)
        # The one that was late may have been confirmed since.
        assert client.stats().confirmed in (300, 301)
    proxy.close()


def test_a_fork_in_the_middle_of_it(uri):
    out = children.run(
        """
        import os, sys
        import murano_messaging as mm
        from brokers import unique
        from test_driving import burst

        uri, queue = sys.argv[1], unique("q")

        def work(client):
            before = client.stats().confirmed
            burst(client, queue, 500)
            assert client.stats().confirmed == before + 500

        with mm.connect(uri) as client:
            client.declare_queue(queue, expires=60)
            work(client)
            pid = os.fork()
            if pid == 0:
                with mm.connect(uri) as own:
                    work(own)
                os._exit(0)
            work(client)
            assert os.waitpid(pid, 0)[1] == 0
            work(client)
            assert client.queue_info(queue).message_count == 2000
        """,
        uri,
    )
    assert out == ""


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="it has the system call in it")
def test_a_wait_notices_that_the_thread_that_drives_is_gone(uri):
    out = children.run(
        """
        import ctypes, mmap, os, signal, sys, threading, time
        import murano_messaging as mm
        from brokers import unique

        uri, queue = sys.argv[1], unique("q")
        client = mm.connect(uri)
        client.declare_queue(queue, exclusive=True)
        client.publish(b"x", routing_key=queue)

        def consume():
            try:
                with client.consume(queue) as consumer:
                    next(consumer)
                    started.set()
                    next(consumer)
            except mm.ForkedError as error:
                print("consumer:", error)

        started = threading.Event()
        consumer = threading.Thread(target=consume)
        consumer.start()
        started.wait()

        # A handler that ends the thread, without a word to anybody: xor edi, edi; mov eax, 60 (exit); syscall
        code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(bytes.fromhex("31ff b83c000000 0f05"))
        libc = ctypes.CDLL(None)
        libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
        libc.signal(signal.SIGUSR2, ctypes.addressof(ctypes.c_char.from_buffer(code)))

        def comm(task):
            with open(f"/proc/self/task/{task}/comm") as name:
                return name.read().strip()

        # The name is cut by the kernel.
        (thread,) = [task for task in os.listdir("/proc/self/task") if comm(task) == "murano-messagin"]
        libc.syscall(234, os.getpid(), int(thread), signal.SIGUSR2)  # tgkill
        while thread in os.listdir("/proc/self/task"):
            time.sleep(0.001)

        for operation in (lambda: client.queue_info(queue), lambda: client.publish(b"x", timeout=60), client.close):
            try:
                operation()
            except mm.ForkedError as error:
                print(error)
        with mm.connect(uri) as own:
            own.declare_queue(unique("q"), exclusive=True)
        consumer.join()
        """,
        uri,
    )
    told = "the thread that drove the connections of this client has ended: make a new one (call connect())"
    assert sorted(out.splitlines()) == [f"consumer: {told}", told, told, told]


def test_ctrl_c_in_the_middle_of_it(uri):
    program = """
        import sys
        import murano_messaging as mm
        from brokers import unique
        from test_driving import burst

        queue = unique("q")
        with mm.connect(sys.argv[1]) as client:
            client.declare_queue(queue, exclusive=True, max_length=10)
            for _ in range(5):
                try:
                    print("busy", flush=True)
                    burst(client, queue, 10**9)
                except KeyboardInterrupt:
                    pass
            burst(client, queue)
        print("usable")
    """
    with children.start(program, uri) as process:
        for _ in range(5):
            assert process.line() == "busy"
            time.sleep(0.1)
            process.send_signal(signal.SIGINT)
        assert process.end() == "usable\n"


def test_the_end_of_the_interpreter_in_the_middle_of_it(uri):
    out = children.run(
        """
        import sys, threading
        import murano_messaging as mm
        from brokers import unique
        from test_driving import burst

        queue = unique("q")
        client = mm.connect(sys.argv[1])
        client.declare_queue(queue, exclusive=True, max_length=10)
        burst(client, queue)
        threading.Thread(target=burst, args=(client, queue, 10**9), daemon=True).start()
        while client.stats().confirmed < 1000:
            pass
        print("end")
        """,
        uri,
    )
    assert out == "end\n"
