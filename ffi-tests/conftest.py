"""Fixtures: which face, which broker, names that nobody else has.

``--face eventlet`` and ``--face gevent`` run the contract in a process that was monkey-patched from the start: see
``green_eventlet.py`` and ``green_gevent.py``.
"""

from __future__ import annotations

import inspect
import pathlib
import signal
import sys
from collections.abc import Iterator
from typing import Any, Callable

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

try:
    import murano_messaging._native  # noqa: F401
except ModuleNotFoundError as error:
    if not (error.name or "").startswith("murano_messaging"):
        raise
    pytest.exit("the native module is not built: run `make develop`, and pytest with .venv/bin/python", returncode=4)

import brokers
import faces

BROKERS = ["rabbitmq", "memory"] if brokers.has_memory() else ["rabbitmq"]
FACES = ["sync", "asyncio", "uvloop"]

# A shell that starts something in the background has it ignore Ctrl-C, and what that starts does too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--face", help="run the contract with this face only: eventlet or gevent")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    only = metafunc.config.getoption("--face")
    if "face" in metafunc.fixturenames:
        metafunc.parametrize("face", [only] if only else FACES, indirect=True)
    if "broker" in metafunc.fixturenames:
        metafunc.parametrize("broker", BROKERS, indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object:
    """Run a contract test on its face."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    pyfuncitem.funcargs["face"].run(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture
def face(request: pytest.FixtureRequest) -> Any:
    return faces.make(request.param)


@pytest.fixture(scope="session")
def node() -> Iterator[brokers.Node]:
    node = brokers.Node()
    yield node
    node.stop()


@pytest.fixture
def uri(node: brokers.Node) -> str:
    """The URI of a RabbitMQ."""
    return node.uri


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> str:
    """The URI of a broker, one of each kind."""
    if request.param == "memory":
        return f"memory://{brokers.unique('broker')}"
    return str(request.getfixturevalue("node").uri)


@pytest.fixture
def unique() -> Callable[[str], str]:
    return brokers.unique


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> str:
    """The name of a queue that nobody else has; it is not declared."""
    return brokers.unique("q")
