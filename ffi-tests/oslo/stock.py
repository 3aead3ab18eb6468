"""Either driver in this process, by the scheme of the URL, rabbit or murano.

Servers, clients, notifiers and listeners, with a configuration of their own each.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterable
from typing import Any

with warnings.catch_warnings():
    # oslo.service imports eventlet, which says that it is deprecated.
    warnings.simplefilter("ignore")
    import oslo_messaging
    from oslo_messaging._metrics import client as metrics
    from oslo_messaging._tracing import client as tracing

from oslo_config import cfg

LONG = 30


def transport(
    url: str | None,
    rpc: bool = True,
    exmods: Iterable[str] = (),
    exchange: str = "openstack",
    conf: Any = None,
    **options: Any,
) -> Any:
    """A transport; options are those of the drivers. ``conf``: a configuration that says where and which exchange."""
    of_a_file = conf is not None
    if not of_a_file:
        conf = cfg.ConfigOpts()
        conf([], project="test", default_config_files=[])
    # What oslo.messaging registers for the process's own configuration only.
    conf.register_opts(metrics.oslo_messaging_metrics, group="oslo_messaging_metrics")
    conf.register_opts(tracing.oslo_messaging_tracing, group="oslo_messaging_tracing")
    make = oslo_messaging.get_rpc_transport if rpc else oslo_messaging.get_notification_transport
    made = make(conf, url=url, allowed_remote_exmods=list(exmods))
    if not of_a_file:
        conf.set_override("control_exchange", exchange)
        made._driver._default_exchange = exchange
    for name, value in options.items():
        conf.set_override(name, value, group=group_of(conf, name))
    return made


def group_of(conf: Any, name: str) -> str | None:
    """The group of an option."""
    for group in ("oslo_messaging_rabbit", "oslo_messaging_murano"):
        if group in conf and name in conf[group]:
            return group
    return None


def until(condition: Any, seconds: float = LONG) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


class Endpoint:
    """The methods that the peer in Rust has too."""

    target = oslo_messaging.Target(version="1.2")

    def __init__(self) -> None:
        self.told: list[Any] = []

    def add(self, ctxt: dict[str, Any], a: int, b: int) -> int:
        return a + b

    def echo(self, ctxt: dict[str, Any], **args: Any) -> dict[str, Any]:
        context = {key: value for key, value in ctxt.items() if key != "client_timeout"}
        return {"args": args, "context": context}

    def refuse(self, ctxt: dict[str, Any]) -> None:
        raise ValueError("no such value", 7)

    def slow(self, ctxt: dict[str, Any], seconds: float) -> str:
        time.sleep(seconds)
        return "done"

    def tell(self, ctxt: dict[str, Any], **args: Any) -> None:
        self.told.append(args)


class Server:
    """A server that runs."""

    def __init__(self, made: Any, topic: str, name: str, endpoint: Any = None, pool: int | None = None) -> None:
        self.endpoint = endpoint or Endpoint()
        self.transport = made
        self._server = oslo_messaging.get_rpc_server(
            made, oslo_messaging.Target(topic=topic, server=name), [self.endpoint], executor="threading"
        )
        if pool is not None:
            made.conf.set_override("executor_thread_pool_size", pool)
        self._server.start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self._server.wait()
        self.transport.cleanup()


def client(made: Any, topic: str, **target: Any) -> Any:
    return oslo_messaging.get_rpc_client(made, oslo_messaging.Target(topic=topic, **target), timeout=LONG)


class Listener:
    """A listener to every priority, which collects."""

    def __init__(self, made: Any, topic: str, pool: str | None = None) -> None:
        self.heard: list[tuple[str, str, str, Any]] = []
        self.arrived = threading.Event()
        self.transport = made
        self._server = oslo_messaging.get_notification_listener(
            made, [oslo_messaging.Target(topic=topic)], [self], executor="threading", pool=pool
        )
        self._server.start()

    def info(self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any) -> None:
        self.heard.append(("info", publisher_id, event_type, payload))
        self.arrived.set()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self._server.wait()
        self.transport.cleanup()
