"""What a scenario works with, and how it shows what it saw: runs with Puka itself and with ours.

``python scenario.py URI MODULE [NAME ...]`` prints a JSON object: the observations of each scenario of the module.
"""

from __future__ import annotations

import datetime
import decimal
import importlib
import json
import sys
import time
import traceback
import uuid

import puka


class Scenario:
    """Clients, names that nobody else has, and the observations."""

    def __init__(self, uri):
        self.uri = uri
        self.seen = []
        self.names = {}
        self.clients = []

    def name(self, what):
        """A name; in the observations it is ``<what>``."""
        name = f"puka-{what}-{uuid.uuid4().hex}"
        self.names[name] = f"<{what}>"
        return name

    def client(self, **options):
        """A client that is connected."""
        client = puka.Client(self.uri, **options)
        self.clients.append(client)
        client.wait(client.connect())
        return client

    def queue(self, client, what="queue", **options):
        """A queue that the end of its client deletes."""
        name = self.name(what)
        client.wait(client.queue_declare(name, exclusive=True, **options))
        return name

    def note(self, what, value):
        self.seen.append([what, self.show(value)])

    def attempt(self, what, function, *arguments, **options):
        """Note what the call returns or raises."""
        try:
            value = function(*arguments, **options)
        except Exception as error:
            self.note(what, error)
            return None
        self.note(what, value)
        return value

    def eventually(self, condition, timeout=20):
        deadline = time.time() + timeout
        while not condition():
            assert time.time() < deadline, f"not within {timeout} s"
            time.sleep(0.01)

    def close(self):
        for client in self.clients:
            try:
                client.wait(client.close(), timeout=10)
            except Exception:
                pass

    def text(self, text):
        for name, shown in self.names.items():
            text = text.replace(name, shown)
        return text

    def show(self, value):
        """The value as JSON, without what differs from run to run."""
        if isinstance(value, dict):
            fields = {self.text(str(key)): self.show(item) for key, item in value.items() if key not in VARYING}
            if not hasattr(value, "is_error"):
                return fields
            frame = {"frame": getattr(value, "name", None), "fields": fields}
            frame["method_id"] = getattr(value, "method_id", None)
            frame["has_content"] = value.has_content
            if value.is_error:
                frame["exception"] = self.show(value.exception)
            return frame
        if isinstance(value, BaseException):
            shown = {"raised": type(value).__name__, "bases": bases(value)}
            if value.args and hasattr(value.args[0], "is_error"):
                shown["frame"] = value.args[0].__class__.__name__
                shown["fields"] = {key: self.show(item) for key, item in value.args[0].items() if key not in VARYING}
            if hasattr(value, "reply_code"):
                shown["reply_code"] = value.reply_code
            return shown
        if isinstance(value, (list, tuple)):
            return [self.show(item) for item in value]
        if isinstance(value, bytes):
            return {"bytes": value.hex()}
        if isinstance(value, datetime.datetime):
            return {"datetime": value.isoformat()}
        if isinstance(value, decimal.Decimal):
            return {"decimal": str(value)}
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, (bool, int, float)):
            return value
        return repr(type(value))


# Numbers that depend on what the client did before, and the header that Puka adds to what it publishes.
VARYING = {"promise_number", "consumer_tag", "x-puka-delivery-tag"}


def bases(error):
    """The classes that programs catch it by."""
    known = [puka.AMQPSoftError, puka.AMQPHardError, puka.AMQPError, OSError, KeyError, AssertionError]
    return [base.__name__ for base in known if isinstance(error, base)]


def main(uri, module, *names):
    scenarios = importlib.import_module(module)
    names = names or sorted(name for name in vars(scenarios) if name.startswith("s_"))
    results = {}
    for name in names:
        scenario = Scenario(uri)
        try:
            getattr(scenarios, name)(scenario)
            results[name] = scenario.seen
        except Exception:
            results[name] = [*scenario.seen, ["failed", traceback.format_exc()]]
        scenario.close()
    json.dump({"puka": puka.__file__, "results": results}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
