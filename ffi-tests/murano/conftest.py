"""Fixtures: a generation of the wrapper, or two."""

from __future__ import annotations

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from generations import PACKAGES, Generation


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
