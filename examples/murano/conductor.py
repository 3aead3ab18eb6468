"""Murano's conductor in small, written as in 2014: eventlet, and ``muranocommon``'s messaging.

conductor.py BROKER RUN NAME
"""

from __future__ import annotations

import eventlet

eventlet.monkey_patch()

import sys  # noqa: E402
import time  # noqa: E402
from urllib.parse import urlsplit  # noqa: E402

from muranocommon.messaging import Message, MqClient  # noqa: E402

# Milliseconds: so long a plan waits for its agent.
AGENT_QUEUE_TTL = 5000
# Seconds; after that plans without a result are sent again, for they may have expired. Agents know them by their ids.
PATIENCE = 3


def say(text: str) -> None:
    print(text, flush=True)


class Conductor:
    """Takes tasks, and works on several at once."""

    def __init__(self, broker: str, run: str) -> None:
        parts = urlsplit(broker)
        self.login = (parts.username or "guest", parts.password or "guest", parts.hostname, parts.port or 5672)
        self.virtual_host = parts.path[1:] or "/"
        self.run = run

    def client(self) -> MqClient:
        return MqClient(*self.login, self.virtual_host)

    def listen(self) -> None:
        with self.client() as client:
            client.declare(f"{self.run}-tasks", ttl=600000)
            with client.open(f"{self.run}-tasks", prefetch_count=2) as subscription:
                while True:
                    eventlet.spawn(self.deploy, subscription.get_message())

    def send(self, body: dict, id: str, queue: str) -> None:
        message = Message()
        message.id = id
        message.body = body
        # A client for each message, as Murano's components do it.
        with self.client() as client:
            client.send(message=message, key=queue)

    def deploy(self, message: Message) -> None:
        task = message.body
        results_queue = f"-execution-results-{task['ID']}-{self.run}"
        self.report(task, "started", Kind="progress", Text="started")
        results: dict[str, str] = {}
        with self.client() as client:
            client.declare(results_queue, ttl=60000)
            with client.open(results_queue) as subscription:
                while len(results) < len(task["Hosts"]):
                    self.send_plans(client, task, results_queue, results)
                    while len(results) < len(task["Hosts"]):
                        received = subscription.get_message(timeout=PATIENCE)
                        if received is None:
                            break
                        result = received.body
                        received.ack()
                        if result["Host"] not in results:
                            results[result["Host"]] = result["Body"]
                            self.report(task, result["Host"], Kind="progress", Text=f"{result['Host']} is ready")
        self.report(task, "result", Kind="result", Results=results)
        # Until here the broker gives the task to another conductor if this one dies.
        message.ack()

    def send_plans(self, client: MqClient, task: dict, results_queue: str, results: dict) -> None:
        for host in task["Hosts"]:
            if host in results:
                continue
            plan = {
                "FormatVersion": "2.0.0",
                # The same whoever sends it, so that the agent sees that it did it already.
                "ID": f"{task['ID']}-{host}",
                "Action": "Execute",
                "Name": f"Deploy {task['ID']}",
                "Body": f"return 'deployed {task['ID']}'",
                "Parameters": {},
                "Scripts": {},
                "Files": {},
                "Stamp": int(time.time() * 10000),
                "ReplyTo": results_queue,
            }
            queue = f"e{task['Environment']}-h{host}"
            client.declare(queue, enable_ha=True, ttl=AGENT_QUEUE_TTL)
            self.send(plan, plan["ID"], queue)
        say(f"sent the plans of {task['ID']}")

    def report(self, task: dict, what: str, **report: object) -> None:
        self.send({"TaskID": task["ID"], **report}, f"{task['ID']}/{what}", task["ReplyTo"])


if __name__ == "__main__":
    Conductor(sys.argv[1], sys.argv[2]).listen()
