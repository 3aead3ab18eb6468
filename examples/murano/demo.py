"""A miniature Murano: two APIs, two conductors and the agents of two hosts, each a process.

Plans are sent before the agents exist. An agent is killed while it carries out a plan, and a conductor after it has
used up a result that only it knows. Each API still sees each of its tasks done once, and each plan is carried out once:
the demo counts both itself. `make demo` runs it on the embedded broker, `make demo BROKER=amqp://...` on a RabbitMQ.

demo.py [--broker URI] [--conductor PROGRAM]
"""

from __future__ import annotations

import argparse
import json
import pathlib
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter

import murano_messaging as mm

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = [sys.executable, "-W", "ignore"]
# Its children end with this process, however it ends, and Ctrl-C is for this process alone.
CHILD = ["setpriv", "--pdeathsig", "KILL"]
TASKS = 3
APIS = ["A", "B"]
HOSTS = ["web-0", "web-1"]
# Far longer than anything here takes.
PATIENCE = 90


class DemoError(Exception):
    """The demo did not show what it should; the text says what."""


def check(condition: object, text: str) -> None:
    if not condition:
        raise DemoError(text)


class Demo:
    """The processes, and the timeline of what they say."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.lines: queue.Queue[tuple[str, str | None]] = queue.Queue()
        self.processes: dict[str, subprocess.Popen] = {}
        self.said: list[tuple[str, str]] = []
        self.ended: set[str] = set()

    def show(self, who: str, text: str) -> None:
        print(f"{time.monotonic() - self.started:6.2f} s  {who:<12} {text}", flush=True)

    def note(self, text: str) -> None:
        self.show("", f"--- {text}")

    def start(self, who: str, *command: object) -> None:
        process = subprocess.Popen(
            [*CHILD, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.processes[who] = process

        def read() -> None:
            assert process.stdout is not None
            with process.stdout as lines:
                for line in lines:
                    self.lines.put((who, line.rstrip("\n")))
            self.lines.put((who, None))

        threading.Thread(target=read, daemon=True).start()

    def hear(self, seconds: float) -> None:
        """Show what somebody says next, if anybody says anything within ``seconds``."""
        check(time.monotonic() < self.started + PATIENCE, f"it should be over after {PATIENCE} s")
        try:
            who, text = self.lines.get(timeout=max(seconds, 0))
        except queue.Empty:
            return
        if text is not None:
            self.show(who, text)
            self.said.append((who, text))
        elif who in self.processes:
            code = self.processes.pop(who).wait()
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            raise DemoError(f"{who} ended {how}, and should not have ended")
        else:
            self.ended.add(who)

    def until(self, who: str, pattern: str) -> re.Match[str]:
        """Go on until ``who`` has said what matches."""
        looked_at = 0
        while True:
            for speaker, text in self.said[looked_at:]:
                found = re.search(pattern, text)
                if speaker == who and found:
                    return found
            looked_at = len(self.said)
            self.hear(1)

    def pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.hear(end - time.monotonic())

    def kill(self, who: str) -> None:
        # From here on it is meant to end.
        process = self.processes.pop(who)
        process.kill()
        process.wait()
        # What it said before comes first.
        while who not in self.ended:
            self.hear(1)
        self.ended.remove(who)

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()


def gone(client: mm.Client, name: str) -> bool:
    try:
        client.queue_info(name)
    except mm.NotFoundError:
        return True
    return False


def lines(journal: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in journal.read_text().splitlines()]


def judge(folder: pathlib.Path, taken_over: str) -> tuple[int, int]:
    """Count from the journals what was done. Return how many plans were carried out, and how many reports repeated."""
    carried_out: Counter[str] = Counter()
    for host in HOSTS:
        carried_out.update(result["SourceID"] for result in lines(folder / host))
    tasks = {api: [f"{api}-{n}" for n in range(1, TASKS + 1)] for api in APIS}
    plans = [f"{task}-{host}" for api in APIS for task in tasks[api] for host in HOSTS]
    check(carried_out == Counter(plans), f"plans were not carried out once each: {dict(carried_out)}")

    repeats: Counter[str] = Counter()
    for api in APIS:
        seen = set()
        finished = []
        for report in lines(folder / f"api-{api}"):
            taken_for_repeat, _ = report.pop("repeat"), report.pop("id")
            # By what they say, and not by the ids that the API goes by.
            text = json.dumps(report, sort_keys=True)
            check(taken_for_repeat or text not in seen, f"api {api} did not see that this came before: {text}")
            check(not taken_for_repeat or text in seen, f"api {api} took this for something that came before: {text}")
            seen.add(text)
            if taken_for_repeat:
                repeats[report["TaskID"]] += 1
            elif report["Kind"] == "result":
                check(sorted(report["Results"]) == HOSTS, f"results of other hosts: {text}")
                finished.append(report["TaskID"])
        check(sorted(finished) == tasks[api], f"api {api} does not see each of its tasks done once: {finished}")
    check(repeats[taken_over], f"nobody reported again of {taken_over}, whose conductor was killed")
    return len(plans), sum(repeats.values())


def deployment(demo: Demo, broker: str, conductor: list[str], folder: pathlib.Path) -> None:
    run = f"demo-{uuid.uuid4().hex[:8]}"

    def start_agent(host: str) -> None:
        demo.start(f"agent {host}", *PYTHON, HERE / "agent.py", broker, run, host, folder / host)

    for api in APIS:
        demo.start(f"api {api}", *PYTHON, HERE / "api.py", broker, run, api, TASKS, folder / f"api-{api}")
    for name in ("1", "2"):
        demo.start(f"conductor {name}", *conductor, broker, run, name)
    task = demo.until("conductor 1", r"sent the plans of (\S+)")[1]
    demo.until("conductor 2", "sent the plans")
    demo.note("no agent exists so far: the plans wait in queues that go away when nobody uses them")

    start_agent("web-0")
    plan = demo.until("agent web-0", r"carries out (\S+)")[1]
    demo.kill("agent web-0")
    demo.note(f"agent web-0 was killed while it carried out {plan}; another one is started in its place")
    start_agent("web-0")

    # Nothing is done before there is an agent web-1: the conductor is killed in the middle of the task.
    demo.until(f"api {task[0]}", f"is told of {task}: web-0 is ready")
    demo.kill("conductor 1")
    demo.note(f"conductor 1 was killed: of {task} it had acked web-0's result and not yet the task itself;")
    demo.note("the broker gives its tasks to conductor 2, which has to find out again")
    start_agent("web-1")

    for api in APIS:
        demo.until(f"api {api}", "has all its")
    for host in HOSTS:
        demo.kill(f"agent {host}")
    demo.note("all is done, and the agents are ended; their queues go away when nobody has used them for 5 s")
    with mm.connect(broker) as client:
        # Looking at a queue counts as using it, so they are looked at less often than they expire.
        demo.pause(6)
        while not all(gone(client, f"e{run}-h{host}") for host in HOSTS):
            demo.pause(6)
        demo.note("the agents' queues are gone")
        # The APIs have listened until now: nothing comes late any more.
        demo.kill("conductor 2")
        for api in APIS:
            demo.kill(f"api {api}")
        queues = [f"{run}-tasks", *(f"{run}-api-{api}" for api in APIS)]
        queues += [f"-execution-results-{api}-{n}-{run}" for api in APIS for n in range(1, TASKS + 1)]
        for name in queues:
            client.delete_queue(name)
    plans, repeats = judge(folder, task)
    demo.note(f"{plans} plans were carried out, each once")
    demo.note(f"{repeats} reports came a second time, because of the kills, and the APIs knew each for what it was")
    demo.note(f"all {len(APIS) * TASKS} tasks are done, each exactly once as its API sees it")


def run(demo: Demo, broker: str | None, conductor: str | None) -> None:
    if broker:
        mm.connect(broker).close()
    else:
        demo.start("broker", *PYTHON, "-m", "murano_messaging", "broker")
        broker = demo.until("broker", r"amqp://\S+")[0]
        demo.note("on the embedded broker: it keeps nothing on disk; BROKER=amqp://... takes a RabbitMQ")
    demo.note(f"the conductors are written in {'Rust' if conductor else 'Python'}")
    demo.note("an API sends a task to the conductors, one of which sends a plan for it to the agent of each host,")
    demo.note("collects their results, and reports each step to the API")
    command = [conductor] if conductor else [*PYTHON, str(HERE / "conductor.py")]
    with tempfile.TemporaryDirectory() as folder:
        deployment(demo, broker, command, pathlib.Path(folder))


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the demo.")
    parser.add_argument("--broker", help="the URI of a RabbitMQ (default: the embedded broker, on a port of its own)")
    parser.add_argument("--conductor", help="a program to take the place of conductor.py")
    arguments = parser.parse_args()
    if (arguments.broker or "").startswith("memory:"):
        print("demo: a memory:// broker is inside one process, and these are several: leave it out", file=sys.stderr)
        return 2
    demo = Demo()
    try:
        run(demo, arguments.broker, arguments.conductor)
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    except mm.InvalidArgumentError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except (DemoError, mm.MessagingError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        demo.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
