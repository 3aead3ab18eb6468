"""The three generations of Murano's messaging wrapper, and clients of them for a broker's URI."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

PACKAGES = {
    "2014": "muranocommon.messaging",
    "engine": "murano_messaging.compat.murano_engine",
    "agent": "murano_messaging.compat.murano_agent",
}


def login(uri: str) -> tuple[str, str, str, int, str]:
    """The first five arguments of every constructor."""
    parts = urlsplit(uri)
    assert parts.username and parts.password and parts.hostname and parts.port
    return parts.username, parts.password, parts.hostname, parts.port, parts.path[1:] or "/"


class Generation:
    """One of them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.package: ModuleType = importlib.import_module(PACKAGES[name])

    def client(self, uri: str, **options: Any) -> Any:
        return self.package.MqClient(*login(uri), **options)

    def message(self, body: Any = None, message_id: Any = None) -> Any:
        message = self.package.Message()
        message.body = body
        message.id = message_id
        return message

    def read(self, body: Any) -> Any:
        """What was sent, from the ``body`` of a received message: the agent gets the text."""
        import json

        return json.loads(body) if self.name == "agent" else body
