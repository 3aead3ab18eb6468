"""Servers and calls in threads, tasks, green threads and forked children: what the contract does not reach."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading

import pytest

import children
import murano_messaging as mm
from murano_messaging import aio


def test_methods_may_be_coroutine_functions(broker, queue):
    async def main():
        async with aio.connect(broker) as client:
            gate = asyncio.Event()

            async def wait(context, n):
                if n == 0:
                    await gate.wait()
                gate.set()
                return n

            # Both at a time: the first waits for the second.
            async with client.rpc_server(queue, "one", [{"wait": wait}]):
                rpc = client.rpc(queue, timeout=30)
                assert await asyncio.gather(rpc.call("wait", n=0), rpc.call("wait", n=1)) == [0, 1]

    asyncio.run(main())


def test_a_cancelled_call_disturbs_no_other(broker, queue):
    async def main():
        async with aio.connect(broker) as client:
            began, gate = asyncio.Event(), asyncio.Event()

            async def wait(context):
                began.set()
                await gate.wait()
                return "late"

            async with client.rpc_server(queue, "one", [{"wait": wait, "add": lambda context, a, b: a + b}]):
                rpc = client.rpc(queue, timeout=30)
                call = asyncio.create_task(rpc.call("wait"))
                await asyncio.wait_for(began.wait(), 30)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                gate.set()
                assert await rpc.call("add", a=1, b=2) == 3

    asyncio.run(main())


def test_a_stop_waits_for_what_was_begun(broker, queue):
    with mm.connect(broker) as client, mm.connect(broker) as serving:
        began, gate = threading.Event(), threading.Event()

        def wait(context):
            began.set()
            assert gate.wait(30)
            return "done"

        server = serving.rpc_server(queue, "one", [{"wait": wait}])
        server.start()
        results = []
        calling = threading.Thread(target=lambda: results.append(client.rpc(queue, timeout=30).call("wait")))
        calling.start()
        assert began.wait(30)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert stopping.is_alive()
        gate.set()
        stopping.join(30)
        calling.join(30)
        assert results == ["done"]


def test_a_stop_gives_up_after_its_timeout(broker, queue):
    with mm.connect(broker) as client:
        began, gate = threading.Event(), threading.Event()

        def wait(context):
            began.set()
            gate.wait(30)

        server = client.rpc_server(queue, "one", [{"wait": wait}])
        server.start()
        client.rpc(queue).cast("wait")
        assert began.wait(30)
        server.stop(timeout=0.2)
        gate.set()


def test_run_serves_until_it_is_told_to_stop(broker, queue):
    with mm.connect(broker) as client:
        stop = threading.Event()
        server = client.rpc_server(queue, "one", [{"stop": lambda context: stop.set()}])
        running = threading.Thread(target=server.run, kwargs={"stop": stop})
        running.start()
        client.rpc(queue, timeout=30).call("stop")
        running.join(30)
        assert not running.is_alive()

    async def main():
        async with aio.connect(broker) as client:
            stop = asyncio.Event()
            server = client.rpc_server(queue, "one", [{"stop": lambda context: stop.set()}])
            running = asyncio.create_task(server.run(stop=stop))
            await client.rpc(queue, timeout=30).call("stop")
            await asyncio.wait_for(running, 30)

    asyncio.run(main())


def test_run_ends_by_sigterm(uri, queue):
    program = f"""
import murano_messaging as mm
with mm.connect({uri!r}) as client:
    server = client.rpc_server({queue!r}, "one", [{{"ping": lambda context: "pong"}}])
    server.run()
print("ended")
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    with mm.connect(uri) as client:
        assert client.rpc(queue, timeout=30).call("ping") == "pong"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[0] == "ended\n"
    assert process.returncode == 0


def test_the_package_imports_nothing_of_oslo():
    program = "import sys, murano_messaging.aio; print([name for name in sys.modules if 'oslo' in name])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


FORKED = """
    import os, sys
    import murano_messaging as mm

    uri, queue = sys.argv[1:]
    add = {"add": lambda context, a, b: a + b}
    client = mm.connect(uri)
    server = client.rpc_server(queue, "one", [add])
    server.start()
    rpc = client.rpc(queue, timeout=30)
    listener = client.notification_listener(queue)
    listener.start()
    notifier = client.notifier("p", topics=queue)
    assert rpc.call("add", a=1, b=2) == 3
    pid = os.fork()
    if pid == 0:
        calls = {
            "call": lambda: rpc.call("add", a=1, b=2),
            "prepare": lambda: rpc.prepare(timeout=1),
            "notify": lambda: notifier.info("e", 1),
            "get": lambda: listener.get(timeout=1),
            "stop": lambda: server.stop(),
            "rpc": lambda: client.rpc(queue),
        }
        for name, call in calls.items():
            try:
                call()
            except mm.ForkedError:
                pass
            else:
                raise AssertionError(name + " worked in the child")
        with mm.connect(uri) as own:
            assert own.rpc(queue, timeout=30).call("add", a=2, b=2) == 4
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert rpc.call("add", a=1, b=2) == 3
    server.stop()
    client.close()
"""


def test_a_forked_child_is_told_and_the_parent_goes_on(uri, queue):
    children.run(FORKED, uri, queue)


def test_replies_over_the_limit_are_failures_at_once(queue):
    with mm.Broker() as embedded, mm.connect(embedded.uri) as client:
        embedded.max_message_size(10_000)
        with client.rpc_server(queue, "one", [{"large": lambda context: "x" * 20_000, "echo": lambda context, x: x}]):
            rpc = client.rpc(queue, timeout=30)
            with pytest.raises(mm.RemoteError, match="larger than configured max size 10000") as caught:
                rpc.call("large")
            assert caught.value.class_name == "MessageDeliveryFailure"
            with pytest.raises(mm.PreconditionFailedError, match="larger than configured max size 10000"):
                rpc.call("echo", x="x" * 20_000)
            assert rpc.call("echo", x=1) == 1


def test_options_are_those_of_the_configuration_file(uri, queue, unique):
    options = {"amqp_durable_queues": True, "control_exchange": unique("exchange"), "rpc_response_timeout": 30}
    with mm.connect(uri) as client:
        with client.rpc_server(queue, "one", [{"add": lambda context, a, b: a + b}], options=options):
            assert client.rpc(queue, options=options).call("add", a=1, b=2) == 3
            client.declare_queue(queue)  # It is durable: the same.
        client.delete_queue(queue)
        client.delete_queue(f"{queue}.one")
        client.delete_exchange(options["control_exchange"])
