"""The end of the interpreter, with clients still open: it does not hang, and prints nothing."""

from __future__ import annotations

import time

import pytest

import children

PROGRAM = """
    import sys, threading, time
    import murano_messaging as mm
    from brokers import unique

    uri = sys.argv[1]
    queue = unique("q")
    client = mm.connect(uri)
    client.declare_queue(queue, exclusive=True)
    STATE
    print("end", flush=True)
"""

STATES = {
    "an open client": "",
    "pending confirms": "pending = [client.publish_nowait(b'x', routing_key=queue) for _ in range(900)]",
    "dropped confirms": "for _ in range(900): client.publish_nowait(b'x', routing_key=queue)",
    "a running consumer": "consumer = client.consume(queue)",
    "unsettled deliveries": (
        "client.publish(b'x', routing_key=queue); consumer = client.consume(queue); delivery = consumer.get()"
    ),
    "an iteration left half way": (
        "client.publish(b'x', routing_key=queue); iterator = iter(client.consume(queue)); next(iterator)"
    ),
    "daemon threads that consume": (
        "[threading.Thread(target=list, args=(client.consume(queue),), daemon=True).start() for _ in range(8)]"
    ),
    "daemon threads that publish": (
        "threads = [threading.Thread(target=lambda: [client.publish(b'x', routing_key=queue) for _ in range(10**9)],"
        " daemon=True) for _ in range(8)]; [thread.start() for thread in threads];"
        " time.sleep(0.3)"
    ),
    "daemon threads that publish without waiting": (
        "threads = [threading.Thread(target=lambda: [client.publish_nowait(b'x', routing_key=queue)"
        " for _ in range(10**9)], daemon=True) for _ in range(8)]; [thread.start() for thread in threads];"
        " time.sleep(0.3)"
    ),
    "a daemon thread that connects": (
        "threading.Thread(target=lambda: [mm.connect(uri) for _ in range(10**9)], daemon=True).start(); time.sleep(0.3)"
    ),
    "events": "events = client.events(); threading.Thread(target=list, args=(events,), daemon=True).start()",
    "a reference cycle": "cycle = [client]; cycle.append(cycle); del client",
    "a module global of another module": "import types; sys.modules['other'] = types.SimpleNamespace(client=client)",
    "an atexit function that uses the client": (
        "import atexit; atexit.register(lambda: client.publish(b'last', routing_key=queue))"
    ),
}


@pytest.mark.parametrize("state", STATES)
def test_the_interpreter_ends_with(uri, state):
    began = time.monotonic()
    assert children.run(PROGRAM.replace("STATE", STATES[state]), uri) == "end\n"
    # An exit that waits for something that does not come takes three seconds.
    assert time.monotonic() - began < 30


def test_what_is_used_when_modules_are_gone_says_that_the_interpreter_ends(uri):
    out = children.run(
        """
        import sys
        import murano_messaging as mm
        from brokers import unique

        class Holder:
            def __del__(self, Exception=Exception, print=print, str=str, type=type):
                for call in self.calls:
                    try:
                        call()
                    except Exception as error:
                        print(type(error).__name__, "interpreter is ending" in str(error))

        client, queue = mm.connect(sys.argv[1]), unique("q")
        client.declare_queue(queue, exclusive=True)
        holder = Holder()
        holder.calls = [
            lambda client=client, queue=queue: client.publish(b"x", routing_key=queue),
            lambda client=client, queue=queue: client.publish_nowait(b"x", routing_key=queue),
            lambda client=client, queue=queue: client.get(queue),
            lambda client=client, queue=queue: client.consume(queue),
        ]
        """,
        uri,
    )
    assert out == "ClosedError True\n" * 4


def test_what_was_published_before_the_end_arrives(uri, unique):
    import murano_messaging as mm

    queue = unique("q")
    with mm.connect(uri) as client:
        client.declare_queue(queue, expires=60)
        children.run(
            """
            import sys
            import murano_messaging as mm

            client = mm.connect(sys.argv[1])
            for n in range(900):
                client.publish_nowait(str(n), routing_key=sys.argv[2])
            """,
            uri,
            queue,
        )
        assert client.queue_info(queue).message_count == 900
        client.delete_queue(queue)


def test_an_unanswered_publish_does_not_keep_the_interpreter(uri):
    began = time.monotonic()
    out = children.run(
        """
        import sys
        import murano_messaging as mm
        from proxy import Proxy

        proxy = Proxy(sys.argv[1])
        client = mm.connect(proxy.uri)
        client.publish(b"x", routing_key="nowhere", mandatory=False)
        proxy.stall()
        pending = client.publish_nowait(b"x", routing_key="nowhere")
        print("end")
        """,
        uri,
    )
    assert out == "end\n"
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("how", ["sys.exit(3)", "os._exit(3)", "raise SystemExit(3)"])
def test_exit_codes_are_kept(uri, how):
    program = PROGRAM.replace("STATE", STATES["pending confirms"]) + f"    import os; {how}\n"
    with children.start(program, uri) as process:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (3, "end\n", "")


def test_an_asyncio_program_ends(uri):
    out = children.run(
        """
        import asyncio, sys
        from murano_messaging import aio
        from brokers import unique

        async def main():
            global client, consumer, pending
            client = await aio.connect(sys.argv[1])
            queue = unique("q")
            await client.declare_queue(queue, exclusive=True)
            consumer = await client.consume(queue)
            pending = [await client.publish_nowait(b"x", routing_key=queue) for _ in range(500)]

        asyncio.run(main())
        print("end")
        """,
        uri,
    )
    assert out == "end\n"


def test_importing_is_enough_to_end():
    assert children.run("import murano_messaging; print('end')") == "end\n"


def test_an_atexit_function_stops_a_daemon_thread(uri):
    """It was registered after the import, although before the first connect."""
    out = children.run(
        """
        import atexit, sys, threading
        import murano_messaging as mm
        from brokers import unique

        stop = threading.Event()

        def stop_worker():
            stop.set()
            worker.join(30)
            print("stopped", not worker.is_alive(), flush=True)

        atexit.register(stop_worker)
        client = mm.connect(sys.argv[1])
        queue = unique("q")
        client.declare_queue(queue, exclusive=True)

        def work():
            with client.consume(queue) as consumer:
                working.set()
                while not stop.is_set():
                    consumer.get(timeout=0.1)

        working = threading.Event()
        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        working.wait(30)
        """,
        uri,
    )
    assert out == "stopped True\n"


def test_what_is_logged_at_the_end_comes_before_the_end_of_logging(uri):
    out = children.run(
        """
        import sys
        import murano_messaging as mm
        import logging

        class Handler(logging.Handler):
            def __init__(self):
                super().__init__()
                self.texts = []

            def emit(self, record):
                self.texts.append(record.getMessage())

            def close(self):
                print(any(text.startswith("closed") for text in self.texts), flush=True)

        handler = Handler()
        logging.getLogger("murano_messaging").addHandler(handler)
        logging.getLogger("murano_messaging").setLevel(logging.DEBUG)
        client = mm.connect(sys.argv[1])
        """,
        uri,
    )
    assert out == "True\n"


def test_a_handler_and_a_callback_that_are_running_at_the_end_come_to_theirs(uri):
    out = children.run(
        """
        import logging, sys, threading, time
        import murano_messaging as mm
        from proxy import Proxy

        running = {name: threading.Event() for name in ("handler", "callback")}

        def take_time(name):
            if not running[name].is_set():
                running[name].set()
                time.sleep(0.3)
                print(name, flush=True)

        handler = logging.Handler()
        handler.emit = lambda record: take_time("handler")
        logging.getLogger("murano_messaging").addHandler(handler)
        logging.getLogger("murano_messaging").setLevel(logging.DEBUG)
        proxy = Proxy(sys.argv[1])
        client = mm.connect(proxy.uri)
        client.on_event(lambda event: take_time("callback"))
        proxy.cut()
        for event in running.values():
            assert event.wait(30)
        """,
        uri,
    )
    assert sorted(out.split()) == ["callback", "handler"]


def test_a_served_broker_does_not_keep_the_interpreter():
    out = children.run(
        """
        import atexit, time
        # Registered first, it is called last.
        atexit.register(lambda: print(time.monotonic() - began < 2))
        import murano_messaging as mm

        broker = mm.Broker()
        client = mm.connect(broker.listen())
        client.declare_queue("q")
        pending = [client.publish_nowait(b"x", routing_key="q") for _ in range(100)]
        began = time.monotonic()
        """
    )
    # The wait at the end takes three seconds if something is left.
    assert out == "True\n"
