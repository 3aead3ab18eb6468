"""The embedded broker over TCP, as other programs meet it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def embedded() -> Iterator[str]:
    """The URI of an embedded broker in a process of its own."""
    command = [sys.executable, "-m", "murano_messaging", "broker", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
