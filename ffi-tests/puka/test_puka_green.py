"""Under eventlet, monkey-patched or by ``import_patched``, waits let other green threads run."""

from __future__ import annotations

import pytest

import children

PRELUDES = {
    "monkey_patch": """
import eventlet
eventlet.monkey_patch()
import puka
""",
    "import_patched": """
import eventlet
from eventlet import patcher
puka = patcher.import_patched("puka")
""",
    "import_patched, after ours": """
import eventlet
import murano_messaging
import puka as blocking
from eventlet import patcher
puka = patcher.import_patched("puka")
assert puka is not blocking and puka.Client is not blocking.Client
""",
}

COMMON = """
import sys, time
from eventlet import sleep, spawn, Timeout

uri, queue = sys.argv[1:]

def connect():
    client = puka.Client(uri)
    client.wait(client.connect())
    return client
"""


@pytest.fixture(params=sorted(PRELUDES))
def green(request, uri, queue):
    def run(code: str) -> str:
        import textwrap

        return children.run(PRELUDES[request.param] + COMMON + textwrap.dedent(code), uri, queue, timeout=60)

    return run


def test_a_wait_yields(green):
    assert "yielded" in green(
        """
        client, other = connect(), connect()
        client.wait(client.queue_declare(queue, exclusive=True))
        ticks = []

        def tick():
            while True:
                ticks.append(1)
                sleep(0.01)

        def publish():
            sleep(0.5)
            other.wait(other.basic_publish("", queue, body="x"))

        spawn(tick)
        spawn(publish)
        consume = client.basic_consume(queue)
        assert client.wait(consume)["body"] == "x"
        assert len(ticks) >= 10, ticks
        before = len(ticks)
        assert client.wait(consume, timeout=0.5) is None
        assert len(ticks) >= before + 10
        before = len(ticks)
        client.loop(timeout=0.5)
        assert len(ticks) >= before + 10
        client.wait(client.close())
        print("yielded")
        """
    )


def test_many_green_threads_wait_on_one_client(green):
    assert "100" in green(
        """
        client = connect()
        client.wait(client.queue_declare(queue, exclusive=True))
        consume = client.basic_consume(queue)

        def one(number):
            client.wait(client.basic_publish("", queue, body=str(number)))
            return client.wait(consume)["body"]

        threads = [spawn(one, number) for number in range(100)]
        print(len({thread.wait() for thread in threads}))
        client.wait(client.close())
        """
    )


def test_a_wait_can_be_timed_out_and_killed(green):
    assert "both" in green(
        """
        client = connect()
        client.wait(client.queue_declare(queue, exclusive=True))
        consume = client.basic_consume(queue)
        try:
            with Timeout(0.2):
                client.wait(consume)
            raise AssertionError("not timed out")
        except Timeout:
            pass
        thread = spawn(client.wait, consume)
        sleep(0.1)
        thread.kill()
        client.wait(client.basic_publish("", queue, body="x"))
        assert client.wait(consume)["body"] == "x"
        client.wait(client.close())
        print("both")
        """
    )


def test_the_end_of_the_program_does_not_hang(green):
    assert "end" in green(
        """
        client = connect()
        client.basic_publish("", queue, body="x")
        print("end")
        """
    )


def test_the_module_of_the_client_has_the_same(green):
    assert "same" in green(
        """
        assert puka.client.Client is puka.Client
        print("same")
        """
    )
