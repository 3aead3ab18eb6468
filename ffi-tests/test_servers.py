"""Servers that fork workers: a client that was made before the fork is an error in them, and one of their own works."""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import re
import signal
import subprocess
import textwrap
import time
import urllib.request

import pytest

import brokers
import murano_messaging as mm

SERVERS = brokers.ROOT / ".venv-servers" / "bin"

APPLICATION = """
    import json, logging, os
    import murano_messaging as mm

    uri, queue = os.environ["TEST_URI"], os.environ["TEST_QUEUE"]
    importer = os.getpid()
    mm.connect(uri).close()
    inherited = mm.connect(uri)
    inherited.declare_queue(queue, expires=60)
    inherited.publish(b"import", routing_key=queue)
    consumer = inherited.consume(queue)
    own = None

    def named(call):
        try:
            return repr(call())
        except Exception as error:
            return type(error).__name__

    def application(environ, start_response):
        global own
        if own is None:
            own = mm.connect(uri, connect_timeout=30, credentials=lambda: ("guest", "guest"))
        own.publish(b"worker", routing_key=queue)
        seen = {
            "forked": os.getpid() != importer,
            "publish": named(lambda: inherited.publish(b"x", routing_key=queue, timeout=3)),
            "get": named(lambda: consumer.get(timeout=3)),
            "close": named(inherited.close),
        }
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(seen).encode()]
"""

INHERITED = {"forked": True, "publish": "ForkedError", "get": "ForkedError", "close": "ForkedError"}


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    if not (SERVERS / "uwsgi").exists() or not (SERVERS / "gunicorn").exists():
        pytest.fail("uWSGI and gunicorn are not here: `scripts/python.sh servers` installs them (it needs a C compiler)")
    (tmp_path / "application.py").write_text(textwrap.dedent(APPLICATION))
    return tmp_path


class Server:
    """A server, on a port that it has chosen itself."""

    def __init__(self, folder: pathlib.Path, uri: str, queue: str, port: str, *command: str) -> None:
        """Start ``command``; ``port`` is what it says before its port."""
        environment = {**os.environ, "TEST_URI": uri, "TEST_QUEUE": queue, "PYTHONUNBUFFERED": "1"}
        self.log = folder / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        until = time.monotonic() + 60
        while not (found := re.search(port + r"(\d+)", self.log.read_text())):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{found[1]}/"

    def get(self) -> dict[str, object]:
        with urllib.request.urlopen(self.url, timeout=60) as answer:
            seen: dict[str, object] = json.load(answer)
            return seen

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"it did not end:\n{self.log.read_text()}") from None


def check(server: Server, uri: str, queue: str, requests: int) -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(lambda _: server.get(), range(requests)))
    assert seen == [INHERITED] * requests, server.log.read_text()
    server.stop()
    with mm.connect(uri) as client:
        # Workers publish nothing for their parent, and the parent's own message is there again.
        bodies = []
        while (delivery := client.get(queue, no_ack=True)) is not None:
            bodies.append(delivery.body)
        client.delete_queue(queue)
    assert sorted(bodies) == [b"import"] + [b"worker"] * requests


UWSGI = {
    "processes": [],
    "threads enabled": ["--enable-threads"],
    "threads": ["--enable-threads", "--threads", "2"],
}


@pytest.mark.parametrize("options", UWSGI.values(), ids=UWSGI)
def test_workers_of_uwsgi(folder, uri, queue, options):
    command = [
        *(str(SERVERS / "uwsgi"), "--http-socket", "127.0.0.1:0", "--master", "--processes", "2", "--need-app"),
        *("--pythonpath", str(brokers.ROOT / "python"), "--module", "application", *options),
    ]
    server = Server(folder, uri, queue, r"bound to TCP address 127\.0\.0\.1:", *command)
    check(server, uri, queue, 20)


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_workers_of_gunicorn_whose_application_is_preloaded(folder, uri, queue, kind):
    environment = f"PYTHONPATH={brokers.ROOT / 'python'}"
    command = ["env", environment, str(SERVERS / "gunicorn"), "--preload", "--workers", "2", "--worker-class", kind]
    if kind == "gevent":
        # Half of these workers do not end when they are told to, with an application that imports nothing either:
        # gunicorn then kills them, by itself after 30 s.
        command += ["--graceful-timeout", "3"]
    command += ["--bind", "127.0.0.1:0", "application:application"]
    server = Server(folder, uri, queue, r"Listening at: http://127\.0\.0\.1:", *command)
    check(server, uri, queue, 20)


CELERY = """
    import os
    from celery import Celery
    import murano_messaging as mm

    uri, queue = os.environ["TEST_URI"], os.environ["TEST_QUEUE"]
    importer = os.getpid()
    inherited = mm.connect(uri)
    inherited.declare_queue(queue, expires=60)
    own = None

    app = Celery("tasks", broker=uri)
    app.conf.task_default_queue = queue + "-celery"
    app.conf.task_ignore_result = True

    @app.task
    def work(number):
        global own
        if own is None:
            own = mm.connect(uri)
        try:
            seen = repr(inherited.stats())
        except Exception as error:
            seen = type(error).__name__
        own.publish({"number": number, "forked": os.getpid() != importer, "inherited": seen}, routing_key=queue)
"""


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_workers_of_celery(folder, uri, queue, pool):
    """Tasks make a client of their own at first use, beside Celery's own; gevent's pool is one process."""
    (folder / "tasks.py").write_text(textwrap.dedent(CELERY))
    environment = {
        **os.environ,
        "TEST_URI": uri,
        "TEST_QUEUE": queue,
        "PYTHONPATH": str(brokers.ROOT / "python"),
        # It may run as root in here.
        "C_FORCE_ROOT": "1",
        "PYTHONWARNINGS": "ignore",
    }
    command = [SERVERS / "celery", "-A", "tasks", "worker", "--pool", pool, "--concurrency", "2"]
    command += ["--without-gossip", "--without-mingle"]
    with (
        (folder / "celery.log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log) as worker,
    ):
        try:
            sender = "import tasks\nfor number in range(10): tasks.work.delay(number)\ntasks.inherited.close()"
            subprocess.run([SERVERS / "python", "-c", sender], cwd=folder, env=environment, check=True, timeout=60)
            seen = []
            with mm.connect(uri) as client:
                client.declare_queue(queue, expires=60)
                with client.consume(queue) as results:
                    while len(seen) < 10:
                        result = results.get(timeout=60)
                        assert result is not None, (folder / "celery.log").read_text()
                        seen.append(result.json())
                        result.ack()
                client.delete_queue(queue + "-celery")
        finally:
            worker.send_signal(signal.SIGTERM)
            try:
                worker.wait(30)
            except subprocess.TimeoutExpired:
                worker.kill()
                raise
    assert sorted(result["number"] for result in seen) == list(range(10))
    forked = pool == "prefork"
    assert all(result["forked"] == forked for result in seen), seen
    assert all((result["inherited"] == "ForkedError") == forked for result in seen), seen
