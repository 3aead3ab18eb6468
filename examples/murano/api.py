"""Murano's API in small: sends deployment tasks to the conductors and follows what they report, until all are done.

api.py BROKER RUN NAME TASKS
"""

from __future__ import annotations

import sys

import murano_messaging as mm

HOSTS = ["web-0", "web-1"]


def say(text: str) -> None:
    print(text, flush=True)


def main(broker: str, run: str, name: str, count: int) -> None:
    reports = f"{run}-api-{name}"
    with mm.connect(broker) as client:
        client.declare_queue(reports, expires=600)
        client.declare_queue(f"{run}-tasks", expires=600)
        for n in range(1, count + 1):
            task = {"ID": f"{name}-{n}", "Environment": run, "Hosts": HOSTS, "ReplyTo": reports}
            client.publish(task, routing_key=f"{run}-tasks", message_id=task["ID"])
            say(f"sends task {task['ID']}")

        # A conductor that takes over a task reports again what another one reported before it died. Ids tell.
        seen: set[str | None] = set()
        repeated = 0
        done: list[str] = []
        with client.consume(reports, prefetch=10) as deliveries:
            for delivery in deliveries:
                report = delivery.json()
                delivery.ack()
                if delivery.message_id in seen:
                    repeated += 1
                    continue
                seen.add(delivery.message_id)
                if report["Kind"] == "progress":
                    say(f"is told of {report['TaskID']}: {report['Text']}")
                    continue
                say(f"is told that {report['TaskID']} is done: {report['Results']}")
                assert sorted(report["Results"]) == HOSTS
                done.append(report["TaskID"])
                if len(done) == count:
                    break
        client.delete_queue(reports)
    assert sorted(done) == [f"{name}-{n}" for n in range(1, count + 1)]
    say(f"has all its {count} results, each once; {repeated} repeated reports were recognised")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
