"""Ctrl-C and other signals during waits."""

from __future__ import annotations

import signal
import statistics
import time

import pytest

import children

# Each waits for ever, or for far longer than a test does, when the broker has stalled.
CALLS = {
    "connect": "mm.connect(proxy.uri, connect_timeout=60)",
    "publish": "client.publish(b'x', routing_key=queue)",
    "publish_nowait": "[client.publish_nowait(b'x', routing_key=queue) for _ in range(100)]",
    "confirmation.result": "client.publish_nowait(b'x', routing_key=queue).result()",
    "wait_all": "mm.wait_all([client.publish_nowait(b'x', routing_key=queue)])",
    "declare_queue": "client.declare_queue(queue)",
    "get": "client.get(queue)",
    "consume": "client.consume(queue)",
    "consumer.get": "consumer.get()",
    "consumer.get with a timeout": "consumer.get(timeout=60)",
    "consumer.get_many": "consumer.get_many(10)",
    "iteration": "next(consumer)",
    "cancel": "consumer.cancel()",
    "events": "client.events().get()",
    "drain": "client.drain(60)",
    "close": "client.close()",
}

PROGRAM = """
    import sys, time
    import murano_messaging as mm
    from brokers import unique
    from proxy import Proxy

    uri = sys.argv[1]
    proxy = Proxy(uri)
    # Few messages fill the window, so that publish_nowait has to wait too.
    client = mm.connect(proxy.uri, window_messages=50, heartbeat=0)
    queue = unique("q")
    client.declare_queue(queue, exclusive=True)
    client.publish(b"x", routing_key=queue)
    consumer = client.consume(queue)
    consumer.get(timeout=10)
    proxy.stall()
    # Several times, because one may be late on a busy machine.
    for _ in range(5):
        print("waiting", flush=True)
        try:
            CALL
        except KeyboardInterrupt:
            print(time.monotonic(), flush=True)
    proxy.resume()
    client.close()
    with mm.connect(uri) as client:
        print("usable", flush=True)
"""


@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c_ends_a_wait_within_100_ms(uri, call):
    with children.start(PROGRAM.replace("CALL", CALLS[call]), uri) as process:
        delays = []
        for _ in range(5):
            assert process.line() == "waiting"
            process.until_it_sleeps()
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            delays.append(float(process.line()) - sent)
        assert process.end() == "usable\n"
        assert statistics.median(delays) < 0.1, delays


def test_a_handler_that_does_not_raise_does_not_end_the_wait(uri):
    out = children.run(
        """
        import os, signal, sys, threading
        import murano_messaging as mm
        from brokers import unique

        handled = []
        signal.signal(signal.SIGUSR1, lambda *_: handled.append(client.stats().published))
        queue = unique("q")
        with mm.connect(sys.argv[1]) as client:
            client.declare_queue(queue, exclusive=True)
            consumer = client.consume(queue)

            def interrupt():
                for _ in range(3):
                    os.kill(os.getpid(), signal.SIGUSR1)
                client.publish(b"x", routing_key=queue)

            threading.Thread(target=interrupt).start()
            print(consumer.get(timeout=30).body, len(handled) > 0)
        """,
        uri,
    )
    assert out == "b'x' True\n"


def test_ctrl_c_ends_an_asyncio_program(uri):
    program = """
        import asyncio, sys
        from murano_messaging import aio
        from brokers import unique

        async def main():
            async with aio.connect(sys.argv[1]) as client:
                queue = unique("q")
                await client.declare_queue(queue, exclusive=True)
                print("waiting", flush=True)
                async for delivery in client.consume(queue):
                    pass

        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """
    with children.start(program, uri) as process:
        assert process.line() == "waiting"
        process.send_signal(signal.SIGINT)
        assert process.end() == "interrupted\n"


def test_sigterm_drains(uri):
    """What a handler of SIGTERM does: a thread drains, and the loop over the deliveries ends."""
    program = """
        import signal, sys, threading, time
        import murano_messaging as mm
        from brokers import unique

        queue = unique("q")
        with mm.connect(sys.argv[1]) as client:
            client.declare_queue(queue, expires=60)
            for n in range(100):
                client.publish(str(n), routing_key=queue)

            def drain(*_):
                threading.Thread(target=client.drain, args=(30,)).start()

            signal.signal(signal.SIGTERM, drain)
            done = []
            for delivery in client.consume(queue, prefetch=10):
                print("working", flush=True)
                time.sleep(0.01)
                delivery.ack()
                done.append(int(delivery.body))
        with mm.connect(sys.argv[1]) as client:
            left = client.queue_info(queue).message_count
            client.delete_queue(queue)
        print("done", done == list(range(len(done))), len(done) + left, flush=True)
        """
    with children.start(program, uri) as process:
        for _ in range(3):
            assert process.line() == "working"
        process.send_signal(signal.SIGTERM)
        assert process.end().splitlines()[-1] == "done True 100"
