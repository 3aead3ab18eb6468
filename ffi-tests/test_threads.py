"""One client in many threads, and many clients on one engine thread."""

from __future__ import annotations

import os
import threading

import pytest

import murano_messaging as mm


def test_sixteen_threads_publish_and_consume(uri, queue):
    threads, each = 16, 200
    with mm.connect(uri) as client:
        client.declare_queue(queue, expires=60)
        received: list[int] = []
        failures: list[BaseException] = []
        consumer = client.consume(queue, prefetch=20)

        def work(index: int) -> None:
            try:
                pending = []
                for n in range(index * each, (index + 1) * each):
                    if n % 2:
                        client.publish(str(n), routing_key=queue)
                    else:
                        pending.append(client.publish_nowait(str(n), routing_key=queue))
                mm.wait_all(pending, timeout=30)
                # All threads take from the same consumer.
                while len(received) < threads * each:
                    for delivery in consumer.get_many(10, timeout=0.05):
                        received.append(int(delivery.body))
                        delivery.ack()
            except BaseException as error:
                failures.append(error)

        workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert not failures, failures
        assert sorted(received) == list(range(threads * each))
        stats = client.stats()
        assert stats.confirmed == stats.acked == threads * each


def test_a_thread_that_waits_does_not_keep_others_from_running(uri, queue):
    with mm.connect(uri) as client:
        client.declare_queue(queue, expires=60)
        consumer = client.consume(queue)
        waiting = threading.Thread(target=consumer.get)
        waiting.start()
        # Python code runs on while the other thread is in its wait.
        total = sum(range(100_000))
        assert waiting.is_alive() and total
        client.publish(b"x", routing_key=queue)
        waiting.join(10)
        assert not waiting.is_alive()


def test_all_clients_share_one_engine_thread(uri):
    def native_threads() -> int:
        return len(os.listdir("/proc/self/task"))

    with mm.connect(uri):
        before = native_threads()
        clients = [mm.connect(uri) for _ in range(50)]
        assert native_threads() <= before
        for client in clients:
            client.close()


def test_a_client_is_closed_in_the_middle_of_other_threads_waits(uri, queue):
    client = mm.connect(uri)
    client.declare_queue(queue, expires=60)
    outcomes: list[object] = []

    def get() -> None:
        try:
            outcomes.append(client.consume(queue).get())
        except mm.ClosedError as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=get) for _ in range(4)]
    for thread in threads:
        thread.start()
    with mm.connect(uri) as other:
        while other.queue_info(queue).consumer_count < 4:
            pass
    client.close()
    for thread in threads:
        thread.join(10)
    # None is a timeout and nothing else.
    assert outcomes == [mm.ClosedError] * 4


@pytest.mark.parametrize("name", ["publish", "declare_queue"])
def test_waits_end_when_the_client_is_closed_meanwhile(uri, queue, name):
    from proxy import Proxy

    proxy = Proxy(uri)
    client = mm.connect(proxy.uri, timeout=3)
    client.declare_queue(queue, exclusive=True)
    client.publish(b"x", routing_key=queue)
    proxy.stall()
    call = {
        "publish": lambda: client.publish(b"x", routing_key=queue),
        "declare_queue": lambda: client.declare_queue(queue, exclusive=True),
    }[name]
    outcome: list[type] = []

    def work() -> None:
        try:
            call()
        except mm.MessagingError as error:
            outcome.append(type(error))

    thread = threading.Thread(target=work)
    thread.start()
    with pytest.raises(mm.OperationTimeoutError):
        client.close()
    thread.join(10)
    assert outcome in ([mm.OperationTimeoutError], [mm.ClosedError])
    proxy.close()
