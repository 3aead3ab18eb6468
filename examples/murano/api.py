"""A miniature of Murano's API: sends deployment tasks to the conductors and follows what they report.

api.py BROKER RUN NAME TASKS JOURNAL

It notes in JOURNAL each report that comes, and whether it took it for a repeat, so that others can judge it.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

import murano_messaging as mm

HOSTS = ["web-0", "web-1"]


def say(text: str) -> None:
    print(text, flush=True)


def said(report: dict[str, Any]) -> str:
    task = report["TaskID"]
    if report["Kind"] == "progress":
        return f"of {task}: {report['Text']}"
    if report["Kind"] == "failure":
        return f"that {task} failed: {report['Text']}"
    return f"that {task} is done: {report['Results']}"


def main(broker: str, run: str, name: str, count: int, journal: pathlib.Path) -> None:
    reports = f"{run}-api-{name}"
    with mm.connect(broker) as client, journal.open("a") as journal_file:
        client.declare_queue(reports, expires=600)
        client.declare_queue(f"{run}-tasks", expires=600)
        for n in range(1, count + 1):
            task = {"ID": f"{name}-{n}", "Environment": run, "Hosts": HOSTS, "ReplyTo": reports}
            client.publish(task, routing_key=f"{run}-tasks", message_id=task["ID"])
            say(f"sends task {task['ID']}")

        # A conductor that takes over a task reports again what another one reported before it died. Ids tell.
        seen: set[str | None] = set()
        done: set[str] = set()
        with client.consume(reports, prefetch=10) as deliveries:
            # It goes on listening when it has all results: what comes late must be recognised too.
            for delivery in deliveries:
                report = delivery.json()
                repeat = delivery.message_id in seen
                print(json.dumps({"repeat": repeat, "id": delivery.message_id, **report}), file=journal_file, flush=True)
                delivery.ack()
                if repeat:
                    say(f"is told again, and knows it, {said(report)}")
                    continue
                seen.add(delivery.message_id)
                say(f"is told {said(report)}")
                if report["Kind"] == "failure":
                    sys.exit(1)
                if report["Kind"] == "result":
                    done.add(report["TaskID"])
                    if len(done) == count:
                        say(f"has all its {count} results")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), pathlib.Path(sys.argv[5]))
