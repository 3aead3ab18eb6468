"""The command line, run as users run it: a process, its output, its exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any


def run(*words: Any, given: str = "", timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``murano-messaging`` with these words and this standard input to its end."""
    clean = {key: value for key, value in os.environ.items() if key != "AMQP_URL"}
    return subprocess.run(
        [sys.executable, "-m", "murano_messaging", *map(str, words)],
        input=given,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**clean, **environment},
    )


def failed(*words: Any, status: int = 1, **options: Any) -> str:
    """Run a command that fails with one line on standard error; returns that line."""
    done = run(*words, **options)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.rstrip("\n")


def succeeded(*words: Any, **options: Any) -> str:
    """Run a command that succeeds and says nothing on standard error; returns its output."""
    done = run(*words, **options)
    assert (done.returncode, done.stderr) == (0, ""), (done.returncode, done.stdout, done.stderr)
    return done.stdout
