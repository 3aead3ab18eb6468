"""Under a monkey-patched eventlet or gevent. Each test is a process of its own, written for both.

The contract runs there too: ``pytest -p green_eventlet --face eventlet``, and the same for gevent.
"""

from __future__ import annotations

import pytest

import children

PRELUDE = {
    "eventlet": """
import eventlet
eventlet.monkey_patch()
from eventlet import Timeout, hubs, sleep, spawn
from greenlet import GreenletExit

def join(threads):
    return [thread.wait() for thread in threads]

def kill(thread):
    thread.kill()
""",
    "gevent": """
from gevent import monkey
monkey.patch_all()
import gevent
from gevent import Timeout, sleep, spawn
from greenlet import GreenletExit

def join(threads):
    gevent.joinall(threads, raise_error=True)
    return [thread.value for thread in threads]

def kill(thread):
    thread.kill()
""",
}

COMMON = """
import os, sys, time
import murano_messaging as mm
from brokers import unique

uri = sys.argv[1]
queue = unique("q")

def eventually(condition):
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "it never happened"
        sleep(0.01)
"""


@pytest.fixture(params=["eventlet", "gevent"])
def green(request):
    def run(code: str, *arguments: str) -> str:
        import textwrap

        return children.run(PRELUDE[request.param] + COMMON + textwrap.dedent(code), *arguments)

    return run


def test_200_green_threads_wait_while_another_ticks(green, uri):
    out = green(
        """
        ticks = 0

        def tick():
            global ticks
            while True:
                ticks += 1
                sleep(0.01)

        with mm.connect(uri) as client:
            client.declare_queue(queue, expires=60)
            consumer = client.consume(queue, prefetch=0)
            ticker = spawn(tick)
            waiting = [spawn(consumer.get) for _ in range(200)]
            descriptors = len(os.listdir("/proc/self/fd"))
            began = time.monotonic()
            sleep(2)
            # 200 ticks if nothing else happened; a wait that blocked would leave one or two.
            ticked = ticks
            assert ticked >= 40, ticked
            assert not any(thread.dead for thread in waiting)
            # One descriptor for all that wait.
            assert len(os.listdir("/proc/self/fd")) <= descriptors + 1
            for n in range(200):
                client.publish(str(n), routing_key=queue)
            deliveries = join(waiting)
            assert sorted(int(delivery.body) for delivery in deliveries) == list(range(200))
            for delivery in deliveries:
                delivery.ack()
            kill(ticker)
        print("done")
        """,
        uri,
    )
    assert out == "done\n"


def test_every_waiting_call_lets_others_run(green, uri):
    """Calls that wait for a broker that answers late: meanwhile another green thread does a known amount of work."""
    out = green(
        """
        from proxy import Proxy

        proxy = Proxy(uri)
        client = mm.connect(proxy.uri, window_messages=10)
        client.declare_queue(queue, expires=60)
        client.publish(b"x", routing_key=queue)
        consumer = client.consume(queue)
        consumer.get(timeout=10)
        events = client.events()
        calls = {
            "publish": lambda: client.publish(b"x", routing_key=queue),
            "publish_nowait": lambda: [client.publish_nowait(b"x", routing_key=queue) for _ in range(30)],
            "result": lambda: client.publish_nowait(b"x", routing_key=queue).result(),
            "wait_all": lambda: mm.wait_all([client.publish_nowait(b"x", routing_key=queue)]),
            "declare_queue": lambda: client.declare_queue(queue, expires=60),
            "queue_info": lambda: client.queue_info(queue),
            "get": lambda: client.get("amq.nothing" if False else queue),
            "consume": lambda: client.consume(queue).cancel(),
            "consumer.get": lambda: consumer.get(timeout=0.5),
            "consumer.get_many": lambda: consumer.get_many(5, timeout=0.5),
            "events.get": lambda: events.get(timeout=0.5),
            "connect": lambda: mm.connect(proxy.uri).close(),
            "close": lambda: client.close(),
        }
        for name, call in calls.items():
            while consumer.get(timeout=0.1) is not None:
                pass
            steps = []

            def others():
                for n in range(20):
                    steps.append(n)
                    sleep(0.001)
                proxy.resume()

            proxy.stall()
            other = spawn(others)
            call()
            # The answer was held back until the other green thread had done all of its work.
            assert len(steps) == 20, (name, steps)
            join([other])
        proxy.close()
        print("done")
        """,
        uri,
    )
    assert out == "done\n"


def test_a_timeout_ends_a_wait_and_leaves_the_client_usable(green, uri):
    out = green(
        """
        with mm.connect(uri) as client:
            client.declare_queue(queue, expires=60)
            consumer = client.consume(queue)
            for _ in range(20):
                try:
                    with Timeout(0.01):
                        consumer.get()
                    raise AssertionError("no timeout")
                except Timeout:
                    pass
            client.publish(b"x", routing_key=queue)
            with Timeout(10):
                print(consumer.get().body)
        """,
        uri,
    )
    assert out == "b'x'\n"


def test_kill_ends_a_wait_and_leaves_the_client_usable(green, uri):
    out = green(
        """
        ended = []

        def wait():
            try:
                consumer.get()
            except GreenletExit:
                ended.append(True)
                raise

        with mm.connect(uri) as client:
            client.declare_queue(queue, expires=60)
            consumer = client.consume(queue)
            threads = [spawn(wait) for _ in range(50)]
            sleep(0.05)
            for thread in threads[:49]:
                kill(thread)
            eventually(lambda: len(ended) == 49)
            # The one that is left gets the delivery: none was lost with the killed.
            client.publish(b"x", routing_key=queue)
            eventually(lambda: threads[49].dead)
            assert len(ended) == 49
            assert consumer.delivered == 1
            client.publish(b"y", routing_key=queue)
            print(consumer.get(timeout=10).body)
        """,
        uri,
    )
    assert out == "b'y'\n"


def test_a_killed_publish_does_not_take_a_place_in_the_window(green, uri):
    out = green(
        """
        from proxy import Proxy

        proxy = Proxy(uri)
        with mm.connect(proxy.uri, window_messages=2) as client:
            client.declare_queue(queue, expires=60)
            client.publish(b"0", routing_key=queue)
            proxy.stall()
            threads = [spawn(client.publish, b"1", routing_key=queue) for _ in range(6)]
            sleep(0.05)
            for thread in threads:
                kill(thread)
            proxy.resume()
            for _ in range(5):
                client.publish(b"2", routing_key=queue)
            assert client.stats().in_flight == 0
        proxy.close()
        print("done")
        """,
        uri,
    )
    assert out == "done\n"


def test_one_that_goes_on_may_kill_another_that_is_ready(green, uri):
    out = green(
        """
        with mm.connect(uri) as client:
            client.declare_queue(queue, expires=60)
            consumer = client.consume(queue, prefetch=0)
            threads, seen = [], []

            def work(index):
                try:
                    delivery = consumer.get()
                    seen.append(int(delivery.body))
                    for thread in threads[index + 1:index + 3]:
                        kill(thread)
                except GreenletExit:
                    pass

            threads += [spawn(work, index) for index in range(30)]
            sleep(0.05)
            mm.wait_all([client.publish_nowait(str(n), routing_key=queue) for n in range(30)])
            join(threads)
            assert seen
            # What the killed did not take is still to be had.
            while len(seen) < 30:
                seen.append(int(consumer.get(timeout=30).body))
            assert sorted(seen) == list(range(30)), seen
        print("done")
        """,
        uri,
    )
    assert out == "done\n"


def test_a_native_thread_has_its_own_way_to_wait(green, uri):
    """In a thread that is not green, and has no hub, a wait blocks that thread and nobody else."""
    out = green(
        """
        with mm.connect(uri) as client:
            client.declare_queue(queue, expires=60)
            consumer = client.consume(queue)
            if "eventlet" in sys.modules:
                from eventlet import tpool
                execute = tpool.execute
            else:
                execute = gevent.get_hub().threadpool.apply
                inner = execute
                execute = lambda function, *args: inner(function, args)
            thread = spawn(execute, consumer.get)
            sleep(0.1)
            client.publish(b"x", routing_key=queue)
            print(join([thread])[0].body)
        """,
        uri,
    )
    assert out == "b'x'\n"


def test_ctrl_c(uri, green):
    out = green(
        """
        with mm.connect(uri) as client:
            client.declare_queue(queue, expires=60)
            consumer = client.consume(queue)
            if "gevent" in sys.modules:
                # It prints every KeyboardInterrupt that it finds in the hub, and passes it on.
                gevent.get_hub().exception_stream = None
            # This green thread runs once the other waits, and the hub waits before the signal comes.
            spawn(os.system, "(sleep 0.2; kill -INT %d) > /dev/null 2>&1 &" % os.getpid())
            try:
                consumer.get()
            except KeyboardInterrupt:
                print("interrupted")
            client.publish(b"x", routing_key=queue)
            print(consumer.get(timeout=10).body)
        """,
        uri,
    )
    assert out == "interrupted\nb'x'\n"


def test_forking(uri, green):
    out = green(
        """
        client = mm.connect(uri)
        client.declare_queue(queue, expires=60)
        consumer = client.consume(queue)
        waiting = spawn(consumer.get)
        sleep(0.05)
        pid = os.fork()
        if pid == 0:
            try:
                try:
                    client.publish(b"x", routing_key=queue)
                except mm.ForkedError:
                    with mm.connect(uri) as own:
                        own.publish(b"child", routing_key=queue)
                    os._exit(0)
            finally:
                os._exit(1)
        # Waited for without the patched waitpid, which would need a handler of SIGCHLD.
        status = []
        while not status:
            found, code = os.waitpid(pid, os.WNOHANG)
            status += [code] if found == pid else []
            sleep(0.01)
        assert status == [0], status
        print(join([waiting])[0].body)
        client.close()
        """,
        uri,
    )
    assert out == "b'child'\n"


def test_log_records_are_emitted_in_a_green_thread(uri, green):
    out = green(
        """
        import logging, threading

        idents = []

        class Handler(logging.Handler):
            def emit(self, record):
                sleep(0)    # what a handler that writes to a socket does
                idents.append(threading.current_thread().name)

        logger = logging.getLogger("murano_messaging")
        logger.addHandler(Handler())
        logger.setLevel(logging.DEBUG)
        with mm.connect(uri) as client:
            eventually(lambda: len(idents) >= 2)
        print(set(idents))
        """,
        uri,
    )
    assert out == "{'murano-messaging-service'}\n"


def test_gevent_finds_that_nothing_is_left_to_do(uri):
    """An open client does not keep ``gevent.wait()``; a green thread that waits in it does."""
    out = children.run(
        PRELUDE["gevent"]
        + COMMON
        + """
client = mm.connect(uri)
client.declare_queue(queue, exclusive=True)
consumer = client.consume(queue)
assert gevent.wait(timeout=30) is True
waiting = spawn(consumer.get)
sleep(0.05)
assert gevent.wait(timeout=0.2) is False
client.publish(b"x", routing_key=queue)
assert gevent.wait(timeout=30) is True
print(waiting.value.body)
""",
        uri,
    )
    assert out == "b'x'\n"


def test_a_backlog_leaves_turns_to_the_others(green, uri):
    out = green(
        """
        ticks = 0

        def tick():
            global ticks
            while True:
                ticks += 1
                sleep(0)

        def work(seconds):
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                pass

        with mm.connect(uri) as client:
            client.declare_queue(queue, expires=60)
            mm.wait_all([client.publish_nowait(b"x", routing_key=queue) for _ in range(500)])
            spawn(tick)
            for take in ("iterate", "get", "get_many"):
                with client.consume(queue, prefetch=500) as deliveries:
                    eventually(lambda: client.stats().undelivered_bytes >= 500)
                    before, taken = ticks, []
                    if take == "iterate":
                        for delivery in deliveries:
                            taken.append(delivery)
                            work(0.001)
                            if len(taken) == 500:
                                break
                    while len(taken) < 500:
                        taken += [deliveries.get()] if take == "get" else deliveries.get_many(10)
                        work(0.001)
                    # Half a second of work, or 50 ms: a turn at least every 5 ms of it, and a margin of five.
                    assert ticks - before >= (2 if take == "get_many" else 20), (take, ticks - before)
                    for delivery in taken:
                        delivery.requeue()
        print("done")
        """,
        uri,
    )
    assert out == "done\n"


def test_a_raw_greenlet_that_fails_takes_nobody_with_it(green, uri):
    out = green(
        """
        import greenlet

        with mm.connect(uri) as client:
            client.declare_queue(queue, expires=60)
            consumers = [client.consume(queue, prefetch=1) for _ in range(6)]
            seen = []

            def fail():
                consumers[0].get().ack()
                seen.append("failed")
                raise ValueError("in a raw greenlet")

            def get(consumer):
                consumer.get().ack()
                seen.append("went on")

            sys.stderr = open(os.devnull, "w")
            if "gevent" in sys.modules:
                gevent.spawn_raw(fail)
            else:
                eventlet.spawn_n(fail)
            threads = [spawn(get, consumer) for consumer in consumers[1:]]
            sleep(0)
            mm.wait_all([client.publish_nowait(b"x", routing_key=queue) for _ in range(6)])
            join(threads)
            eventually(lambda: len(seen) == 6)
            assert client.queue_info(queue).message_count == 0
        print(sorted(set(seen)))
        """,
        uri,
    )
    assert out == "['failed', 'went on']\n"


NATIVE = {
    "eventlet": """
from eventlet import tpool
elsewhere = tpool.execute
""",
    "gevent": """
elsewhere = lambda function, *arguments: gevent.get_hub().threadpool.apply(function, arguments)
""",
}


@pytest.mark.parametrize("kind", PRELUDE)
def test_the_service_outlives_a_first_client_that_a_native_thread_made(uri, kind):
    """Log records and credentials come through also where that thread had no hub, or has ended."""
    out = children.run(
        PRELUDE[kind]
        + COMMON
        + NATIVE[kind]
        + """
import logging, threading

records = []
handler = logging.Handler()
handler.emit = lambda record: records.append((record.getMessage(), threading.current_thread().name))
logging.getLogger("murano_messaging").addHandler(handler)
logging.getLogger("murano_messaging").setLevel(logging.DEBUG)

client = elsewhere(mm.connect, uri)
# The pool's thread has no hub: there is a service all the same.
second = elsewhere(lambda: mm.connect(uri, credentials=lambda: ("guest", "guest"), connect_timeout=20))
third = mm.connect(uri, credentials=lambda: ("guest", "guest"), connect_timeout=20)
records.clear()
third.close()
eventually(lambda: any(text.startswith("closed") for text, _ in records))
print({name for _, name in records})
""",
        uri,
    )
    assert out == "{'murano-messaging-service'}\n"


SERVICE = """
import logging, threading
from proxy import Proxy

asked = []

def credentials():
    asked.append(1)
    return "guest", "guest"

def reconnects(client):
    before = len(asked)
    proxy.cut()
    client.publish(b"x", routing_key=queue, timeout=30)
    return len(asked) > before

proxy = Proxy(uri)
host = proxy.uri.split("@")[1]
logger = logging.getLogger("murano_messaging")
logger.setLevel(logging.DEBUG)
"""


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit", "GreenletExit"])
def test_the_service_outlives_what_ends_its_green_thread(green, uri, error):
    out = green(
        SERVICE
        + f"""
armed = []

def emit(record):
    if armed:
        armed.pop()
        raise {error}

handler = logging.Handler()
handler.emit = emit
logger.addHandler(handler)
client = mm.connect(hosts=[host], credentials=credentials)
client.declare_queue(queue, expires=60)
# gevent prints what ends a green thread, and eventlet what ends those of the proxy when it is cut.
sys.stderr = open(os.devnull, "w")
armed.append(1)
interrupted = False
try:
    proxy.cut()
    eventually(lambda: not armed)
    # As anywhere: these two are the program's, and reach it in its own time.
    if {error} is not GreenletExit:
        eventually(lambda: False)
except {error}:
    interrupted = True
print(interrupted, reconnects(client))
client.close()
""",
        uri,
    )
    assert out == f"{error != 'GreenletExit'} True\n"


@pytest.mark.parametrize("kind", PRELUDE)
def test_the_service_outlives_the_thread_of_its_only_hub(uri, kind):
    """Somebody serves the clients made there, also where the handlers of log records wait as green threads do."""
    out = children.run(
        PRELUDE[kind]
        + COMMON
        + SERVICE
        + """
from murano_messaging import _green

made, records = [], []
handler = logging.Handler()
# Without the handler's lock, which is not for green threads of several hubs.
handler.handle = lambda record: (sleep(0.001), records.append(record))
logger.addHandler(handler)

def work():
    sleep(0)
    client = mm.connect(hosts=[host], credentials=credentials)
    client.declare_queue(queue, expires=60)
    made.append(client)

_green.start_native()(work, ())
eventually(lambda: made)
client = made.pop()
print(reconnects(client), reconnects(client))
eventually(lambda: any("connected" in record.getMessage() for record in records))
client.close()
""",
        uri,
    )
    assert out == "True True\n"


def test_asyncio_in_eventlets_own_asyncio_hub(uri):
    out = children.run(
        """
        import os
        os.environ["EVENTLET_HUB"] = "asyncio"
        import eventlet
        eventlet.monkey_patch()
        import asyncio, sys
        from eventlet.asyncio import spawn_for_awaitable
        from murano_messaging import aio
        from brokers import unique

        async def main():
            async with aio.connect(sys.argv[1], credentials=lambda: ("guest", "guest")) as client:
                queue = unique("q")
                await client.declare_queue(queue, exclusive=True)
                await client.publish(b"x", routing_key=queue)
                return (await client.get(queue)).body

        print(spawn_for_awaitable(main()).wait())
        """,
        uri,
    )
    assert out == "b'x'\n"


EXITS = {
    "an open client": "",
    "green threads that wait": "threads = [spawn(consumer.get) for _ in range(5)]; sleep(0.05)",
    "pending confirms": "pending = [client.publish_nowait(b'x', routing_key=other) for _ in range(900)]",
    "events": "client.on_event(lambda event: None); sleep(0.01)",
    "a daemon thread that consumes": (
        "import threading; threading.Thread(target=list, args=(consumer,), daemon=True).start(); sleep(0.05)"
    ),
    "an atexit function that uses the client": (
        "import atexit; atexit.register(lambda: client.publish(b'last', routing_key=other))"
    ),
    "green threads that publish": """
def work():
    while True:
        client.publish(b"x", routing_key=other)

threads = [spawn(work) for _ in range(5)]
sleep(0.05)
""",
    "an asyncio client": """
import asyncio
from murano_messaging import aio

async def main():
    global kept, waiting
    kept = await aio.connect(uri)
    own = (await kept.declare_queue(unique("q"), exclusive=True)).name
    waiting = asyncio.ensure_future((await kept.consume(own)).get())
    await asyncio.sleep(0.05)
    waiting.cancel()

asyncio.run(main())
""",
}


@pytest.mark.parametrize("state", EXITS)
def test_the_interpreter_ends_with(green, uri, state):
    program = """
other = unique("q")
client = mm.connect(uri)
client.declare_queue(queue, exclusive=True)
client.declare_queue(other, exclusive=True)
consumer = client.consume(queue)
STATE
print("end", flush=True)
"""
    assert green(program.replace("STATE", EXITS[state]), uri) == "end\n"
