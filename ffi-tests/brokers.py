"""Brokers to test against, started and stopped by the tests."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import pathlib
import signal
import subprocess
import uuid
from collections.abc import Iterator

import murano_messaging as mm

ROOT = pathlib.Path(__file__).resolve().parent.parent

_numbers = itertools.count(1)


@contextlib.contextmanager
def alone(what: str) -> Iterator[None]:
    """Keep other processes that run tests from making the same thing at the same time."""
    with open(ROOT / "target" / f"{what}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def unique(prefix: str) -> str:
    """A name that nobody else has."""
    return f"{prefix}-{os.getpid()}-{uuid.uuid4().hex[:12]}-{next(_numbers)}"


def built(program: str, command: str) -> pathlib.Path:
    """A program of this workspace, which `command` builds."""
    path = ROOT / "target" / "debug" / program
    assert path.exists(), (
        f"{path} is not built: run `{command}`, or `make test-python`, which builds all that the tests run"
    )
    return path


def rabbitmq_program() -> pathlib.Path:
    """What starts a private RabbitMQ node."""
    return built("rabbitmq", "cargo build -p murano-testkit --bin rabbitmq")


def example(name: str) -> pathlib.Path:
    """An example in Rust."""
    return built(f"examples/{name}", f"cargo build -p murano-messaging --example {name}")


def has_memory() -> bool:
    """Whether the native module has the embedded broker."""
    try:
        mm.connect(f"memory://{unique('probe')}").close()
    except mm.InvalidArgumentError:
        return False
    return True


class Node:
    """A private RabbitMQ node, or the one that MURANO_TEST_AMQP names."""

    def __init__(self, private: bool = False) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.uri = "" if private else os.environ.get("MURANO_TEST_AMQP", "")
        if self.uri:
            return
        self.process = subprocess.Popen([rabbitmq_program()], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.uri = self.process.stdout.readline().strip()
        assert self.uri, "the node did not start"

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)
            assert self.process.stdout is not None
            self.process.stdout.close()
