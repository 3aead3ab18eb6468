"""What type checkers make of programs."""

from __future__ import annotations

import ast
import json
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "python"

api = pytest.importorskip("mypy.api", reason="only the newest Python has the tools")


def test_what_is_awaited_has_a_type(tmp_path, monkeypatch):
    program = """
        import asyncio
        from typing import Optional
        from typing_extensions import assert_type

        import murano_messaging as mm
        from murano_messaging import aio


        async def main() -> None:
            async with aio.connect("amqp://localhost", hosts=("localhost", 5672)) as client:
                assert_type(client, aio.Client)
            client = await aio.connect(hosts=["a", ("b", 5672)])
            assert_type(await client.queue_info("q"), mm.QueueInfo)
            assert_type(await client.get("q"), Optional[aio.Delivery])
            confirmation = await client.publish_nowait(b"")
            assert_type(confirmation, aio.Confirmation)
            await confirmation
            await asyncio.wait_for(confirmation, 1)
            consumer = await client.consume("q")
            assert_type(consumer, aio.Consumer)
            async with client.consume("q") as entered:
                assert_type(entered, aio.Consumer)
            async for delivery in consumer:
                assert_type(delivery, aio.Delivery)
                await delivery.ack()
            assert_type(await consumer.get_many(3), list[aio.Delivery])
            assert_type(await asyncio.create_task(client.publish_nowait(b"")), aio.Confirmation)
            assert_type(await asyncio.gather(client.queue_info("q"), consumer), tuple[mm.QueueInfo, aio.Consumer])
    """
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(program), encoding="utf-8")
    monkeypatch.setenv("MYPYPATH", str(PACKAGE))
    arguments = ["--strict", "--config-file=", f"--cache-dir={tmp_path / 'cache'}", str(path)]
    said, failed, code = api.run(arguments)
    assert code == 0, said + failed


WRONG = """
    import murano_messaging as mm
    from murano_messaging import aio


    async def handle(delivery: aio.Delivery) -> None:
        await delivery.ack()


    async def main(client: aio.Client, consumer: aio.Consumer, confirmation: aio.Confirmation) -> None:
        client.publish(b"")  # forgotten
        client.publish_nowait(b"")  # forgotten
        client.get("q")  # forgotten
        client.declare_queue("q")  # forgotten
        client.queue_info("q")  # forgotten
        client.delete_queue("q")  # forgotten
        client.purge_queue("q")  # forgotten
        client.declare_exchange("x")  # forgotten
        client.check_exchange("x")  # forgotten
        client.delete_exchange("x")  # forgotten
        client.bind("q", "x")  # forgotten
        client.unbind("q", "x")  # forgotten
        client.bind_exchange("x", "y")  # forgotten
        client.unbind_exchange("x", "y")  # forgotten
        client.update_secret("s")  # forgotten
        client.request(b"", routing_key="q")  # forgotten
        client.run("q", handle)  # forgotten
        client.close()  # forgotten
        client.drain()  # forgotten
        consumer.get()  # forgotten
        consumer.get_many(5)  # forgotten
        consumer.cancel()  # forgotten
        consumer.set_prefetch(5)  # forgotten
        consumer.recover()  # forgotten
        confirmation.result()  # forgotten
        confirmation.exception()  # forgotten
        aio.wait_all([confirmation])  # forgotten
        # These are done at once, and may be awaited.
        delivery = await consumer.get()
        if delivery is not None:
            delivery.ack()
            await delivery.ack()
            delivery.nack(requeue=False)
            delivery.reject()
            delivery.requeue()
        client.forget("q")
        confirmation.cancel()
        client.on_event(print)
"""


def written(tmp_path, program):
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(program), encoding="utf-8")
    lines = path.read_text(encoding="utf-8").splitlines()
    return path, {number for number, line in enumerate(lines, 1) if "# forgotten" in line}


def test_mypy_names_every_forgotten_await(tmp_path, monkeypatch):
    path, forgotten = written(tmp_path, WRONG)
    monkeypatch.setenv("MYPYPATH", str(PACKAGE))
    said, failed, _ = api.run(["--strict", "--config-file=", f"--cache-dir={tmp_path / 'cache'}", str(path)])
    named = {int(number) for number in re.findall(r"program\.py:(\d+): error: .*unused-coroutine", said)}
    others = re.findall(r"program\.py:\d+: error: (?!.*unused-coroutine).*", said)
    assert (named, others) == (forgotten, []), said + failed


def test_pyright_names_every_forgotten_await(tmp_path):
    # The wheel of basedpyright brings its own Node.js; pyright's fetches one at its first run.
    pyright = shutil.which("basedpyright", path=str(pathlib.Path(sys.executable).parent)) or shutil.which("pyright")
    if pyright is None:
        pytest.skip("the tools are on the newest Python only: pip install -r python/requirements-dev.txt")
    path, forgotten = written(tmp_path, WRONG)
    config = {
        "include": [str(path)],
        "extraPaths": [str(PACKAGE)],
        "typeCheckingMode": "standard",
        "reportUnusedCoroutine": "error",
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    said = subprocess.run([pyright, "--outputjson", "-p", str(tmp_path)], capture_output=True, text=True, timeout=100)
    found = json.loads(said.stdout)["generalDiagnostics"]
    named = {one["range"]["start"]["line"] + 1 for one in found if one.get("rule") == "reportUnusedCoroutine"}
    others = [
        one["message"] for one in found if one.get("rule") != "reportUnusedCoroutine" and one["severity"] == "error"
    ]
    assert (named, others) == (forgotten, [])


def test_every_method_that_is_awaited_is_in_the_wrong_program():
    """Add the method to WRONG; unless forgetting its await does no harm."""
    stub = ast.parse((PACKAGE / "murano_messaging" / "_native.pyi").read_text(encoding="utf-8"))
    for item in stub.body:
        if not isinstance(item, ast.ClassDef) or item.name not in ("AioClient", "AioConsumer", "AioConfirmation"):
            continue
        for member in item.body:
            if not isinstance(member, ast.FunctionDef) or member.name.startswith("_") or member.returns is None:
                continue
            is_old = any("deprecated" in ast.unparse(mark) for mark in member.decorator_list)
            if ast.unparse(member.returns).startswith("Coroutine") and not is_old:
                assert f".{member.name}(" in WRONG, f"{item.name}.{member.name}"


def test_an_editor_reads_docstrings_in_the_stub():
    stub = ast.parse((PACKAGE / "murano_messaging" / "_native.pyi").read_text(encoding="utf-8"))
    names = {"Client", "Confirmation", "Consumer", "Delivery", "Events"}
    classes = [item for item in stub.body if isinstance(item, ast.ClassDef) and item.name.removeprefix("Aio") in names]
    assert len(classes) == 2 * len(names)
    for item in classes:
        for member in item.body:
            if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
                assert ast.get_docstring(member), f"{item.name}.{member.name}"
