"""Forked and spawned processes."""

from __future__ import annotations

import textwrap

import pytest

import children

# What can be done with things that a parent made; each is an error in the child.
INHERITED = """
    import os, sys
    import murano_messaging as mm
    from brokers import unique

    uri = sys.argv[1]
    queue = unique("q")
    client = mm.connect(uri)
    client.declare_queue(queue, expires=60)
    client.publish(b"parent", routing_key=queue)
    consumer = client.consume(queue)
    delivery = consumer.get(timeout=10)
    confirmation = client.publish_nowait(b"pending", routing_key=queue)
    events = client.events()

    def child():
        calls = {
            "publish": lambda: client.publish(b"child", routing_key=queue),
            "publish_nowait": lambda: client.publish_nowait(b"child", routing_key=queue),
            "queue_info": lambda: client.queue_info(queue),
            "consume": lambda: client.consume(queue),
            "stats": lambda: client.stats(),
            "forget": lambda: client.forget(queue),
            "close": lambda: client.close(),
            "repr": lambda: repr(client),
            "closed": lambda: client.closed,
            "next": lambda: next(consumer),
            "get": lambda: consumer.get(timeout=1),
            "cancel": lambda: consumer.cancel(),
            "ack": lambda: delivery.ack(),
            "body": lambda: delivery.body,
            "result": lambda: confirmation.result(),
            "done": lambda: confirmation.done(),
            "wait_all": lambda: mm.wait_all([confirmation]),
            "events": lambda: events.get(timeout=1),
        }
        for name, call in calls.items():
            try:
                call()
            except mm.ForkedError as error:
                assert "connect()" in str(error)
            else:
                raise AssertionError(name + " worked in the child")
        with mm.connect(uri) as own:
            own.publish(b"child", routing_key=queue)
"""


def test_what_a_child_inherits_is_an_error_and_a_new_client_works(uri):
    out = children.run(
        INHERITED
        + """
    pid = os.fork()
    if pid == 0:
        child()
        # The objects of the parent are dropped here, which must not reach the parent's sockets.
        del client, consumer, delivery, confirmation, events, child
        sys.exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
    delivery.ack()
    confirmation.result(timeout=10)
    bodies = {consumer.get(timeout=10).body for _ in range(2)}
    assert bodies == {b"pending", b"child"}, bodies
    client.publish(b"parent again", routing_key=queue)
    assert client.stats().reconnects == 0
    client.delete_queue(queue)
    client.close()
    print("done")
    """,
        uri,
    )
    assert out == "done\n"


# Forks that the interpreter is not told of: those of C programs with Python inside (uWSGI), and the bare system call, of
# which the C library is not told either.
FORKS_IN_C = {
    "fork": "lambda: ctypes.PyDLL(None).fork()",
    "clone": "lambda: ctypes.PyDLL(None).syscall({'x86_64': 56, 'aarch64': 220}[os.uname().machine], 17, 0, 0, 0, 0)",
}


@pytest.mark.parametrize("fork", FORKS_IN_C.values(), ids=FORKS_IN_C)
def test_what_a_child_of_a_fork_in_c_inherits_is_an_error_and_a_new_client_works(uri, fork):
    out = children.run(
        INHERITED
        + f"""
    import ctypes
    pid = ({fork})()
    if pid == 0:
        child()
        del client, consumer, delivery, confirmation, events, child
        sys.exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
    delivery.ack()
    confirmation.wait(timeout=10)
    bodies = {{consumer.get(timeout=10).body for _ in range(2)}}
    assert bodies == {{b"pending", b"child"}}, bodies
    client.publish(b"parent again", routing_key=queue)
    assert client.stats().reconnects == 0
    client.delete_queue(queue)
    client.close()
    print("done")
    """,
        uri,
    )
    assert out == "done\n"


# A green thread or a task waits, and the program forks in C.
GREEN = """
import ctypes, os, sys
{patch}
import murano_messaging as mm
from brokers import unique

queue = unique("q")
client = mm.connect(sys.argv[1])
client.declare_queue(queue, exclusive=True)
consumer = client.consume(queue)

def get():
    try:
        return consumer.get()
    except mm.ForkedError as error:
        return error

waiting = spawn(get)
sleep(0)
pid = ctypes.PyDLL(None).fork()
if pid == 0:
    os._exit(7 if isinstance(result(waiting), mm.ForkedError) else 1)
assert os.WEXITSTATUS(os.waitpid(pid, 0)[1]) == 7
client.publish(b"x", routing_key=queue)
assert result(waiting).body == b"x"
client.close()
print("done")
"""
WAITS_IN_A_LOOP = {
    "asyncio": """
import asyncio, ctypes, os, sys
import murano_messaging as mm
from brokers import unique
from murano_messaging import aio

async def main():
    queue = unique("q")
    async with aio.connect(sys.argv[1]) as client:
        await client.declare_queue(queue, exclusive=True)
        async with client.consume(queue) as consumer:
            waiting = asyncio.ensure_future(consumer.get())
            await asyncio.sleep(0)
            pid = ctypes.PyDLL(None).fork()
            if pid == 0:
                try:
                    await waiting
                except mm.ForkedError:
                    os._exit(7)
                os._exit(1)
            assert os.WEXITSTATUS(os.waitpid(pid, 0)[1]) == 7
            await client.publish(b"x", routing_key=queue)
            assert (await waiting).body == b"x"

asyncio.run(main())
print("done")
""",
    "eventlet": GREEN.format(
        patch="""
import eventlet
eventlet.monkey_patch()
from eventlet import sleep, spawn
result = lambda waiting: waiting.wait()
"""
    ),
    "gevent": GREEN.format(
        patch="""
import gevent.monkey
gevent.monkey.patch_all()
from gevent import sleep, spawn
result = lambda waiting: waiting.get()
"""
    ),
}


@pytest.mark.parametrize("how", ["asyncio", "eventlet", "gevent"])
def test_what_waits_in_a_loop_or_hub_finds_out_that_nobody_would_wake_it(uri, how):
    """A fork that nobody is told of takes the loop along, and not the thread that would wake those who wait in it."""
    out = children.run(WAITS_IN_A_LOOP[how], uri)
    assert out == "done\n"


@pytest.mark.parametrize("fork", ["os.fork", *FORKS_IN_C.values()], ids=["python", *FORKS_IN_C])
def test_a_client_that_was_closed_before_the_fork_does_not_keep_children_from_connecting(uri, fork):
    out = children.run(
        f"""
        import asyncio, ctypes, os, sys
        import murano_messaging as mm
        from murano_messaging import aio
        from brokers import unique

        uri, queue = sys.argv[1], unique("q")

        async def publish():
            async with aio.connect(uri) as client:
                await client.publish(b"x", routing_key=queue)

        with mm.connect(uri) as client:
            client.declare_queue(queue, expires=60)
        children = []
        for _ in range(2):
            pid = ({fork})()
            if pid == 0:
                # And a child of its own, which neither inherits from it.
                pid = ({fork})()
                with mm.connect(uri, connect_timeout=30) as own:
                    for _ in range(100):
                        own.publish(b"x", routing_key=queue)
                asyncio.run(publish())
                if pid:
                    assert os.waitpid(pid, 0)[1] == 0
                sys.exit(0)
            children.append(pid)
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        with mm.connect(uri) as client:
            print(client.queue_info(queue).message_count)
            client.delete_queue(queue)
        """,
        uri,
    )
    assert out == "404\n"


def test_a_child_that_leaves_the_block_of_its_parent_by_an_exception(uri):
    out = children.run(
        """
        import asyncio, os, sys
        import murano_messaging as mm
        from brokers import unique
        from murano_messaging import aio

        uri, queue = sys.argv[1], unique("q")

        def end_child():
            pid = os.fork()
            if pid == 0:
                sys.exit(7)
            _, status = os.waitpid(pid, 0)
            assert os.WEXITSTATUS(status) == 7, status

        with mm.connect(uri) as client:
            client.declare_queue(queue, expires=60)
            with client.consume(queue):
                end_child()
            client.delete_queue(queue)

        async def main():
            async with aio.connect(uri) as client:
                end_child()
                assert client.stats().reconnects == 0

        asyncio.run(main())
        print("done")
        """,
        uri,
    )
    assert out == "done\n"


def test_a_child_of_a_child(uri):
    out = children.run(
        """
        import os, sys
        import murano_messaging as mm
        from brokers import unique

        uri = sys.argv[1]
        queue = unique("q")

        def use(depth):
            with mm.connect(uri) as client:
                client.declare_queue(queue, expires=60)
                client.publish(str(depth), routing_key=queue)
                if depth < 3:
                    pid = os.fork()
                    if pid == 0:
                        use(depth + 1)
                        os._exit(0)
                    assert os.waitpid(pid, 0)[1] == 0
                client.publish(str(depth), routing_key=queue)

        use(0)
        with mm.connect(uri) as client:
            print(client.queue_info(queue).message_count)
            client.delete_queue(queue)
        """,
        uri,
    )
    assert out == "8\n"


def test_forking_while_threads_use_the_client(uri):
    """A lock that another thread holds at the fork is never waited for in the child."""
    out = children.run(
        """
        import os, sys, threading
        import murano_messaging as mm
        from brokers import unique

        uri = sys.argv[1]
        queue = unique("q")
        client = mm.connect(uri)
        client.declare_queue(queue, expires=60)
        stop = threading.Event()

        def publish():
            while not stop.is_set():
                client.publish_nowait(b"x", routing_key=queue)

        def consume():
            for delivery in client.consume(queue):
                delivery.ack()

        threads = [threading.Thread(target=publish) for _ in range(2)] + [threading.Thread(target=consume)]
        for thread in threads:
            thread.start()
        for n in range(20):
            pid = os.fork()
            if pid == 0:
                try:
                    client.publish(b"x", routing_key=queue)
                except mm.ForkedError:
                    with mm.connect(uri) as own:
                        own.queue_info(queue)
                    os._exit(0)
                os._exit(1)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        for thread in threads[:2]:
            thread.join()
        client.close()
        threads[2].join()
        with mm.connect(uri) as client:
            client.delete_queue(queue)
        print("done")
        """,
        uri,
        timeout=100,
    )
    assert out == "done\n"


MULTIPROCESSING = """
    import multiprocessing, sys
    import murano_messaging as mm
    from brokers import unique

    def work(uri, queue, n):
        client = mm.connect(uri)
        confirmation = client.publish_nowait(str(n), routing_key=queue)
        # Neither waited for nor closed: the end of the process does both.
        return n

    if __name__ == "__main__":
        uri, method = sys.argv[1:]
        queue = unique("q")
        with mm.connect(uri) as client:
            client.declare_queue(queue, expires=60)
            context = multiprocessing.get_context(method)
            processes = [context.Process(target=work, args=(uri, queue, n)) for n in range(3)]
            for process in processes:
                process.start()
            for process in processes:
                process.join()
            assert [process.exitcode for process in processes] == [0, 0, 0]
            found = sorted(client.get(queue, no_ack=True).body for _ in range(3))
            print(found)
            client.delete_queue(queue)
"""


def run_multiprocessing(uri, method, tmp_path):
    # `spawn` imports the program again, so it has to be a file.
    import textwrap

    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(MULTIPROCESSING))
    return children.run(f"import runpy; runpy.run_path({str(program)!r}, run_name='__main__')", uri, method)


def test_multiprocessing_with_fork(uri, tmp_path):
    assert run_multiprocessing(uri, "fork", tmp_path) == "[b'0', b'1', b'2']\n"


def test_multiprocessing_with_spawn(uri, tmp_path):
    assert run_multiprocessing(uri, "spawn", tmp_path) == "[b'0', b'1', b'2']\n"


def test_forking_with_an_asyncio_client(uri):
    out = children.run(
        """
        import asyncio, os, sys
        import murano_messaging as mm
        from murano_messaging import aio
        from brokers import unique

        uri = sys.argv[1]
        queue = unique("q")

        async def child(client, consumer):
            for operation in (lambda: client.publish(b"x"), consumer.get, client.close):
                try:
                    await operation()
                except mm.ForkedError:
                    continue
                return 1
            async with aio.connect(uri) as own:
                await own.publish(b"child", routing_key=queue)
            return 0

        async def main():
            async with aio.connect(uri) as client:
                await client.declare_queue(queue, expires=60)
                async with client.consume(queue) as consumer:
                    waiting = asyncio.ensure_future(consumer.get(timeout=30))
                    await asyncio.sleep(0)
                    pid = os.fork()
                    if pid == 0:
                        # The loop belongs to the parent too; the child makes its own.
                        asyncio._set_running_loop(None)
                        try:
                            os._exit(asyncio.new_event_loop().run_until_complete(child(client, consumer)))
                        finally:
                            os._exit(2)
                    status = await asyncio.get_running_loop().run_in_executor(None, os.waitpid, pid, 0)
                    assert status == (pid, 0), status
                    print((await waiting).body)
                await client.delete_queue(queue)

        asyncio.run(main())
        """,
        uri,
    )
    assert out == "b'child'\n"


def test_a_child_that_makes_no_client_starts_nothing_at_its_end(uri):
    out = children.run(
        """
        import atexit, os, sys

        parent = os.getpid()

        def look():
            if os.getpid() != parent:
                print(len(os.listdir("/proc/self/task")), flush=True)

        # Called after what the package registers.
        atexit.register(look)
        import murano_messaging as mm

        client = mm.connect(sys.argv[1])
        pid = os.fork()
        if pid == 0:
            sys.exit(0)
        os.waitpid(pid, 0)
        client.close()
        """,
        uri,
    )
    assert out == "1\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_thread_that_outlives_the_function_of_its_process(uri, method, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import multiprocessing, sys, threading
            from concurrent.futures import ThreadPoolExecutor
            import murano_messaging as mm
            from brokers import unique

            def work(client, queue):
                # Not before its process is about to end.
                threading.main_thread().join(0.5)
                for n in range(20):
                    client.publish(b"x", routing_key=queue)
                client.publish(b"last", routing_key=queue)

            def child(uri, queue):
                client = mm.connect(uri)
                # Its threads wait for work until the end.
                pool = ThreadPoolExecutor(1)
                pool.submit(client.stats).result()
                threading.Thread(target=work, args=(client, queue)).start()

            if __name__ == "__main__":
                uri, method = sys.argv[1:]
                queue = unique("q")
                with mm.connect(uri) as client:
                    client.declare_queue(queue, expires=60)
                    process = multiprocessing.get_context(method).Process(target=child, args=(uri, queue))
                    process.start()
                    process.join(30)
                    print(process.exitcode, client.queue_info(queue).message_count, flush=True)
                    process.kill()
            """
        )
    )
    out = children.run(f"import runpy; runpy.run_path({str(program)!r}, run_name='__main__')", uri, method)
    assert out == "0 21\n"


def test_clients_cannot_be_pickled(uri):
    import pickle

    import murano_messaging as mm

    with mm.connect(uri) as client, pytest.raises(TypeError, match="pickle"):
        pickle.dumps(client)
