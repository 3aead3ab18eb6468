"""The command line, run as users run it: its words, its input, its output, its exit status.

In this process, which is far quicker, unless a test asks for one of its own.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from typing import Any
from unittest import mock

from murano_messaging._cli import main


def run(
    *words: Any, given: str = "", process: bool = False, timeout: float = 60, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``murano-messaging`` with these words and this standard input to its end."""
    arguments = [str(word) for word in words]
    changed = {key: value for key, value in os.environ.items() if key != "AMQP_URL"}
    changed.update(environment)
    if process:
        return subprocess.run(
            [sys.executable, "-m", "murano_messaging", *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=changed,
        )
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    stdin = io.TextIOWrapper(io.BytesIO(given.encode()), encoding="utf-8")
    with (
        mock.patch.object(sys, "stdin", stdin),
        mock.patch.dict(os.environ, changed, clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            status = main(arguments)
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(arguments, status, *texts)


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
