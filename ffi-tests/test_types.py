"""What type checkers make of programs."""

from __future__ import annotations

import pathlib
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
