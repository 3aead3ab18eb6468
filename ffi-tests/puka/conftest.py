"""Puka itself, in a virtual environment of its own, and programs that run with it and with ours."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
from typing import Any, Callable

import pytest

import brokers
from peers import environment

HERE = pathlib.Path(__file__).resolve().parent
PEER = brokers.ROOT / "target" / "puka-peer"
# What has `ssl.wrap_socket` and `imp`, which Puka and `future` need.
VERSIONS = ["python3.11", "python3.10", "python3.9"]


def _python() -> str:
    for name in VERSIONS:
        found = shutil.which(name)
        if found and subprocess.run([found, "-c", ""], capture_output=True, timeout=60).returncode == 0:
            return found
    pytest.fail(f"Puka itself runs on one of {', '.join(VERSIONS)}: install one")


@pytest.fixture(scope="session")
def peer() -> str:
    """The interpreter that has Puka 0.0.8."""
    python = PEER / "bin" / "python"
    with brokers.alone("puka-peer"):
        if not (PEER / "complete").exists():
            subprocess.run([_python(), "-m", "venv", "--clear", PEER], check=True, timeout=120)
            install = [python, "-m", "pip", "install", "--quiet", "puka==0.0.8", "future==1.0.0"]
            subprocess.run(install, check=True, timeout=300)
            (PEER / "complete").touch()
    return str(python)


@pytest.fixture
def both(peer: str) -> Callable[..., tuple[str, str]]:
    """Run a program with Puka and with ours; returns what they print."""

    def run(*command: str, timeout: float = 100) -> tuple[str, str]:
        printed = []
        for python in (peer, sys.executable):
            done = subprocess.run(
                [python, "-W", "ignore", *command],
                capture_output=True,
                text=True,
                timeout=timeout,
                env=environment(python == sys.executable),
                cwd=HERE,
            )
            assert done.returncode == 0, done.stderr
            printed.append(done.stdout)
        return printed[0], printed[1]

    return run


@pytest.fixture
def compared(both: Callable[..., tuple[str, str]], uri: str) -> Callable[..., tuple[Any, Any]]:
    """Run a scenario with Puka and with ours; returns what they have seen."""

    def run(module: str, name: str) -> tuple[Any, Any]:
        theirs, ours = (json.loads(text) for text in both("scenario.py", uri, module, name))
        assert theirs["puka"].startswith(str(PEER)), "this is not Puka"
        assert not ours["puka"].startswith(str(PEER)), "this is not ours"
        return theirs["results"][name], ours["results"][name]

    return run
