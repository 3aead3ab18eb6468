"""The programs of examples/puka run unchanged with Puka and with ours, and with one of each."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import uuid

import pytest

import brokers
import puka
from peers import environment

EXAMPLES = brokers.ROOT / "examples" / "puka"


@pytest.fixture(scope="module")
def uri():
    """A node of their own: the examples' queues have fixed names."""
    node = brokers.Node(private=True)
    yield node.uri
    node.stop()


@pytest.fixture(params=["ours with ours", "puka with puka", "puka with ours", "ours with puka"])
def run(request, uri, peer):
    """Starts a program, the first of a pair with the one library and the second with the other."""
    started = []
    first, _, second = request.param.split()
    sides = {"receiving": first, "sending": second}

    def run(side, name, *arguments):
        own = sides[side] == "ours"
        process = subprocess.Popen(
            [sys.executable if own else peer, "-W", "ignore", EXAMPLES / name, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment(own), "AMQP_URL": uri},
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def line(process):
    text = process.stdout.readline().rstrip("\n")
    assert text, process.stderr.read()
    return text


def interrupt(process):
    """Ctrl-C ends a program in order."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    return out


def end(process):
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.splitlines()


@pytest.fixture(autouse=True)
def clean(uri):
    """The queues and exchanges of the examples have fixed names: they are gone before and after."""

    def delete():
        client = puka.Client(uri)
        client.wait(client.connect())
        for queue in ("hello", "task_queue", "rpc_queue"):
            client.wait(client.queue_delete(queue))
        for exchange in ("logs", "direct_logs", "topic_logs"):
            client.wait(client.exchange_delete(exchange))
        client.wait(client.close())

    delete()
    yield
    delete()


def test_hello(run):
    receive = run("receiving", "receive.py")
    line(receive)
    assert end(run("sending", "send.py")) == [" [x] Sent 'Hello World!'"]
    assert line(receive) == " [x] Received 'Hello World!'"
    assert interrupt(receive) == ""


def test_work_queue(run):
    tasks = [f"task {number} {uuid.uuid4().hex}" for number in range(4)]
    workers = [run("receiving", "worker.py"), run("receiving", "worker.py")]
    for worker in workers:
        line(worker)
    for task in tasks:
        assert end(run("sending", "new_task.py", task)) == [f" [x] Sent {task!r}"]
    # One task each in turn: the first of the two to get one is not known.
    seen = [line(worker) for worker in workers for _ in range(4)]
    assert sorted(set(seen)) == sorted([" [x] Done", *(f" [x] Received {task!r}" for task in tasks)])
    for worker in workers:
        interrupt(worker)


def test_publish_and_subscribe(run):
    receivers = [run("receiving", "receive_logs.py") for _ in range(2)]
    for receiver in receivers:
        line(receiver)
    end(run("sending", "emit_log.py", "to", "all"))
    assert [line(receiver) for receiver in receivers] == [" [x] 'to all'"] * 2
    for receiver in receivers:
        interrupt(receiver)


def test_routing(run):
    errors = run("receiving", "receive_logs_direct.py", "error")
    more = run("receiving", "receive_logs_direct.py", "error", "info")
    line(errors)
    line(more)
    end(run("sending", "emit_log_direct.py", "info", "good"))
    end(run("sending", "emit_log_direct.py", "debug", "dull"))
    end(run("sending", "emit_log_direct.py", "error", "bad"))
    assert line(errors) == " [x] 'error':'bad'"
    assert [line(more), line(more)] == [" [x] 'info':'good'", " [x] 'error':'bad'"]
    interrupt(errors)
    interrupt(more)


def test_topics(run):
    kernel = run("receiving", "receive_logs_topic.py", "kern.*", "*.critical")
    line(kernel)
    for key in ("kern.info", "cron.info", "cron.critical", "kern.critical"):
        end(run("sending", "emit_log_topic.py", key, "text"))
    assert [line(kernel) for _ in range(3)] == [
        f" [x] '{key}':'text'" for key in ("kern.info", "cron.critical", "kern.critical")
    ]
    interrupt(kernel)


def test_rpc(run):
    server = run("receiving", "rpc_server.py")
    line(server)
    for number, answer in ((30, 832040), (3, 2)):
        printed = end(run("sending", "rpc_client.py", str(number)))
        assert printed == [f" [x] Requesting fibonacci({number})", f" [.] Got {answer}"]
        assert line(server) == f" [.] fibonacci({number})"
    interrupt(server)


def test_each_program_is_run_here():
    source = pathlib.Path(__file__).read_text()
    programs = [name for name in os.listdir(EXAMPLES) if name.endswith(".py") and name != "common.py"]
    missing = [name for name in programs if f'"{name}"' not in source]
    assert not missing, f"run {missing} in a test of this file"
