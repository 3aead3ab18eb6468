"""Services in processes of their own: ``python programs.py KIND URL TOPIC ...``; what they do they print, a line each."""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from typing import Any

warnings.simplefilter("ignore")


def say(text: Any) -> None:
    # One write, so that the lines of several threads and processes do not mix.
    os.write(1, f"{text}\n".encode())


def serve(url: str, topic: str, name: str, seconds: str, pool: str, *options: str) -> None:
    """A server whose method ``work(n)`` takes so long; it prints what begins and what is done."""
    import stock

    class Endpoint:
        def work(self, ctxt: Any, n: int) -> None:
            say(f"begun {n}")
            time.sleep(float(seconds))
            say(f"done {n}")

    given: dict[str, Any] = {}
    for option in options:
        key, value = option.split("=")
        given[key] = {"True": True, "False": False}.get(value, int(value) if value.isdigit() else value)
    made = stock.transport(url, **given)
    server = stock.Server(made, topic, name, Endpoint(), pool=int(pool))
    say("ready")
    sys.stdin.read()
    server.__exit__()


def fork(url: str, topic: str, calls: str) -> None:
    """A parent with a live transport, and 4 children in sessions of their own, which all call."""
    import stock

    made = stock.transport(url)
    client = stock.client(made, topic)
    assert client.call({}, "add", a=1, b=1) == 2

    def call(number: int) -> None:
        answered = sum(client.call({}, "add", a=number, b=n) == number + n for n in range(int(calls)))
        say(f"answered {answered}")

    children = []
    for number in range(1, 5):
        child = os.fork()
        if child == 0:
            os.setsid()
            call(number * 1000)
            made.cleanup()
            os._exit(0)
        children.append(child)
    call(0)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    made.cleanup()


def sockets(url: str, topic: str) -> None:
    """3 servers and 16 callers in one process; prints the connections to the broker, and the threads that are ours."""
    import stock

    servers = [stock.Server(stock.transport(url), topic, f"server-{n}") for n in range(3)]
    made = stock.transport(url)
    client = stock.client(made, topic)
    called = threading.Barrier(17)

    def call() -> None:
        for n in range(20):
            assert client.call({}, "add", a=n, b=1) == n + 1
        called.wait()
        called.wait()

    threads = [threading.Thread(target=call) for _ in range(16)]
    for thread in threads:
        thread.start()
    called.wait()
    port = url.split("?")[0].rstrip("/").rsplit(":", 1)[1].split("/")[0]
    open_now = 0
    with open("/proc/self/net/tcp") as table:
        mine = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_there(fd)}
        for line in list(table)[1:]:
            fields = line.split()
            if fields[3] == "01" and int(fields[2].split(":")[1], 16) == int(port) and f"socket:[{fields[9]}]" in mine:
                open_now += 1
    say(f"sockets {open_now}")
    say(f"threads {sum(thread.name.startswith('murano-') for thread in threading.enumerate())}")
    called.wait()
    for thread in threads:
        thread.join()
    for server in servers:
        server.__exit__()
    made.cleanup()


def _is_there(fd: str) -> bool:
    return os.path.exists(f"/proc/self/fd/{fd}") or os.path.islink(f"/proc/self/fd/{fd}")


def busy(url: str, topic: str, seconds: str) -> None:
    """Under eventlet: a server and a client, and then Python that never yields."""
    import eventlet

    eventlet.monkey_patch()
    import stock

    made = stock.transport(url, heartbeat_timeout_threshold=2)
    server = stock.oslo_messaging.get_rpc_server(
        made, stock.oslo_messaging.Target(topic=topic, server="one"), [stock.Endpoint()], executor="eventlet"
    )
    server.start()
    client = stock.client(made, topic)
    assert client.call({}, "add", a=1, b=1) == 2
    until = time.monotonic() + float(seconds)
    while time.monotonic() < until:
        pass
    assert client.call({}, "add", a=1, b=2) == 3
    stats = made._driver.state.connection.client(None).stats()
    say(f"reconnects {stats.reconnects}")
    server.stop()
    server.wait()
    made.cleanup()


def names(url: str, workers: str, process: str) -> None:
    """A master with a transport, setsid, and workers with a queue manager: prints the names of their reply queues."""
    import stock

    made = stock.transport(url, use_queue_manager=True, hostname="host", processname=process)
    os.setsid()
    for _ in range(int(workers)):
        if os.fork() == 0:
            try:
                say(made._driver.state.topology.replies().name)
            finally:
                os._exit(0)
    for _ in range(int(workers)):
        os.wait()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
