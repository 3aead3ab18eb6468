"""The demo, which checks itself, and the command line's broker that it runs on."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest

import murano_messaging as mm

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
RUST = ROOT / "target" / "debug" / "examples" / "conductor"


@pytest.mark.parametrize("conductor", ["Python", "Rust"])
@pytest.mark.parametrize("on", ["embedded broker", "RabbitMQ"])
def test_every_task_is_done_once_although_a_conductor_and_an_agent_are_killed(uri, on, conductor):
    command = [sys.executable, "-W", "ignore", str(ROOT / "examples" / "murano" / "demo.py")]
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
    # The plans were on their way before there was an agent.
    first = {what: next(n for n, line in enumerate(lines) if what in line) for what in ("sent the plans", "takes plans")}
    assert first["sent the plans"] < first["takes plans"]
    assert sum("--- killed" in line for line in lines) == 5


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
