"""Puka at the other end of a queue, and the program of the documentation on both."""

from __future__ import annotations

import re
import subprocess

import brokers
import puka

PUBLISH = """
import sys, puka
uri, queue = sys.argv[1:]
client = puka.Client(uri)
client.wait(client.connect())
for body, headers in (
    ("good", {"key": "value", "content_type": "text/plain"}),
    ("poison", {"content_type": b"\\xff\\xfe"}),
    ("good again", {}),
):
    client.wait(client.basic_publish("", queue, headers=headers, body=body))
client.wait(client.close())
"""


def test_properties_that_are_not_text_do_not_end_the_connection(peer, uri, queue):
    client = puka.Client(uri)
    client.wait(client.connect())
    client.wait(client.queue_declare(queue, auto_delete=True))
    subprocess.run([peer, "-W", "ignore", "-c", PUBLISH, uri, queue], check=True, timeout=60)
    consume = client.basic_consume(queue)
    messages = [client.wait(consume, timeout=20) for _ in range(3)]
    assert [message["body"] for message in messages] == ["good", "poison", "good again"]
    assert messages[0]["headers"].pop("x-puka-delivery-tag") == 1
    assert messages[0]["headers"] == {"key": "value", "content_type": "text/plain"}
    for message in messages:
        client.basic_ack(message)
    assert client.wait(client.basic_cancel(consume))["consumer_tag"] == f"{consume}.0."
    client.wait(client.close())


def test_the_program_of_the_documentation(both, uri, queue):
    text = brokers.ROOT.joinpath("docs", "puka.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    program = program.replace("amqp://guest:guest@localhost/", uri).replace('"hello"', f'"{queue}"')
    assert uri in program
    assert queue in program
    assert both("-c", program) == ("Hello World!\n", "Hello World!\n")
