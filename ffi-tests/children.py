"""Python programs that the tests run in processes of their own."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent


class Child(subprocess.Popen[str]):
    """A process that is killed when its block is left."""

    def __exit__(self, *error: Any) -> None:
        if self.poll() is None:
            self.kill()
        super().__exit__(*error)

    def line(self) -> str:
        """The next line that it prints."""
        assert self.stdout is not None
        line = self.stdout.readline()
        assert line, self.communicate(timeout=10)[1]
        return line.rstrip("\n")

    def until_it_sleeps(self, timeout: float = 30) -> None:
        """Return once its main thread has slept for a moment: it waits."""

        def switches() -> tuple[str, str]:
            with open(f"/proc/{self.pid}/task/{self.pid}/status") as status:
                fields = dict(line.split(":", 1) for line in status)
            return fields["State"].split()[0], fields["nonvoluntary_ctxt_switches"]

        until = time.monotonic() + timeout
        while True:
            before = switches()
            time.sleep(0.02)
            if before[0] == "S" and switches() == before:
                return
            assert time.monotonic() < until, "it never slept"

    def end(self, timeout: float = 60) -> str:
        """What else it prints, until it ends well and silently on stderr."""
        assert self.stdout is not None
        assert self.stderr is not None
        # Not `communicate`, which would miss what `line` has read ahead.
        late = threading.Timer(timeout, self.kill)
        late.start()
        errors: list[str] = []
        reader = threading.Thread(target=lambda stderr: errors.append(stderr.read()), args=(self.stderr,))
        reader.start()
        out = self.stdout.read()
        reader.join()
        self.wait()
        in_time = late.is_alive()
        late.cancel()
        late.join()
        (err,) = errors
        assert in_time, f"not within {timeout} s:\n{out}\n{err}"
        assert (self.returncode, err) == (0, ""), f"exit code {self.returncode}:\n{out}\n{err}"
        return out


def start(code: str, *arguments: str, python: Any = sys.executable, **options: Any) -> Child:
    """Start ``code`` with these arguments; what the tests import, it can import too."""
    environment = {**os.environ, "PYTHONPATH": str(HERE), "PYTHONUNBUFFERED": "1"}
    options = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "env": environment,
        **options,
    }
    # The eventlet of today warns of itself, and so does forking with threads; both are meant here.
    command = [python, "-W", "ignore", "-c", textwrap.dedent(code), *arguments]
    return Child(command, **options)


def run(code: str, *arguments: str, timeout: float = 60, **options: Any) -> str:
    """Run ``code`` to its end; returns what it printed."""
    with start(code, *arguments, **options) as process:
        return process.end(timeout)
