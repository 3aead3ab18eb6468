"""What operators of the driver rabbit report, by its number in docs/oslo.md; here what takes processes of their own."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time
from typing import Any

import pytest
import stock

from children import HERE, Child

WHOLE = bool(os.environ.get("MURANO_WHOLE"))
PROGRAMS = pathlib.Path(__file__).parent / "programs.py"


def start(*arguments: Any, **environment: str) -> Child:
    environment = {**os.environ, "PYTHONPATH": str(HERE), "PYTHONUNBUFFERED": "1", **environment}
    return Child(
        [sys.executable, "-W", "ignore", str(PROGRAMS), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def lines_of(*arguments: Any, **environment: str) -> list[str]:
    with start(*arguments, **environment) as process:
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
        return out.splitlines()


def test_problem_05_busy_python_under_eventlet_costs_no_connection(url: Any, topic: str) -> None:
    assert lines_of("busy", url("murano"), topic, 10 if WHOLE else 6) == ["reconnects 0"]


@pytest.mark.parametrize("ack_on", ["dispatch", "done"])
def test_problem_10_a_server_that_is_killed_loses_at_most_what_it_works_on(
    url: Any, ours: Any, topic: str, ack_on: str
) -> None:
    casts, pool = 200, 8
    client = stock.client(ours, topic)
    for n in range(casts):
        client.cast({}, "work", n=n)
    done: list[str] = []
    with start("serve", url("murano"), topic, "one", 0.1, pool, f"ack_on={ack_on}") as first:
        while (line := first.line()) != "ready":
            done.append(line)
        # Time itself: this is how long it lives.
        time.sleep(1)
        first.kill()
        done += first.stdout.read().splitlines()
    with start("serve", url("murano"), topic, "one", 0, pool, f"ack_on={ack_on}") as second:
        # It begins before it says that it is ready.
        while (line := second.line()) != "ready":
            done.append(line)
        client.cast({}, "work", n=-1)
        while "done -1" not in done:
            done.append(second.line())
        # It finishes what it has begun.
        second.stdin.close()
        done += second.stdout.read().splitlines()
    done.remove("done -1")
    lost = casts - len(finished(done))
    print(f"ack_on={ack_on}: {lost} of {casts} lost")
    assert lost <= (pool if ack_on == "dispatch" else 0)


def finished(lines: list[str]) -> set[str]:
    return {line for line in lines if line.startswith("done ")}


def test_problem_13_forked_children_call_beside_their_parent(url: Any, transport: Any, topic: str) -> None:
    with stock.Server(transport(url("murano")), topic, "one"):
        assert lines_of("fork", url("murano"), topic, 100) == ["answered 100"] * 5


def test_problem_14_three_servers_and_16_callers_have_two_connections(url: Any, topic: str) -> None:
    found = dict(line.split() for line in lines_of("sockets", url("murano"), topic))
    print(found)
    assert found["sockets"] == "2"


def test_problem_18_the_queue_names_of_20_workers_after_setsid(url: Any, unique: Any, tmp_path: Any) -> None:
    process = unique("process")
    memory = pathlib.Path(f"/dev/shm/host_{process}_qmanager")
    try:
        first = lines_of("names", url("murano"), 20, process, OSLO_LOCK_PATH=str(tmp_path))
        assert sorted(first) == sorted(f"reply_host:{process}:{n}" for n in range(1, 21))
        assert sorted(lines_of("names", url("murano"), 20, process, OSLO_LOCK_PATH=str(tmp_path))) == sorted(first)
    finally:
        memory.unlink(missing_ok=True)
