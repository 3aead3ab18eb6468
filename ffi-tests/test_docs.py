"""Docstrings: everything public has one, and their examples run."""

from __future__ import annotations

import asyncio
import doctest
import inspect
import pathlib
import re
import time
from typing import Any

import pytest

import murano_messaging as mm
from murano_messaging import aio, errors, events
from proxy import Proxy

MODULES = [mm, aio, errors, events]


def public():
    """Every public name with its object, methods included."""
    for module in MODULES:
        yield module.__name__, module
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.ismodule(value):
                continue
            yield f"{module.__name__}.{name}", value
            if inspect.isclass(value) and value.__module__.startswith("murano_messaging"):
                for member in dir(value):
                    if not member.startswith("_"):
                        yield f"{module.__name__}.{name}.{member}", inspect.getattr_static(value, member)


PUBLIC = dict(public())


def test_everything_public_has_a_docstring():
    fields = (str, int, bool, type(None))
    missing = [
        name
        for name, value in PUBLIC.items()
        # What exceptions inherit from built-ins is documented there; fields have no docstrings at run time.
        if not isinstance(value, fields)
        and not (inspect.getdoc(value) or "").strip()
        and not name.endswith((".with_traceback", ".add_note", ".args", ".count", ".index", ".characters_written"))
    ]
    assert not missing, f"add docstrings to {missing}"


def test_docstrings_are_written_for_python():
    """Not for rustdoc: no links in brackets, no paths with colons."""
    rust = re.compile(r"\[`|`\]|\w::\w")
    marked = [name for name, value in PUBLIC.items() if rust.search(inspect.getdoc(value) or "")]
    assert not marked, f"write the docstrings of {marked} for those who read them in Python"


def test_what_asyncio_overrides_is_documented_there():
    for name in ("ack", "nack", "reject", "requeue"):
        assert vars(aio.Delivery)[name].__doc__ == vars(mm.Delivery)[name].__doc__


@pytest.mark.parametrize(
    "name", [name for name, value in PUBLIC.items() if ">>>" in (getattr(value, "__doc__", "") or "")]
)
def test_examples_run(uri, queue, name):
    with mm.connect(uri) as client:
        client.declare_queue(queue, expires=60)
        names = {"mm": mm, "client": client, "queue": queue, "URI": uri, "QUEUE": queue + "-example"}
        (example,) = doctest.DocTestFinder(recurse=False).find(
            type("Documented", (), {"__doc__": PUBLIC[name].__doc__}), name, globs=names
        )
        output: list[str] = []
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=output.append)
        assert not output, "".join(output)


def test_the_recipes_for_health_checks(uri):
    text = (pathlib.Path(__file__).parent.parent / "docs" / "health.md").read_text(encoding="utf-8")
    blocking, asynchronous = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    proxy = Proxy(uri)
    names: dict[str, Any] = {"mm": mm}
    with mm.connect(proxy.uri, recovery=False) as client:
        exec(blocking, names)
        assert names["ready"](client) is True
        # Connected, and silent.
        proxy.stall()
        assert client.connected and names["ready"](client) is False
        proxy.resume()
        assert names["ready"](client) is True
        proxy.cut()
        until = time.monotonic() + 30
        while client.connected:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert names["ready"](client) is False

    async def main():
        exec(asynchronous, names)
        async with aio.connect(uri) as client:
            assert await names["ready"](client) is True
        assert await names["ready"](client) is False

    asyncio.run(main())
    proxy.close()


def test_what_other_clients_are_told_is_there(uri):
    """docs/from-other-clients.md names methods and arguments that exist."""
    text = (pathlib.Path(__file__).parent.parent / "docs" / "from-other-clients.md").read_text(encoding="utf-8")
    rows = [row.split("|") for row in text.splitlines() if row.startswith("| ")]
    assert len(rows) > 40
    with mm.connect(uri) as client:
        for row in rows:
            ours = row[-2]
            for name in re.findall(r"\bclient\.(\w+)", ours):
                assert hasattr(client, name), name
            for name in re.findall(r"\b(?:mm|aio)\.(\w+)", ours):
                assert hasattr(mm, name) or hasattr(aio, name), name
            for method, arguments in re.findall(r"\bclient\.(\w+)\(([^()]*)\)", ours):
                known = inspect.signature(getattr(client, method)).parameters
                for argument in re.findall(r"\b(\w+)=", arguments):
                    assert argument in known, (method, argument)
            for delivery in re.findall(r"\bdelivery\.(\w+)", ours):
                assert hasattr(mm.Delivery, delivery), delivery


def test_the_program_of_the_readme_runs(uri, unique, capsys):
    readme = (pathlib.Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    program = re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1]
    queue = unique("readme")
    program = program.replace("amqp://guest:guest@localhost", uri).replace('"tasks"', f'"{queue}"')
    exec(program, {})
    assert capsys.readouterr().out == "{'id': 1}\n"
    with mm.connect(uri) as client:
        client.delete_queue(queue)


def test_the_programs_of_the_document_about_rpc_run(uri, capsys):
    text = (pathlib.Path(__file__).parent.parent / "docs" / "oslo.md").read_text(encoding="utf-8")
    programs = [
        program for program in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "import murano_messaging" in program
    ]
    assert programs
    for program in programs:
        exec(program.replace("amqp://guest:guest@localhost", uri), {})
    assert capsys.readouterr().out == "3\nTypeError\nsum.made {'sum': 3}\n"
