"""The core's events in Python's logging."""

from __future__ import annotations

import logging
import time

import pytest

import children
import murano_messaging as mm
from proxy import Proxy


def eventually(condition) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.01)


def test_records_have_the_names_and_levels_of_the_core(uri, caplog):
    with caplog.at_level(logging.DEBUG, "murano_messaging"), mm.connect(uri) as client:
        eventually(lambda: any("connected" in record.getMessage() for record in caplog.records))
    assert client.closed
    (connected,) = [record for record in caplog.records if record.getMessage().startswith("connected")]
    assert connected.name.startswith("murano_messaging.")
    assert connected.levelno == logging.INFO
    assert "role=main" in connected.getMessage()
    assert "guest" not in connected.getMessage()


@pytest.mark.parametrize(("level", "heard"), [("DEBUG", True), ("INFO", True), ("WARNING", False)])
def test_levels_are_honoured_also_when_they_change_later(uri, caplog, level, heard):
    def said(text):
        return any(record.getMessage().startswith(text) for record in caplog.records)

    proxy = Proxy(uri)
    with mm.connect(uri), caplog.at_level(level, "murano_messaging"):
        caplog.clear()
        with mm.connect(proxy.uri):
            # A warning, which is handed over behind the records of the connect.
            proxy.cut()
            eventually(lambda: said("connection lost"))
        assert said("connected") == heard
    proxy.close()


def test_the_last_records_are_not_lost(uri):
    out = children.run(
        """
        import logging, sys
        import murano_messaging as mm

        logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="%(name)s %(levelname)s %(message)s")
        client = mm.connect(sys.argv[1])
        """,
        uri,
    )
    assert out.splitlines()[-1] == "murano_messaging.events DEBUG closed role=main"


def test_without_configuration_nothing_is_printed(uri):
    """Not even warnings, which Python would print for a library without a handler."""
    children.run(
        """
        import sys, time
        import murano_messaging as mm
        from proxy import Proxy

        proxy = Proxy(sys.argv[1])
        client = mm.connect(proxy.uri)
        events = client.events()
        proxy.cut()
        while not isinstance(events.get(timeout=30), mm.events.Recovered):
            pass
        """,
        uri,
    )


def test_a_handler_that_fails_does_not_end_the_logging(uri):
    out = children.run(
        """
        import logging, sys, time
        import murano_messaging as mm

        seen = []

        class Handler(logging.Handler):
            def emit(self, record):
                seen.append(record)
                raise ZeroDivisionError

        logging.getLogger("murano_messaging").addHandler(Handler())
        logging.getLogger("murano_messaging").setLevel(logging.DEBUG)
        sys.stderr = open("/dev/null", "w")
        for _ in range(3):
            mm.connect(sys.argv[1]).close()
        until = time.monotonic() + 30
        while len(seen) < 9 and time.monotonic() < until:
            time.sleep(0.01)
        print(len(seen))
        """,
        uri,
    )
    assert int(out) >= 9


def test_what_nobody_wants_is_not_handed_to_python(uri):
    out = children.run(
        """
        import logging, sys, threading, time
        import murano_messaging as mm
        from murano_messaging import _service
        from proxy import Proxy

        handed = []
        log = _service._log
        _service._log = lambda *record: (handed.append(record), log(*record))
        began = time.monotonic()
        for _ in range(50):
            mm.connect(sys.argv[1]).close()
        # One each second, to see whether the levels have changed.
        print(len(handed) <= 2 * (time.monotonic() - began) + 2)

        # That they have is noticed without a connect, too.
        proxy = Proxy(sys.argv[1])
        client = mm.connect(proxy.uri)
        events = client.events()
        heard = threading.Event()
        handler = logging.Handler()
        handler.emit = lambda record: heard.set() if record.levelno == logging.DEBUG else None
        logger = logging.getLogger("murano_messaging.events")
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        until = time.monotonic() + 30
        while not heard.is_set() and time.monotonic() < until:
            proxy.cut()
            while not isinstance(events.get(timeout=30), mm.events.Recovered):
                pass
        print(heard.is_set())
        """,
        uri,
    )
    assert out == "True\nTrue\n"
