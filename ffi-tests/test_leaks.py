"""Memory over many messages and many clients, and subinterpreters."""

from __future__ import annotations

import pytest

import children
import leaks
import murano_messaging as mm

# Rounds of 10,000 messages. The module under test here is not optimized; a million messages, in 100 rounds, are sent
# through the wheel, which is (`make wheel`, ffi-tests/package).
ROUNDS = 20


@pytest.mark.parametrize("program", [leaks.SYNC, leaks.ASYNCIO], ids=["sync", "asyncio"])
def test_many_messages_leave_nothing_behind(uri, program):
    out = children.run(program, uri, str(ROUNDS), timeout=110)
    assert float(out) < leaks.allowed(ROUNDS), f"{out.strip()} MiB more"


def test_clients_that_are_dropped_leave_nothing_behind(uri):
    out = children.run(
        """
        import gc, os, sys, time
        import murano_messaging as mm

        def descriptors():
            return len(os.listdir("/proc/self/fd"))

        uri = sys.argv[1]
        mm.connect(uri)
        time.sleep(0.1)
        before = descriptors()
        for _ in range(100):
            client = mm.connect(uri)
            client.publish_nowait(b"x", routing_key="nowhere", mandatory=False)
            cycle = [client, client.events()]
            cycle.append(cycle)
        del client, cycle
        gc.collect()
        until = time.monotonic() + 30
        while descriptors() > before and time.monotonic() < until:
            time.sleep(0.01)
        print(descriptors() - before)
        """,
        uri,
    )
    assert int(out) <= 0


def test_waits_that_are_given_up_leave_nothing_with_their_publish(uri):
    out = children.run(
        """
        import asyncio, sys
        from murano_messaging import aio
        from proxy import Proxy

        def resident():
            with open("/proc/self/status") as status:
                return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

        async def main():
            proxy = Proxy(sys.argv[1])
            async with aio.connect(proxy.uri) as client:
                await client.publish(b"", routing_key="nowhere", mandatory=False)
                proxy.stall()
                pending = await client.publish_nowait(b"", routing_key="nowhere", mandatory=False)
                waiting = asyncio.ensure_future(pending.result())
                await asyncio.sleep(0)
                for n in range(-2, 20):
                    if n == 0:
                        before = resident()
                    for _ in range(1000):
                        wait = pending.result()
                        wait.send(None)
                        wait.close()
                print(resident() - before)
                proxy.resume()
                await waiting

        asyncio.run(main())
        """,
        uri,
    )
    # A waker and its map entry take more than 100 bytes.
    assert float(out) < 1, f"{out.strip()} MiB more after 20,000 waits"


def test_loops_that_are_closed_with_something_pending_leave_nothing_behind(uri):
    out = children.run(
        """
        import asyncio, gc, logging, os, sys, time, weakref
        import murano_messaging as mm
        from murano_messaging import aio
        from brokers import unique

        # "Task was destroyed but it is pending!" is true.
        logging.disable(logging.CRITICAL)
        uri, queue = sys.argv[1], unique("q")
        tasks, loops = [], weakref.WeakSet()

        async def use():
            client = await aio.connect(uri)
            consumer = await client.consume(queue)
            tasks.append(asyncio.ensure_future(consumer.get()))
            await asyncio.sleep(0)

        with mm.connect(uri) as other:
            other.declare_queue(queue, exclusive=False, expires=60)
            for _ in range(20):
                loop = asyncio.new_event_loop()
                loops.add(loop)
                loop.run_until_complete(use())
                loop.close()
                tasks.clear()
            del loop
            gc.collect()
            until = time.monotonic() + 30
            while other.queue_info(queue).consumer_count and time.monotonic() < until:
                time.sleep(0.01)
            print(len(loops), other.queue_info(queue).consumer_count)
            other.delete_queue(queue)
        """,
        uri,
    )
    assert out == "0 0\n"


def test_callbacks_that_lead_to_their_client_are_collected_with_it(uri):
    out = children.run(
        """
        import gc, sys, threading, time, weakref
        import murano_messaging as mm

        uri = sys.argv[1]

        class Asked:
            def __init__(self):
                self.client = mm.connect(uri, credentials=self.credentials)

            def credentials(self):
                return "guest", "guest"

        class Told:
            def __init__(self):
                self.client = mm.connect(uri)
                self.client.on_event(self.told)

            def told(self, event):
                pass

        references = [weakref.ref(kind()) for kind in (Asked, Told) for _ in range(20)]
        until = time.monotonic() + 30
        # A thread that has just called one may not have ended yet.
        while any(reference() is not None for reference in references) and time.monotonic() < until:
            gc.collect()
            time.sleep(0.01)
        print(sum(reference() is not None for reference in references))
        # The threads of `on_event` end with their clients.
        while any(t.name == "murano-messaging-events" for t in threading.enumerate()) and time.monotonic() < until:
            time.sleep(0.01)
        print([t.name for t in threading.enumerate() if t.name == "murano-messaging-events"])
        """,
        uri,
    )
    assert out == "0\n[]\n"


def test_a_dropped_client_still_asks_for_credentials_to_send_what_it_was_given(uri, unique):
    queue = unique("q")
    with mm.connect(uri) as other:
        other.declare_queue(queue, expires=60)
        client = mm.connect(uri, credentials=lambda: ("guest", "guest"))
        client.publish_nowait(b"x", routing_key=queue)
        del client
        with other.consume(queue) as deliveries:
            assert deliveries.get(timeout=30).body == b"x"


def test_errors_keep_nothing_alive(uri):
    """A caught exception of a wait does not keep its client."""
    out = children.run(
        """
        import gc, sys, weakref
        import murano_messaging as mm

        def fail():
            client = mm.connect(sys.argv[1])
            try:
                client.queue_info("missing-" + "x" * 50)
            except mm.NotFoundError as error:
                return weakref.ref(client), error.with_traceback(None)

        reference, error = fail()
        gc.collect()
        print(reference() is None, error.reply_code)
        """,
        uri,
    )
    assert out == "True 404\n"


@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "as mod_wsgi makes them"])
def test_a_subinterpreter_is_refused_with_a_clear_error(isolated):
    out = children.run(
        f"""
        isolated = {isolated}
        try:
            import _interpreters as interpreters
            interpreter = interpreters.create("isolated" if isolated else "legacy")
        except ImportError:
            import _xxsubinterpreters as interpreters
            interpreter = interpreters.create(isolated=isolated)
        code = '''if True:
            try:
                import murano_messaging
            except ImportError as error:
                assert "subinterpreters" in str(error), error
                assert "WSGIApplicationGroup %{{GLOBAL}}" in str(error), error
                print("refused", flush=True)
        '''
        failed = interpreters.run_string(interpreter, code)
        assert failed is None, failed
        """
    )
    assert out == "refused\n"
