"""The Python examples run as they are."""

from __future__ import annotations

import pathlib
import signal
import socket

import pytest

import children
import murano_messaging as mm

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent / "examples" / "python"


def program(name: str) -> str:
    return (EXAMPLES / name).read_text()


def test_every_example_is_run_here():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "asyncio_service.py",
        "hello.py",
        "service.py",
        "work_queue.py",
    }


def test_hello(uri):
    assert children.run(program("hello.py"), uri) == "hello\n"


def test_work_queue(uri):
    assert children.run(program("work_queue.py"), uri) == "1000 squares\n"


@pytest.mark.parametrize("name", ["service.py", "asyncio_service.py"])
def test_without_arguments_a_service_says_which_it_wants(name):
    with children.start(program(name)) as service:
        out, err = service.communicate(timeout=60)
    assert (out, err.strip(), service.returncode) == ("", f"usage: python {name} URI QUEUE", 1)


def interrupted(example):
    """Ctrl-C, and nothing but the end."""
    example.send_signal(signal.SIGINT)
    out, err = example.communicate(timeout=60)
    assert err == "", err
    return out


@pytest.mark.parametrize("name", ["service.py", "asyncio_service.py"])
def test_ctrl_c_ends_a_service_without_a_traceback(uri, queue, name):
    with children.start(program(name), uri, queue) as service:
        while service.line() != "ready":
            pass
        service.until_it_sleeps()
        assert "ended" in interrupted(service).splitlines()
        assert service.returncode == 0
    with mm.connect(uri) as client:
        client.delete_queue(queue)


@pytest.mark.parametrize("name", ["service.py", "asyncio_service.py"])
def test_ctrl_c_ends_a_service_that_waits_for_its_broker(name, queue):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead = listener.getsockname()[1]
    with children.start(program(name), f"amqp://127.0.0.1:{dead}", queue) as service:
        # Its first failed attempt is said.
        assert service.line().startswith("not connected: trying again")
        assert "Traceback" not in interrupted(service)
        assert service.returncode == 130


@pytest.mark.parametrize("name", ["service.py", "asyncio_service.py"])
def test_a_service_drains_when_it_is_terminated(uri, queue, name):
    with mm.connect(uri) as client, children.start(program(name), uri, queue) as service:
        client.declare_queue(queue, expires=600)
        while service.line() != "ready":
            pass
        mm.wait_all([client.publish_nowait(str(n), routing_key=queue) for n in range(200)], timeout=30)
        done = []
        while len(done) < 5:
            line = service.line()
            if line.startswith("done: "):
                done.append(line)
        service.send_signal(signal.SIGTERM)
        lines = service.end().splitlines()
        done += [line for line in lines if line.startswith("done: ")]
        assert "ended" in lines
        # What it said it did, it has acked; everything else is still there.
        assert done == [f"done: {n}" for n in range(len(done))]
        assert client.queue_info(queue).message_count == 200 - len(done)
        client.delete_queue(queue)
