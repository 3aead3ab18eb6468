"""Measures the Python clients side by side: CPU time of the client process per message, rates, and wake-ups.

Each measurement is a process of its own; rounds go through all peers in turn, so that what else the machine does hits all
alike, and the median of the rounds counts. Each work is measured with few messages and with many, which must not make a
difference. Messages are transient: with persistent ones a publish that waits for its confirm waits for the broker's disk,
whoever publishes. ``--peer`` and ``--work`` choose; ``--rounds`` and ``--messages`` set how much.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pathlib
import statistics
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
    "asyncio_floor": "uvloop alone",
}

WORKS = {
    "publish": "publish, confirmed, 1,000 in flight",
    "publish_batch": "publish, confirmed, in batches of 1,000",
    "publish_gather": "publish, a task for each, 1,000 at once",
    "publish_wait": "publish and wait for each",
    "consume": "consume (prefetch 200) and ack each",
}

# What each takes of what the peer takes: (work, ours, peer, CPU at most this share of the peer's, rate at least this
# multiple).
GOALS = [
    ("publish_wait", "ours", "puka_peer", 28 / 67, 1.25),
    ("publish_batch", "ours", "puka_peer", 3.2 / 22.5, None),
    ("consume", "ours", "puka_peer", 3.5 / 17, None),
    ("publish", "ours_aio", "aio_pika_peer", 4.5 / 113, None),
    ("publish_gather", "ours_aio", "aio_pika_peer", 23 / 116, None),
    ("consume", "ours_aio", "aio_pika_peer", 6 / 126, None),
    ("publish_wait", "puka_ours", "puka_peer", 30 / 70, None),
    ("publish", "puka_ours", "puka_peer", 1 / 2, None),
    ("consume", "puka_ours", "puka_peer", 1 / 2, None),
]

Sample = dict[str, float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, action="append", help="may be given several times (4000 and 40000)")
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many counts (3)")
    parser.add_argument("--peer", action="append", choices=PEERS)
    parser.add_argument("--work", action="append", choices=WORKS)
    parser.add_argument("--persistent", action="store_true", help="messages that the broker keeps on disk, at its pace")
    parser.add_argument("--json", metavar="FILE", help="write every sample to it as well, for docs/benchmarks.md")
    parser.add_argument("--run", nargs=4, metavar=("PEER", "WORK", "QUEUE", "MESSAGES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    uri = os.environ["BROKER"]
    if options.run:
        peer, work, queue, messages = options.run
        sys.path.insert(0, str(HERE / "peers"))
        getattr(importlib.import_module(peer), work)(uri, queue, int(messages), options.persistent)
        return 0
    runs = []
    for messages in options.messages or [4000, 40_000]:
        samples = measure(uri, messages, options)
        report(messages, medians(samples))
        rows = [
            {"work": work, "title": WORKS[work], "peer": peer, "label": PEERS[peer], "samples": those}
            for (work, peer), those in samples.items()
        ]
        runs.append({"messages": messages, "persistent": options.persistent, "rounds": options.rounds, "rows": rows})
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(runs, indent=1))
    return 0


def medians(samples: dict[tuple[str, str], list[Sample]]) -> dict[tuple[str, str], Sample]:
    return {
        row: {key: statistics.median(sample[key] for sample in those) for key in those[0]}
        for row, those in samples.items()
    }


def measure(uri: str, messages: int, options: argparse.Namespace) -> dict[tuple[str, str], list[Sample]]:
    import murano_messaging as mm

    samples: dict[tuple[str, str], list[Sample]] = {}
    with mm.connect(uri) as client:
        for work in options.work or WORKS:
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
                    samples.setdefault((work, peer), []).append(sample)
    return samples


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


def report(messages: int, medians: dict[tuple[str, str], Sample]) -> None:
    print(f"\n{messages:,} messages; wake-ups are those per 1,000 messages, of the main thread and of the others")
    for work, title in WORKS.items():
        rows = [(peer, medians[work, peer]) for peer in PEERS if (work, peer) in medians]
        if not rows:
            continue
        print(f"\n{title}")
        floor = medians.get((work, "asyncio_floor"))
        for peer, sample in rows:
            above = ""
            if floor is not None and peer in ("ours_aio", "aio_pika_peer"):
                above = f"  ({sample['cpu_us'] - floor['cpu_us']:.2f} above uvloop alone)"
            print(
                f"  {PEERS[peer]:30} {sample['cpu_us']:8.2f} us/message {sample['rate']:8.0f}/s"
                f"  woken {sample['main_wakes']:6.0f} + {sample['other_wakes']:5.0f}{above}"
            )
    print()
    for work, ours, peer, share, multiple in GOALS:
        if (work, ours) not in medians or (work, peer) not in medians:
            continue
        mine, theirs = medians[work, ours], medians[work, peer]
        cpu, rate = mine["cpu_us"] / theirs["cpu_us"], mine["rate"] / theirs["rate"]
        reached = cpu <= share and (multiple is None or rate >= multiple)
        wanted = f"CPU <= {share:.3f}" + (f", rate >= {multiple}" if multiple else "")
        print(
            f"{'reached' if reached else 'MISSED ':8} {PEERS[ours]} / {PEERS[peer]}, {WORKS[work]}: "
            f"CPU {cpu:.3f}, rate {rate:.2f} ({wanted})"
        )


if __name__ == "__main__":
    raise SystemExit(main())
