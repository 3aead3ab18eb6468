"""Measures the Python clients side by side: CPU time of the client process per message, and rates.

Each measurement is a process of its own; rounds go through all peers in turn, and the best round of each counts, so
that what else the machine does hits all alike. Messages are transient: with persistent ones a publish that waits for
its confirm waits for the broker's disk, whoever publishes. ``--peer`` and ``--work`` choose; ``--rounds`` and
``--messages`` set how much.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pathlib
import subprocess
import sys
import uuid
from typing import Optional

HERE = pathlib.Path(__file__).resolve().parent

PEERS = {
    "ours": "murano_messaging",
    "puka_peer": "puka",
    "puka_ours": "puka (the drop-in)",
    "pika_peer": "pika",
    "py_amqp": "py-amqp",
    "kombu_peer": "kombu",
    "amqpstorm_peer": "amqpstorm",
    "ours_aio": "murano_messaging.aio (uvloop)",
    "aio_pika_peer": "aio-pika (uvloop)",
}

WORKS = {
    "publish": ("publish, confirmed, 1,000 in flight", 1.0),
    "publish_wait": ("publish and wait for each", 0.1),
    "consume": ("consume and ack each", 1.0),
}

# What the design asks for: (work, ours, peer, CPU at most this share of the peer's, rate at least this multiple).
GOALS = [
    ("publish", "ours", "puka_peer", 1 / 6, None),
    ("publish_wait", "ours", "puka_peer", 1 / 2, 1.25),
    ("consume", "ours", "puka_peer", 1 / 4, None),
    ("publish", "puka_ours", "puka_peer", 1 / 2, None),
    ("publish_wait", "puka_ours", "puka_peer", 1 / 2, None),
    ("consume", "puka_ours", "puka_peer", 1 / 2, None),
    ("publish", "ours_aio", "aio_pika_peer", 1 / 15, None),
    ("consume", "ours_aio", "aio_pika_peer", 1 / 10, None),
]

Sample = dict[str, float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", action="append", choices=PEERS)
    parser.add_argument("--work", action="append", choices=WORKS)
    parser.add_argument("--persistent", action="store_true", help="messages that the broker keeps on disk, at its pace")
    parser.add_argument("--run", nargs=4, metavar=("PEER", "WORK", "QUEUE", "MESSAGES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    uri = os.environ["BROKER"]
    if options.run:
        peer, work, queue, messages = options.run
        sys.path.insert(0, str(HERE / "peers"))
        getattr(importlib.import_module(peer), work)(uri, queue, int(messages), options.persistent)
        return 0
    best = measure(uri, options)
    report(best)
    return 0


def measure(uri: str, options: argparse.Namespace) -> dict[tuple[str, str], Sample]:
    import murano_messaging as mm

    best: dict[tuple[str, str], Sample] = {}
    with mm.connect(uri) as client:
        for work in options.work or WORKS:
            messages = max(1000, int(options.messages * WORKS[work][1]))
            for number in range(options.rounds):
                for peer in options.peer or PEERS:
                    queue = f"bench-{uuid.uuid4().hex}"
                    client.declare_queue(queue, expires=600)
                    if work == "consume":
                        fill(client, queue, messages)
                    sample = run(peer, work, queue, messages, options)
                    client.delete_queue(queue)
                    if sample is None:
                        continue
                    print(f"{work:14} round {number + 1} {peer:16} {sample['cpu_us']:8.2f} us {sample['rate']:10.0f}/s")
                    sys.stdout.flush()
                    known = best.get((work, peer))
                    if known is None or sample["cpu_us"] < known["cpu_us"]:
                        best[work, peer] = {**sample, "rate": max(sample["rate"], (known or sample)["rate"])}
                    else:
                        known["rate"] = max(known["rate"], sample["rate"])
    return best


def fill(client: object, queue: str, messages: int) -> None:
    from peers.meter import BODY

    import murano_messaging as mm

    assert isinstance(client, mm.Client)
    for start in range(0, messages, 10_000):
        count = min(10_000, messages - start)
        mm.wait_all([client.publish_nowait(BODY, routing_key=queue, persistent=False) for _ in range(count)], timeout=60)


def run(peer: str, work: str, queue: str, messages: int, options: argparse.Namespace) -> Optional[Sample]:
    command = [sys.executable, __file__, "--run", peer, work, queue, str(messages)]
    if options.persistent:
        command.append("--persistent")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if lines:
        sample: Sample = json.loads(lines[-1])
        return sample
    if f"has no attribute '{work}'" in done.stderr:
        # The peer cannot do it.
        return None
    raise SystemExit(f"{peer} {work} failed:\n{done.stderr}")


def report(best: dict[tuple[str, str], Sample]) -> None:
    for work, (title, _) in WORKS.items():
        rows = [(peer, best[work, peer]) for peer in PEERS if (work, peer) in best]
        if not rows:
            continue
        print(f"\n{title}")
        for peer, sample in rows:
            print(f"  {PEERS[peer]:32} {sample['cpu_us']:8.2f} us/message {sample['rate']:10.0f} messages/s")
    print()
    for work, ours, peer, share, multiple in GOALS:
        if (work, ours) not in best or (work, peer) not in best:
            continue
        mine, theirs = best[work, ours], best[work, peer]
        cpu, rate = mine["cpu_us"] / theirs["cpu_us"], mine["rate"] / theirs["rate"]
        reached = cpu <= share and (multiple is None or rate >= multiple)
        wanted = f"CPU <= {share:.3f}" + (f", rate >= {multiple}" if multiple else "")
        print(
            f"{'reached' if reached else 'MISSED ':8} {PEERS[ours]} / {PEERS[peer]}, {WORKS[work][0]}: "
            f"CPU {cpu:.3f}, rate {rate:.2f} ({wanted})"
        )


if __name__ == "__main__":
    raise SystemExit(main())
