"""Fixtures: a generation of the wrapper, or two."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from generations import PACKAGES, Generation

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


@pytest.fixture(params=list(PACKAGES))
def generation(request: pytest.FixtureRequest) -> Generation:
    return Generation(request.param)


@pytest.fixture(params=list(PACKAGES))
def other(request: pytest.FixtureRequest) -> Generation:
    """Another generation, or the same."""
    return Generation(request.param)


@pytest.fixture(params=["engine", "agent"])
def kombu_made(request: pytest.FixtureRequest) -> Generation:
    """One of the two that were made with kombu."""
    return Generation(request.param)


@pytest.fixture(scope="session")
def kombu_stack() -> str:
    """The folder with the originals of the two that were made with kombu."""
    subprocess.run([ROOT / "scripts" / "kombu-stack.sh", sys.executable], check=True, capture_output=True)
    return str(ROOT / "target" / "kombu-stack")
