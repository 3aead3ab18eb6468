"""``murano-messaging publish``, ``consume``, ``queue``, ``bench``, ``top``: run as users run them.

On RabbitMQ; what does not depend on the broker on the embedded one, in a process of its own, as the commands reach it.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import io
import json
import signal
import subprocess
import sys
import time

import pytest

import cli
import murano_messaging as mm
from murano_messaging._cli._progress import Progress

MESSAGES = "".join(json.dumps({"body": f"message {number}"}) + "\n" for number in range(500))


@pytest.fixture
def there(uri, queue):
    """The queue, declared through the command line."""
    assert cli.succeeded("queue", "declare", uri, queue, "--expires", "120") == f"{queue}: 0 messages, 0 consumers\n"
    yield queue
    with mm.connect(uri) as client:
        client.delete_queue(queue)


def start(*words, **options):
    command = [sys.executable, "-m", "murano_messaging", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def eventually(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)


# ---- publish and consume ---------------------------------------------------------------------------------------------


def test_lines_of_json_go_in_and_come_out_the_same(uri, there):
    assert cli.succeeded("publish", uri, there, "--json-lines", given=MESSAGES) == ""
    out = cli.succeeded("consume", uri, there, "--ack", "--count", 500)
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["body"] for line in lines] == [f"message {number}" for number in range(500)]
    assert cli.succeeded("queue", "inspect", uri, there) == f"{there}: 0 messages, 0 consumers\n"
    # What `consume` wrote, `publish` reads.
    cli.succeeded("publish", uri, there, "--json-lines", given=out)
    again = [json.loads(line) for line in cli.succeeded("consume", uri, there, "--ack", "--count", 500).splitlines()]
    assert [line["properties"] for line in again] == [line["properties"] for line in lines]


def test_every_property_and_header_survives_the_way_through_a_file(uri, there):
    properties = {
        "headers": {
            "text": "ü",
            "number": 7,
            "flag": True,
            "nothing": None,
            "bytes": b"\xff\0",
            "amount": decimal.Decimal("1.20"),
            "when": datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
            "list": [1, {"deep": b"x"}],
        },
        "content_type": "application/x",
        "content_encoding": "gzip",
        "correlation_id": "c",
        "reply_to": "r",
        "message_id": "m",
        "type": "t",
        "app_id": "a",
        "priority": 3,
        "expiration": 600,
        "timestamp": 1_700_000_000,
    }
    with mm.connect(uri) as client:
        client.publish(b"\xff\xfe\0", routing_key=there, **properties)
        line = cli.succeeded("consume", uri, there, "--ack", "--count", 1)
        assert base64.b64decode(json.loads(line)["body_base64"]) == b"\xff\xfe\0"
        cli.succeeded("publish", uri, there, "--json-lines", given=line)
        back = client.get(there, no_ack=True)
    assert back.body == b"\xff\xfe\0"
    assert back.headers == properties["headers"]
    for name in ("content_type", "content_encoding", "correlation_id", "message_id", "type", "app_id", "priority"):
        assert getattr(back, name) == properties[name]
    assert back.expiration == 600


def test_a_body_comes_from_the_input_a_file_the_line_or_an_option(uri, there, tmp_path):
    (tmp_path / "body").write_bytes(b"from a file")
    cli.succeeded("publish", uri, there, given="from\nthe input")
    cli.succeeded("publish", uri, there, "--file", tmp_path / "body")
    cli.succeeded("publish", uri, there, "--lines", given="one\ntwo\r\n")
    cli.succeeded(
        "publish", "--body", "an option", uri, "--header", "a=b", "--property", "priority=4", there, "--count", 2
    )
    out = cli.succeeded("consume", uri, there, "--ack", "--count", 6)
    lines = [json.loads(line) for line in out.splitlines()]
    bodies = ["from\nthe input", "from a file", "one", "two", "an option", "an option"]
    assert [line["body"] for line in lines] == bodies
    assert lines[5]["properties"]["headers"] == {"a": "b"}
    assert lines[5]["properties"]["priority"] == 4
    assert lines[0]["properties"]["persistent"] is True


def test_an_exchange_and_a_routing_key(uri, there):
    cli.succeeded("queue", "declare", uri, there, "--expires", 120, "--bind", "amq.topic:some.*")
    cli.succeeded("publish", uri, "--exchange", "amq.topic", "--routing-key", "some.key", "--body", "x")
    (line,) = cli.succeeded("consume", uri, there, "--ack", "--count", 1).splitlines()
    assert (json.loads(line)["exchange"], json.loads(line)["routing_key"]) == ("amq.topic", "some.key")
    # A line that says where it was is sent where the command says.
    cli.succeeded("publish", uri, "--exchange", "amq.topic", "--json-lines", given=line)
    assert json.loads(cli.succeeded("consume", uri, there, "--ack", "--count", 1))["routing_key"] == "some.key"


def test_looking_without_ack_leaves_everything_in_its_queue(uri, there):
    cli.succeeded("publish", uri, there, "--json-lines", given=MESSAGES)
    out = cli.succeeded("consume", uri, there, "--count", 3, "--body")
    assert out == "message 0\nmessage 1\nmessage 2\n"
    assert len(cli.succeeded("consume", uri, there, "--idle", 0.5).splitlines()) == 500
    eventually(lambda: "500 messages, 0 consumers" in cli.succeeded("queue", "inspect", uri, there))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_consume_loses_nothing(uri, there, number):
    cli.succeeded("publish", uri, there, "--json-lines", given=MESSAGES)
    with start("consume", uri, there, "--ack", "--prefetch", 7) as process:
        first = [process.stdout.readline() for _ in range(3)]
        process.send_signal(number)
        # Not `communicate`, which would miss what `readline` has read ahead.
        out, err = process.stdout.read(), process.stderr.read()
    assert (process.returncode, err) == (128 + number, "")
    written = [json.loads(line)["body"] for line in [*first, *out.splitlines()]]
    rest = []
    if len(written) < 500:
        left = cli.succeeded("consume", uri, there, "--ack", "--count", 500 - len(written))
        rest = [json.loads(line)["body"] for line in left.splitlines()]
    assert sorted([*written, *rest]) == sorted(f"message {number}" for number in range(500))
    assert "0 messages" in cli.succeeded("queue", "inspect", uri, there)


def test_an_interrupted_publish_says_how_many_were_confirmed(uri, there):
    with start("publish", uri, there, "--lines", stdin=subprocess.PIPE) as process:
        for number in range(20):
            process.stdin.write(f"{number}\n")
        process.stdin.flush()
        with mm.connect(uri) as client:
            eventually(lambda: client.queue_info(there).message_count > 0)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
            found = client.queue_info(there).message_count
    assert process.returncode == 130
    assert err == f"murano-messaging publish: interrupted; {found} messages were confirmed\n"


def test_a_consume_that_gets_nothing_can_be_interrupted(uri, there):
    with start("consume", uri, there) as process, mm.connect(uri) as client:
        eventually(lambda: client.queue_info(there).consumer_count == 1)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 130


def test_a_reader_that_leaves_loses_nothing(uri, there):
    cli.succeeded("publish", uri, there, "--json-lines", given=MESSAGES)
    with start("consume", uri, there, "--ack", "--prefetch", 5) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 1
        assert process.stderr.read() == ""
    with mm.connect(uri) as client:
        # Those of the line that was read, and of at most one batch behind it.
        eventually(lambda: client.queue_info(there).consumer_count == 0)


def test_progress_is_shown_on_a_terminal_and_nowhere_else(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        progress = Progress("messages", 3)
        progress.add(2)
        progress.end()
        assert ("2 of 3 messages" in stream.getvalue()) is shown
        assert bool(stream.getvalue()) is shown


def test_what_cannot_be_published_is_said_in_a_line_with_its_number(uri, there):
    lines = '{"body": "good"}\n{"body": "bad", "properties": {"colour": "red"}}\n'
    text = cli.failed("publish", uri, there, "--json-lines", given=lines)
    assert "line 2 has properties that are not known: colour" in text and "1 messages before it were confirmed" in text
    assert "line 1 is not JSON" in cli.failed("publish", uri, there, "--json-lines", given="{")
    assert "line 1 is no message" in cli.failed("publish", uri, there, "--json-lines", given="[1]")
    assert "cannot be read" in cli.failed("publish", uri, there, "--json-lines", given='{"body_base64": "*"}')
    assert "No such file" in cli.failed("publish", uri, there, "--file", "/nowhere")
    missing = cli.failed("publish", uri, f"{there}-missing", "--body", "x")
    assert missing.startswith("murano-messaging publish: ") and "0 were confirmed" in missing
    assert "give the name of a queue" in cli.failed("publish", uri, "--body", "x")
    assert "no exchange" in cli.failed("publish", uri, "--exchange", f"{there}-missing", "--body", "x")
    assert cli.run("publish", uri, there, "--nothing").returncode == 2
    assert "no queue" in cli.failed("consume", uri, f"{there}-missing", "--count", 1)


# ---- queues ----------------------------------------------------------------------------------------------------------


def test_a_queue_is_declared_inspected_purged_and_deleted(uri, queue):
    cli.succeeded("queue", "declare", uri, queue, "--expires", 120, "--message-ttl", 60, "--max-length", 100)
    cli.succeeded("publish", uri, queue, "--body", "x", "--count", 3)
    assert json.loads(cli.succeeded("queue", "inspect", uri, queue, "--json")) == {
        "name": queue,
        "message_count": 3,
        "consumer_count": 0,
    }
    assert "exists with another value" in cli.failed("queue", "declare", uri, queue, "--expires", 60)
    assert "not empty" in cli.failed("queue", "delete", uri, queue, "--if-empty")
    assert cli.succeeded("queue", "purge", uri, queue) == "3\n"
    assert cli.succeeded("queue", "delete", uri, queue, "--if-empty") == "0\n"
    for action in ("inspect", "purge", "delete"):
        assert "no queue" in cli.failed("queue", action, uri, queue)


def test_messages_are_moved_whole(uri, there, unique):
    target, copies = unique("target"), unique("copies")
    for queue in (target, copies):
        cli.succeeded("queue", "declare", uri, queue, "--expires", 120)
    with mm.connect(uri) as client:
        sent = [
            client.publish_nowait(str(number), routing_key=there, headers={"number": number, "CC": [copies]}, type="t")
            for number in range(150)
        ]
        mm.wait_all(sent, timeout=30)
        assert cli.succeeded("queue", "move", uri, there, target, "--count", 100) == "100\n"
        assert cli.succeeded("queue", "move", uri, there, target) == "50\n"
        assert client.queue_info(there).message_count == 0
        assert client.queue_info(target).message_count == 150
        assert client.queue_info(copies).message_count == 150, "those of the publish, and none of the move"
        first = client.get(target, no_ack=True)
        assert (first.body, first.type, first.headers["number"]) == (b"0", "t", 0)
        assert client.get(there) is None
        # What cannot go stays.
        assert "stayed in" in cli.run("queue", "move", uri, target, f"{target}-missing").stderr
        assert client.queue_info(target).message_count == 149
        assert "already" in cli.failed("queue", "move", uri, target, target)
        for queue in (target, copies):
            client.delete_queue(queue)


def test_a_dead_letter_queue_is_replayed_to_where_it_came_from(uri, unique):
    dead, one, two = unique("dead"), unique("one"), unique("two")
    cli.succeeded("queue", "declare", uri, dead, "--expires", 120)
    dead_letters = ("--dead-letter-exchange", "", "--dead-letter-routing-key", dead)
    for queue in (one, two):
        cli.succeeded("queue", "declare", uri, queue, "--expires", 120, *dead_letters)
    with mm.connect(uri) as client:
        for queue in (one, two, one):
            client.publish(queue, routing_key=queue, headers={"mine": 1})
            client.get(queue).reject()
        eventually(lambda: client.queue_info(dead).message_count == 3)
        assert cli.succeeded("queue", "replay", uri, dead) == "3\n"
        assert client.queue_info(dead).message_count == 0
        for queue, number in ((one, 2), (two, 1)):
            assert client.queue_info(queue).message_count == number
            back = client.get(queue, no_ack=True)
            assert (back.text(), back.headers) == (queue, {"mine": 1})
        # Its routing key is the queue's name now, unless it goes the way that it came.
        cli.succeeded("queue", "declare", uri, two, "--expires", 120, "--bind", "amq.topic:some.*", *dead_letters)
        client.publish("routed", exchange="amq.topic", routing_key="some.key")
        client.get(two).reject()
        eventually(lambda: client.queue_info(dead).message_count == 1)
        assert cli.succeeded("queue", "replay", uri, dead, "--original-routing") == "1\n"
        back = client.get(two, no_ack=True)
        assert (back.text(), back.exchange, back.routing_key) == ("routed", "amq.topic", "some.key")
        # One that does not say where it came from stays.
        client.publish("lost", routing_key=dead)
        done = cli.run("queue", "replay", uri, dead)
        assert (done.returncode, done.stdout) == (1, "0\n")
        assert "does not say where it came from" in done.stderr
        assert client.queue_info(dead).message_count == 1
        for queue in (dead, one, two):
            client.delete_queue(queue)


# ---- bench, top, completion ------------------------------------------------------------------------------------------


def test_bench_measures_and_leaves_nothing_behind(uri, tmp_path):
    plot = tmp_path / "plot.svg"
    found = json.loads(cli.succeeded("bench", uri, "--seconds", 0.2, "--json", "--plot", plot))
    assert [one["name"] for one in found["results"]] == [
        "publish, many in flight",
        "consume and ack",
        "publish and wait for each",
        "round trip",
    ]
    for one in found["results"]:
        assert one["messages"] > 0 and one["per_second"] > 0
    assert found["results"][0]["messages"] == found["results"][1]["messages"]
    latency = found["results"][3]["latency_ms"]
    assert 0 < latency["p50"] <= latency["p99"] <= latency["p99.9"]
    text = plot.read_text()
    assert text.startswith("<svg") and "round trip" in text and text.count("polyline") == 2
    table = cli.succeeded("bench", uri, "--seconds", 0.1, "--transient")
    assert "per second" in table and "round trip" in table


def test_top_shows_the_connection_and_the_queues(uri, there):
    cli.succeeded("publish", uri, there, "--body", "x", "--count", 3)
    out = cli.succeeded("top", uri, there, f"{there}-missing", "--count", 2, "--interval", 0.1)
    assert out.count("connected, answers in") == 2
    assert f"{there} " in out and "no queue" in out
    (line, _) = (line for line in out.splitlines() if line.strip().startswith(f"{there} "))
    assert line.split()[1] == "3"


def test_completion_knows_commands_and_options():
    script = cli.succeeded("completion", "bash")
    program = (
        script + '\nCOMP_WORDS=(murano-messaging queue decl); COMP_CWORD=2; _murano_messaging; echo "${COMPREPLY[@]}"'
    )
    program += '\nCOMP_WORDS=(murano-messaging ping --ca); COMP_CWORD=2; _murano_messaging; echo "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "declare\n--ca-file\n"
    assert "bashcompinit" in cli.succeeded("completion", "zsh")


def test_the_uri_of_the_environment_leaves_the_name_in_its_place(uri, there):
    environment = {"AMQP_URL": uri}
    cli.succeeded("publish", there, "--body", "x", **environment)
    assert "1 message," in cli.succeeded("queue", "inspect", there, **environment)
    assert json.loads(cli.succeeded("consume", "--ack", "--count", 1, there, **environment))["body"] == "x"
