"""A miniature of Murano's agent: takes the plans of its host and carries each out once, also when it is killed.

agent.py BROKER RUN HOST JOURNAL

JOURNAL is what it did to its host: one line for each time that a plan was carried out, with the result.
"""

from __future__ import annotations

import json
import pathlib
import sys
import time
from datetime import datetime

import murano_messaging as mm
from murano_messaging.compat.murano_agent import Message, MqClient


def say(text: str) -> None:
    print(text, flush=True)


def execute(plan: dict, journal: pathlib.Path) -> dict:
    """Carry out ``plan``, or return what came of it before."""
    for line in journal.read_text().splitlines():
        result = json.loads(line)
        if result["SourceID"] == plan["ID"]:
            say(f"did {plan['ID']} before: sends its result again")
            return result
    say(f"carries out {plan['ID']}")
    time.sleep(0.2)
    result = {
        "FormatVersion": "2.0.0",
        "ID": f"{plan['ID']}-result",
        "SourceID": plan["ID"],
        "Action": "Execution:Result",
        "ErrorCode": 0,
        "Body": plan["Body"].removeprefix("return ").strip("'"),
        "Time": str(datetime.now()),
    }
    # The deed and the memory of it are one write, so that no end of this process comes between them.
    with journal.open("a") as file:
        file.write(json.dumps(result) + "\n")
    return result


def work(client: MqClient, queue: str, host: str, journal: pathlib.Path) -> None:
    with client.open(queue, prefetch_count=1) as subscription:
        say(f"takes plans from {queue}")
        while True:
            message = subscription.get_message()
            plan = json.loads(message.body)
            answer = Message()
            answer.id = plan["ID"]
            answer.body = {**execute(plan, journal), "Host": host}
            client.send(message=answer, key=plan["ReplyTo"])
            message.ack()


def main(broker: str, run: str, host: str, journal: pathlib.Path) -> None:
    journal.touch()
    while True:
        with MqClient.from_url(broker) as client:
            try:
                work(client, f"e{run}-h{host}", host, journal)
            except mm.NotFoundError:
                # Nobody sent a plan yet, or those that were sent expired.
                time.sleep(0.2)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], pathlib.Path(sys.argv[4]))
