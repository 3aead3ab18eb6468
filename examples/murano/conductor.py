"""A miniature of Murano's conductor, written as in 2014: eventlet, and ``muranocommon``'s messaging.

conductor.py BROKER RUN NAME
"""

from __future__ import annotations

import eventlet

eventlet.monkey_patch()

import sys  # noqa: E402
import time  # noqa: E402

from muranocommon.messaging import Message, MqClient  # noqa: E402

# Milliseconds: so long a plan waits for its agent.
AGENT_QUEUE_TTL = 5000
# Seconds; after that plans without a result are sent again, for they may have expired. Agents know them by their ids.
PATIENCE = 3


def say(text: str) -> None:
    print(text, flush=True)


def is_task(body: object) -> bool:
    return (
        isinstance(body, dict)
        and all(isinstance(body.get(key), str) for key in ("ID", "Environment", "ReplyTo"))
        and isinstance(body.get("Hosts"), list)
        # Nobody could be told otherwise.
        and 0 < len(body["ReplyTo"].encode()) <= 255
    )


class Conductor:
    """Takes tasks, and works on several at once."""

    def __init__(self, broker: str, run: str) -> None:
        self.broker = broker
        self.run = run

    def client(self) -> MqClient:
        return MqClient.from_url(self.broker)

    def listen(self) -> None:
        listener = eventlet.getcurrent()
        with self.client() as client:
            client.declare(f"{self.run}-tasks", ttl=600000)
            with client.open(f"{self.run}-tasks", prefetch_count=2) as subscription:
                while True:
                    eventlet.spawn(self.work, subscription.get_message(), listener)

    def work(self, message: Message, listener: eventlet.greenlet.greenlet) -> None:
        """Settle ``message``, whatever comes of it: unacked ones count in ``prefetch_count``, and two would be all."""
        try:
            self.attempt(message.body)
            # Until here the broker gives the task to another conductor if this one dies.
            message.ack()
        except Exception:
            # Not even a failure can be reported: this conductor ends, and the broker gives its tasks to another one.
            eventlet.kill(listener, *sys.exc_info())

    def attempt(self, task: object) -> None:
        if not is_task(task):
            # The wrapper of 2014 cannot reject: an ack takes it out of the queue too.
            say(f"drops what is no task: {task!r:.60}")
            return
        try:
            self.deploy(task)
        except Exception as error:
            say(f"could not do {task['ID']}: {error}")
            self.report(task, "failure", Kind="failure", Text=str(error))

    def send(self, body: dict, id: str, queue: str) -> None:
        message = Message()
        message.id = id
        message.body = body
        # A client for each message, as Murano's components do it.
        with self.client() as client:
            client.send(message=message, key=queue)

    def deploy(self, task: dict) -> None:
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
