"""Old and new components exchange plans and results: the stack of 2014 on Python 2.7, Murano's own on kombu, and ours."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest
from generations import PACKAGES, login

import brokers
import murano_messaging as mm
from children import Child

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
KEYS = ROOT / "core" / "tests" / "murano"
COUNT = 5

OURS = list(PACKAGES)
# Murano's own, on kombu.
KOMBU = {"kombu engine": "murano.common.messaging", "kombu agent": "muranoagent.common.messaging"}
OLD = ["puka on Python 2.7", *KOMBU]
NEW = [*OURS, "Rust"]
PAIRS = [(engine, agent) for engine in NEW + OLD for agent in NEW + OLD if engine in NEW or agent in NEW]
# The queues of a kombu agent are not durable. It never declares those that it shares with an engine.
PAIRS = [(engine, agent) for engine, agent in PAIRS if engine != "kombu agent"]


@pytest.fixture(scope="session")
def python2() -> str:
    done = subprocess.run([ROOT / "scripts" / "old-stack.sh"], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        # `scripts/python.sh test` says so once more, as its last word.
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="session")
def rust() -> pathlib.Path:
    return brokers.example("murano-peer")


@pytest.fixture
def start(request, kombu_stack, rust, uri, engine, agent):
    # Before anything is started.
    python2 = request.getfixturevalue("python2") if OLD[0] in (engine, agent) else ""
    _, _, host, port, _ = login(uri)

    def start(role: str, kind: str, queue: str, results: str) -> Child:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
        if kind == "Rust":
            return Child([rust, role, uri, queue, results, str(COUNT)], **options)
        interpreter, package = sys.executable, {**PACKAGES, **KOMBU}.get(kind, "muranocommon.messaging")
        if kind in KOMBU:
            environment["PYTHONPATH"] = kombu_stack
        elif kind not in OURS:
            interpreter = python2
            environment["PYTHONPATH"] = str(ROOT / "target" / "old-stack")
        arguments = [role, package, host, str(port), queue, results, str(COUNT)]
        return Child([interpreter, "-W", "ignore", str(HERE / "peers" / "component.py"), *arguments], **options)

    return start


@pytest.mark.parametrize(("engine", "agent"), PAIRS, ids=[f"{engine} to {agent}" for engine, agent in PAIRS])
def test_plans_and_results_are_exchanged_with_their_ids(start, uri, engine, agent, unique):
    queue, results = unique("q"), unique("results")
    with start("engine", engine, queue, results) as sender:
        assert sender.line() == "sent"
        with start("agent", agent, queue, results) as receiver:
            got = [json.loads(line) for line in receiver.end(60).splitlines()]
        answers = [json.loads(line) for line in sender.end(60).splitlines()]
    ids = [f"plan-{n}" for n in range(COUNT)]
    assert got == ids
    assert [answer for answer, _ in answers] == ids
    assert [document["SourceID"] for _, document in answers] == ids
    assert [document["Body"] for _, document in answers] == list(range(COUNT))
    with mm.connect(uri) as direct:
        assert direct.delete_queue(queue) == 0
        assert direct.delete_queue(results) == 0


# ---- signatures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sender", ["engine", "kombu engine", "Rust"])
@pytest.mark.parametrize("receiver", ["agent", "kombu agent", "Rust"])
def test_plans_are_signed_and_verified(uri, queue, kombu_stack, rust, sender, receiver):
    def run(role: str, kind: str, key: str) -> str:
        program = [str(rust), role]
        if kind != "Rust":
            package = {**PACKAGES, **KOMBU}[kind]
            program = [sys.executable, "-W", "ignore", str(HERE / "peers" / "signer.py"), role, package]
        environment = {**os.environ, "PYTHONPATH": kombu_stack}
        command = [*program, uri, queue, str(KEYS / key)]
        with Child(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as child:
            return child.end(60).strip()

    with mm.connect(uri) as direct:
        direct.declare_queue(queue, expires=60)
        run("sign", sender, "key.pem")
        # In the form in which Murano's engine hands out its key.
        assert run("verify", receiver, "public-pkcs1.pem") == "plan-1"
        assert direct.delete_queue(queue) == 0
