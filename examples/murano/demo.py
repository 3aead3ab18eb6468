"""What this library is for, in small: two APIs, two conductors and the agents of two hosts, each a process.

Plans are sent before the agents exist. One conductor and one agent are killed in the middle, and each API still sees
each of its tasks done once. `make demo` runs it on the embedded broker, `make demo BROKER=amqp://...` on a RabbitMQ.

demo.py [--broker URI] [--conductor PROGRAM]
"""

from __future__ import annotations

import argparse
import pathlib
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid

import murano_messaging as mm

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = [sys.executable, "-W", "ignore"]
TASKS = 3
HOSTS = ["web-0", "web-1"]
# Far longer than anything here takes.
PATIENCE = 90


class Demo:
    """The processes, and the timeline of what they say."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.lines: queue.Queue[tuple[str, str]] = queue.Queue()
        self.processes: dict[str, subprocess.Popen] = {}
        self.satisfied: set[str] = set()

    def say(self, who: str, text: str) -> None:
        print(f"{time.monotonic() - self.started:6.2f} s  {who:<12} {text}", flush=True)

    def start(self, who: str, *command: object) -> None:
        process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
        self.processes[who] = process

        def read() -> None:
            assert process.stdout is not None
            with process.stdout as lines:
                for line in lines:
                    self.lines.put((who, line.rstrip("\n")))
            self.lines.put((who, f"ended: {process.wait()}"))

        threading.Thread(target=read, daemon=True).start()

    def next(self) -> tuple[str, str]:
        """The next thing that somebody says; it is shown."""
        try:
            who, text = self.lines.get(timeout=max(0.1, self.started + PATIENCE - time.monotonic()))
        except queue.Empty:
            sys.exit("nothing happens any more")
        if text not in ("ended: 0", f"ended: {-signal.SIGKILL}"):
            self.say(who, text)
            if text.startswith("ended: "):
                sys.exit("which it should not")
        if text.startswith("has all"):
            self.satisfied.add(who)
        return who, text

    def until(self, who: str, begin: str) -> None:
        """Go on until ``who`` says what begins like this."""
        while True:
            name, text = self.next()
            if name == who and text.startswith(begin):
                return

    def kill(self, who: str) -> None:
        process = self.processes.pop(who)
        process.send_signal(signal.SIGKILL)
        # What it said before comes first.
        self.until(who, "ended")
        self.say(who, "--- killed")

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


def gone(client: mm.Client, name: str) -> bool:
    try:
        client.queue_info(name)
    except mm.NotFoundError:
        return True
    return False


def deployment(demo: Demo, broker: str, conductor: list[str], folder: pathlib.Path) -> None:
    run = f"demo-{uuid.uuid4().hex[:8]}"

    def start_agent(host: str) -> None:
        demo.start(f"agent {host}", *PYTHON, HERE / "agent.py", broker, run, host, folder / host)

    for name in ("A", "B"):
        demo.start(f"api {name}", *PYTHON, HERE / "api.py", broker, run, name, TASKS)
    for name in ("1", "2"):
        demo.start(f"conductor {name}", *conductor, broker, run, name)
    demo.until("conductor 1", "sent the plans")
    demo.kill("conductor 1")
    demo.say("", "no agent exists so far; the plans wait in queues that expire by themselves")
    for host in HOSTS:
        start_agent(host)
    demo.until("agent web-0", "carries out")
    demo.kill("agent web-0")
    start_agent("web-0")

    while demo.satisfied != {"api A", "api B"}:
        demo.next()
    carried_out = {host: len(list((folder / host).glob("*.json"))) for host in HOSTS}
    assert carried_out == dict.fromkeys(HOSTS, 2 * TASKS), carried_out

    for host in HOSTS:
        demo.kill(f"agent {host}")
    with mm.connect(broker) as client:
        # Looking at a queue counts as using it.
        time.sleep(6)
        for host in HOSTS:
            while not gone(client, f"e{run}-h{host}"):
                time.sleep(6)
        demo.say("", "the agents have gone, and their queues have expired")
        demo.kill("conductor 2")
        client.delete_queue(f"{run}-tasks")
        for name in ("A", "B"):
            for n in range(1, TASKS + 1):
                client.delete_queue(f"-execution-results-{name}-{n}-{run}")
    demo.say("", f"all {2 * TASKS} tasks are done, each exactly once as its API sees it")


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the demo.")
    parser.add_argument("--broker", help="the URI of a RabbitMQ (default: the embedded broker, on a port of its own)")
    parser.add_argument("--conductor", help="a program to take the place of conductor.py")
    arguments = parser.parse_args()
    demo = Demo()
    try:
        broker = arguments.broker
        if not broker:
            demo.start("broker", *PYTHON, "-m", "murano_messaging", "broker")
            _, broker = demo.next()
            demo.say("", "on the embedded broker: it keeps nothing on disk; BROKER=amqp://... takes a RabbitMQ")
        conductor = [arguments.conductor] if arguments.conductor else [*PYTHON, str(HERE / "conductor.py")]
        demo.say("", f"the conductors are written in {'Rust' if arguments.conductor else 'Python'}")
        with tempfile.TemporaryDirectory() as folder:
            deployment(demo, broker, conductor, pathlib.Path(folder))
    finally:
        demo.end()


if __name__ == "__main__":
    main()
