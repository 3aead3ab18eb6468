"""The demo, which checks itself, and the command line's broker that it runs on."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import trustme

import brokers
import murano_messaging as mm
from children import Child
from tls_front import TlsFront

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples" / "murano"
RUST = ROOT / "target" / "debug" / "examples" / "conductor"
PYTHON = [sys.executable, "-W", "ignore"]
CONDUCTORS = {"Python": [*PYTHON, str(EXAMPLES / "conductor.py")], "Rust": [str(RUST)]}


def until(condition, what: str, seconds: float = 30):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return found


class Running:
    """The demo in a process group of its own, as a shell starts it, and everything that it starts."""

    def __init__(self, *arguments: str) -> None:
        if str(RUST) in arguments:
            brokers.example("conductor")
        self.mark = f"MURANO_TEST_MARK={uuid.uuid4().hex}"
        name, _, value = self.mark.partition("=")
        self.process = Child(
            [*PYTHON, str(EXAMPLES / "demo.py"), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, name: value},
        )

    def left(self) -> dict[int, str]:
        """The processes of the demo that there are: number and command."""
        found = {}
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            # One may end while it is looked at.
            with contextlib.suppress(OSError):
                if self.mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def line(self, pattern: str) -> str:
        while not re.search(pattern, line := self.process.line()):
            pass
        return line

    def rest(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture
def demo() -> Iterator[type[Running]]:
    started: list[Running] = []

    def start(*arguments: str) -> Running:
        started.append(Running(*arguments))
        return started[-1]

    yield start
    for one in started:
        with one.process:
            pass
        until(lambda one=one: not one.left(), f"nothing is left running: {one.left()}")


@pytest.mark.parametrize("conductor", ["Python", "Rust"])
@pytest.mark.parametrize("on", ["embedded broker", "RabbitMQ"])
def test_every_task_is_done_once_although_a_conductor_and_an_agent_are_killed(uri, on, conductor):
    command = [*PYTHON, str(EXAMPLES / "demo.py")]
    if on == "RabbitMQ":
        command += ["--broker", uri]
    if conductor == "Rust":
        assert RUST.exists(), "run cargo build -p murano-messaging --example conductor"
        command += ["--conductor", str(RUST)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert f"the conductors are written in {conductor}" in done.stdout
    assert lines[-1].endswith("all 6 tasks are done, each exactly once as its API sees it")
    assert lines[-3].endswith("12 plans were carried out, each once")
    # What the APIs said of repeats is what the demo counted: of the task at least its start and its first result.
    repeats = sum("is told again, and knows it" in line for line in lines)
    assert repeats >= 2
    assert f"--- {repeats} reports came a second time" in lines[-2]
    # The plans were on their way before there was an agent, and the conductor was killed after a result of one.
    for order in (
        ["sent the plans", "takes plans", "agent web-0 was killed", "conductor 1 was killed"],
        ["web-0 is ready", "conductor 1 was killed", "web-1 is ready"],
    ):
        first = [next(n for n, line in enumerate(lines) if what in line) for what in order]
        assert first == sorted(first)


# ---- what goes wrong is said, and nothing is left -------------------------------------------------------------------


def test_control_c_ends_everything(demo):
    running = demo()
    running.line("conductor 1 +sent the plans")
    assert len(running.left()) >= 6
    # As a terminal does it.
    os.killpg(running.process.pid, signal.SIGINT)
    code, _, err = running.rest()
    assert (code, err) == (130, "demo: interrupted\n")
    # One that was just being started ends with the demo, not before it.
    until(lambda: not running.left(), "the children are gone")


def test_its_processes_end_with_the_demo_however_it_ends(demo):
    running = demo()
    running.line("conductor 1 +sent the plans")
    running.process.kill()
    running.process.wait(30)
    until(lambda: not running.left(), "the children are gone")


@pytest.mark.parametrize("victim", ["api.py", "conductor.py", "murano_messaging broker"])
def test_a_process_that_ends_is_named_at_once(demo, victim):
    running = demo()
    running.line("agent web-1 +takes plans")
    pid = max(pid for pid, command in running.left().items() if victim in command)
    os.kill(pid, signal.SIGTERM)
    code, out, err = running.rest()
    assert code == 1, out + err
    assert re.fullmatch(r"demo: (api [AB]|conductor 2|broker) ended by SIGTERM, and should not have ended\n", err) or (
        # Its clients may notice the end of the broker before the demo does.
        victim == "murano_messaging broker" and re.fullmatch(r"demo: .+ ended .+\n", err)
    ), err


def refused_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return f"amqp://guest:guest@127.0.0.1:{unused.getsockname()[1]}"


WRONG = {
    "no URI": (lambda uri: "localhost", 2, "amqp://"),
    "memory": (lambda uri: "memory://here", 2, "memory://"),
    "refused port": (lambda uri: refused_port(), 1, "refused"),
    "wrong password": (lambda uri: uri.replace(":guest@", ":wrong-password@"), 1, "login"),
}


def assert_one_line(command, broker, code, says):
    done = subprocess.run(
        command, env={**os.environ, "BROKER": broker}, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert says in done.stderr
    # Not how Rust prints errors for those who debug.
    assert not re.search(r"Error [{(]", done.stderr), done.stderr
    assert "wrong-password" not in done.stderr


@pytest.mark.parametrize("wrong", list(WRONG))
def test_a_broker_that_cannot_be_used_is_one_line(uri, wrong):
    broker, code, says = WRONG[wrong]
    given = broker(uri)
    assert_one_line([*PYTHON, str(EXAMPLES / "demo.py"), "--broker", given], given, code, says)


@pytest.mark.parametrize("program", ["demo", "conductor"])
@pytest.mark.parametrize("wrong", [wrong for wrong in WRONG if wrong != "memory"])
def test_a_broker_that_cannot_be_used_is_one_line_in_rust(uri, wrong, program):
    broker, _, says = WRONG[wrong]
    given = broker(uri)
    path = RUST.with_name(program)
    assert path.exists(), f"run cargo build -p murano-messaging --example {program}"
    assert_one_line([str(path), given, "run", "1"], given, 1, says)


# ---- the conductors alone -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def conductor(kind: str, broker: str, run: str) -> Iterator[Child]:
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with Child([*CONDUCTORS[kind], broker, run, "1"], **output) as process:
        yield process


@pytest.fixture(params=["plain", "TLS, several hosts, percent-encoded"])
def way(request, uri, tmp_path) -> Iterator[str]:
    """A URI, plain and with all that URIs may have."""
    if request.param == "plain":
        yield uri
        return
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    front = TlsFront(uri, authority)
    nobody = urlsplit(refused_port()).port
    hosts = f"localhost:{nobody},localhost:{front.port}"
    yield f"amqps://g%75est:guest@{hosts}/%2F?cacertfile={tmp_path / 'ca.pem'}"
    front.close()


@pytest.mark.parametrize("kind", list(CONDUCTORS))
def test_tasks_that_fail_do_not_stop_a_conductor(uri, way, kind, queue):
    run = queue
    tasks, reports = f"{run}-tasks", f"{run}-reports"
    good = {"Environment": run, "ReplyTo": reports}
    with mm.connect(uri) as client:
        client.declare_queue(reports, expires=60)
        client.declare_queue(tasks, expires=600)
        client.declare_queue(f"e{run}-hhost", expires=5)
        with (
            conductor(kind, way, run) as process,
            client.consume(reports) as told,
            client.consume(f"e{run}-hhost") as plans,
        ):
            # More of each kind than it takes at once.
            for n in range(3):
                client.publish("no JSON", routing_key=tasks)
                client.publish({"ID": "no task"}, routing_key=tasks)
                # No queue has a name of that length.
                client.publish({**good, "ID": f"bad-{n}", "Hosts": ["x" * 300]}, routing_key=tasks)
            client.publish({**good, "ID": "good", "Hosts": ["host"]}, routing_key=tasks)
            failed = set()
            while (report := told.get(timeout=30).json())["TaskID"] != "good":
                if report["Kind"] == "failure":
                    failed.add(report["TaskID"])
                    assert "255" in report["Text"]
            assert failed <= {"bad-0", "bad-1", "bad-2"}
            assert report["Text"] == "started"
            plan = plans.get(timeout=30)
            body = plan.json()
            result = {
                "FormatVersion": "2.0.0",
                "ID": "result",
                "SourceID": body["ID"],
                "Action": "Execution:Result",
                "ErrorCode": 0,
                "Body": "done",
                "Time": "now",
                "Host": "host",
            }
            client.publish(result, routing_key=body["ReplyTo"])
            plan.ack()
            results = {}
            while not (results and len(failed) == 3):
                report = told.get(timeout=30).json()
                if report["Kind"] == "failure":
                    failed.add(report["TaskID"])
                if report["Kind"] == "result":
                    results = report["Results"]
            assert results == {"host": "done"}
            until(lambda: client.queue_info(tasks).message_count == 0, "the tasks are taken")
            assert process.poll() is None
            process.terminate()
            process.communicate(timeout=30)
        until(lambda: client.queue_info(tasks).consumer_count == 0, "the conductor is gone")
        # What goes back to the queue was reported: only its ack had not left.
        while left := client.get(tasks, no_ack=True):
            assert left.json()["ID"] in {"good", *failed}
        for name in (tasks, reports, f"-execution-results-good-{run}"):
            client.delete_queue(name)


# ---- the command line's broker --------------------------------------------------------------------------------------


def serve(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "murano_messaging", "broker", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_command_line_serves_a_broker_until_it_is_interrupted(end, queue):
    with serve() as process:
        assert process.stdout is not None
        uri = process.stdout.readline().strip()
        with mm.connect(uri) as one, mm.connect(uri) as other:
            one.declare_queue(queue)
            one.publish("hello", routing_key=queue)
            assert other.get(queue, no_ack=True).body == b"hello"
        process.send_signal(end)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


def test_the_command_line_takes_a_port_and_says_when_it_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with serve("--port", str(port)) as process:
            out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "")
    assert f"cannot listen on 127.0.0.1:{port}" in err


@pytest.mark.parametrize("port", ["70000", "-1", "http"])
def test_the_command_line_says_what_a_port_is(port):
    with serve("--port", port) as process:
        _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert f"argument --port: {port!r} is no port: 0 to 65535" in err


def test_the_command_line_has_help():
    done = subprocess.run(
        [sys.executable, "-m", "murano_messaging", "broker", "--help"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "--port" in done.stdout
    assert "embedded broker" in done.stdout
