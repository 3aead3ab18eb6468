"""Old and new components exchange plans and results: the stack of 2014 on Python 2.7, one on kombu, and ours."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from generations import PACKAGES, Generation, login

import murano_messaging as mm
from children import Child

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
KEYS = ROOT / "core" / "tests" / "murano"
COUNT = 5

OURS = list(PACKAGES)
OLD = ["puka on Python 2.7", "kombu"]
PAIRS = [(engine, agent) for engine in OURS + OLD for agent in OURS + OLD if engine in OURS or agent in OURS]


@pytest.fixture(scope="session")
def python2() -> str:
    done = subprocess.run([ROOT / "scripts" / "old-stack.sh"], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        # `scripts/python.sh test` says so once more, as its last word.
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def start(request, uri, engine, agent):
    # Before anything is started.
    python2 = request.getfixturevalue("python2") if OLD[0] in (engine, agent) else ""
    _, _, host, port, _ = login(uri)

    def start(role: str, kind: str, queue: str, results: str) -> Child:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        interpreter = [sys.executable, "-W", "ignore"]
        if kind == "kombu":
            package = "kombu_wrapper"
        elif kind in PACKAGES:
            package = PACKAGES[kind]
        else:
            package = "muranocommon.messaging"
            interpreter = [python2, "-W", "ignore"]
            environment["PYTHONPATH"] = str(ROOT / "target" / "old-stack")
        arguments = [role, package, host, str(port), queue, results, str(COUNT)]
        command = [*interpreter, str(HERE / "peers" / "component.py"), *arguments]
        return Child(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

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

PRIVATE = serialization.load_pem_private_key((KEYS / "key.pem").read_bytes(), None)


def verify(queue: str, text: str, signature: bytes) -> None:
    PRIVATE.public_key().verify(signature, (queue + text).encode(), padding.PKCS1v15(), hashes.SHA256())


@pytest.mark.parametrize("sender", ["engine", "kombu"])
@pytest.mark.parametrize("receiver", ["agent", "kombu"])
def test_plans_are_signed_and_verified(uri, queue, sender, receiver):
    sys.path.insert(0, str(HERE / "peers"))
    import kombu_wrapper

    packages = {"kombu": kombu_wrapper, **{name: Generation(name).package for name in OURS}}

    def sign(text: str) -> bytes:
        return PRIVATE.sign((queue + text).encode(), padding.PKCS1v15(), hashes.SHA256())

    with packages[sender].MqClient(*login(uri)) as engine, packages[receiver].MqClient(*login(uri)) as agent:
        engine.declare(queue, ttl=60000)
        message = packages[sender].Message()
        message.id, message.body = "1", {"ID": "1", "Name": "naïve"}
        engine.send(message, queue, signing_func=sign)
        with agent.open(queue) as subscription:
            received = subscription.get_message(timeout=30)
            text = received.text if receiver == "kombu" else received.body
            verify(queue, text, received.signature)
            with pytest.raises(InvalidSignature):
                verify(queue + "x", text, received.signature)
            received.ack()
    with mm.connect(uri) as direct:
        direct.delete_queue(queue)
