"""Puka's interface on Puka and on ours, side by side: CPU time of the client per message, and messages per second.

``python puka_compared.py URI PUKA_PYTHON [--messages N] [--rounds N]`` runs with the Python that has ours; PUKA_PYTHON
is the one that has Puka 0.0.8. The programs are those of ``peers/puka_peer.py`` for both; rounds alternate, and the
best of each counts. It ends with an error where ours takes more than half of Puka's CPU time.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import uuid

PEERS = pathlib.Path(__file__).resolve().parent / "peers"
ROWS = {
    "publish": "publish, confirmed, 1000 in flight",
    "publish_wait": "publish and wait for each",
    "consume": "consume and ack each",
}
LIMIT = 0.5

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import puka_peer
getattr(puka_peer, sys.argv[2])(sys.argv[3], sys.argv[4], int(sys.argv[5]), False)
"""

SETUP = """
import sys, puka
action, uri, queue, messages = sys.argv[1:]
client = puka.Client(uri)
client.wait(client.connect())
if action == "delete":
    client.wait(client.queue_delete(queue))
else:
    client.wait(client.queue_declare(queue))
    client.wait(client.queue_purge(queue))
    for _ in range(0, int(messages), 1000):
        client.wait_for_all([client.basic_publish("", queue, body="x" * 256) for _ in range(1000)])
client.wait(client.close())
"""


def python(interpreter: str, code: str, *arguments: str) -> str:
    command = [interpreter, "-W", "ignore", "-c", code, *arguments]
    environment = dict(os.environ)
    if interpreter != sys.executable:
        environment.pop("PYTHONPATH", None)
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


def measure(interpreter: str, row: str, uri: str, queue: str, messages: int) -> dict[str, float]:
    python(sys.executable, SETUP, "fill", uri, queue, str(messages if row == "consume" else 0))
    measured: dict[str, float] = json.loads(python(interpreter, PROGRAM, str(PEERS), row, uri, queue, str(messages)))
    return measured


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("uri")
    parser.add_argument("puka_python")
    parser.add_argument("--messages", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    queue = f"bench-puka-{uuid.uuid4().hex}"
    sides = {"Puka 0.0.8": given.puka_python, "ours": sys.executable}
    slow = []
    try:
        for row, title in ROWS.items():
            messages = given.messages // 4 if row == "publish_wait" else given.messages
            best: dict[str, dict[str, float]] = {}
            for _ in range(given.rounds):
                for side, interpreter in sides.items():
                    measured = measure(interpreter, row, given.uri, queue, messages)
                    if side not in best or measured["cpu_us"] < best[side]["cpu_us"]:
                        best[side] = measured
            ratio = best["ours"]["cpu_us"] / best["Puka 0.0.8"]["cpu_us"]
            print(title)
            for side, measured in best.items():
                print(f"  {side:10} {measured['cpu_us']:7.2f} us  {measured['rate'] / 1000:7.1f} k/s")
            print(f"  ours takes {ratio:.2f} of Puka's CPU time; {LIMIT} is the limit", flush=True)
            if ratio > LIMIT:
                slow.append(title)
    finally:
        python(sys.executable, SETUP, "delete", given.uri, queue, "0")
    for title in slow:
        print(f"too slow: {title}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
