"""A client opened for each message, on ours and on the stack of 2014 (murano-common on Puka, Python 2.7), side by side.

``python murano_compared.py URI [--messages N] [--rounds N]`` runs with the Python that has ours, and takes the old
stack from ``scripts/old-stack.sh``. Rounds alternate, and the best of each counts. It ends with an error where ours
takes more time.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import uuid
from urllib.parse import urlsplit

import murano_messaging as mm

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("uri")
    parser.add_argument("--messages", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    parts = urlsplit(given.uri)
    queue = f"bench-murano-{uuid.uuid4().hex}"
    python2 = subprocess.run([ROOT / "scripts" / "old-stack.sh"], check=True, stdout=subprocess.PIPE, text=True)
    old = {**os.environ, "PYTHONPATH": str(ROOT / "target" / "old-stack")}
    sides = {
        "2014, Puka": (python2.stdout.strip(), old),
        "ours": (sys.executable, dict(os.environ)),
    }
    best: dict[str, dict[str, float]] = {}
    for _ in range(given.rounds):
        for side, (interpreter, environment) in sides.items():
            command = [interpreter, "-W", "ignore", str(HERE / "peers" / "murano_peer.py"), "muranocommon.messaging"]
            command += [str(parts.hostname), str(parts.port), queue, str(given.messages)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
            measured: dict[str, float] = json.loads(output)
            if side not in best or measured["ms"] < best[side]["ms"]:
                best[side] = measured
    with mm.connect(given.uri) as client:
        client.delete_queue(queue)
    print("a client for each message: connect, declare, send, close")
    for side, measured in best.items():
        print(f"  {side:10}  {measured['ms']:6.2f} ms  {measured['cpu_ms']:6.2f} ms of CPU")
    ratio = best["ours"]["ms"] / best["2014, Puka"]["ms"]
    print(f"  ours takes {ratio:.2f} of the time; 1 is the limit")
    return 0 if ratio <= 1 else 1


if __name__ == "__main__":
    sys.exit(main())
