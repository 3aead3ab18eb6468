"""A RabbitMQ node of a test's own, to be stopped, killed and started again."""

from __future__ import annotations

import subprocess
from typing import Any

import brokers


class ControlledNode:
    """A private node on free ports; its data survives until the block is left."""

    def __init__(self, tls: bool = False) -> None:
        command = [brokers.rabbitmq_program(), "control", *(["tls"] if tls else [])]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.uri, *secure = self._line().split("\t")
        if secure:
            self.tls_uri, self.ca, self.certificate, self.key = secure

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the node's program ended"
        return line.strip()

    def _do(self, command: str) -> list[str]:
        """Returns what is printed."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        printed = []
        while (line := self._line()) != "done":
            printed.append(line)
        return printed

    def ctl(self, *arguments: str) -> list[str]:
        """``rabbitmqctl`` with these arguments; returns the lines that it prints."""
        return self._do("\t".join(("ctl", *arguments)))

    def kill(self) -> None:
        """SIGKILL: nothing is put in order."""
        self._do("kill")

    def stop(self) -> None:
        """Stop in order."""
        self._do("stop")

    def start(self) -> None:
        """Start again, on the same port and data."""
        self._do("start")

    def __enter__(self) -> ControlledNode:
        return self

    def __exit__(self, *error: Any) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
