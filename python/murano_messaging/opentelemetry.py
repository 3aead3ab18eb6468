"""OpenTelemetry: spans for publishes, requests and handled messages, and their context in the headers of messages.

Nothing of OpenTelemetry is imported, and nothing is traced, before :func:`instrument` is called. It needs the extra
``murano-messaging[opentelemetry]``::

    import murano_messaging.opentelemetry

    murano_messaging.opentelemetry.instrument()

From then on ``publish``, ``publish_nowait`` and ``request`` of both clients make a span of kind producer, and put its
context into the message's headers, by the propagators that OpenTelemetry is set up with: ``traceparent`` and
``tracestate`` of W3C Trace Context by default. ``delivery.process()``, and with it ``client.run()``, makes a span of kind
consumer whose parent is that of the message. Attributes are those of the semantic conventions for messaging.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, Callable, Optional

from . import _processing
from ._native import AioClient, Client

__all__ = ["instrument", "uninstrument"]

_PUBLISHES = ("publish", "publish_nowait", "request")

# What was there before, by class and name; empty where nothing is traced.
_originals: dict[tuple[Any, str], Any] = {}


def instrument(tracer_provider: Any = None) -> None:
    """Trace from now on, in the whole process, with the global tracer provider or this one. Again, it does nothing."""
    if _originals:
        return
    try:
        from opentelemetry import trace
    except ImportError as error:
        raise ImportError("tracing needs OpenTelemetry: pip install murano-messaging[opentelemetry]") from error
    from ._native import __version__

    tracer = trace.get_tracer("murano_messaging", __version__, tracer_provider)
    for owner in (Client, AioClient):
        for name in _PUBLISHES:
            _replace(owner, name, _publishing(getattr(owner, name), name, owner is AioClient, tracer))
    _replace(_processing.Processing, "__enter__", _entering(_processing.Processing.__enter__, tracer))
    _replace(_processing.Processing, "__exit__", _exiting(_processing.Processing.__exit__))


def uninstrument() -> None:
    """Trace nothing any more."""
    for (owner, name), original in _originals.items():
        if original is None:
            delattr(owner, name)
        else:
            setattr(owner, name, original)
    _originals.clear()


def _replace(owner: Any, name: str, method: Any) -> None:
    # What a base class has comes back when ours is deleted.
    _originals[owner, name] = vars(owner).get(name)
    setattr(owner, name, method)


def _destination(exchange: str, routing_key: str) -> str:
    return ":".join(part for part in (exchange, routing_key) if part) or "amq.default"


def _publishing(original: Callable[..., Any], name: str, is_aio: bool, tracer: Any) -> Callable[..., Any]:
    from opentelemetry import propagate
    from opentelemetry.trace import SpanKind

    def begin(options: dict[str, Any]) -> tuple[AbstractContextManager[Any], dict[str, Any]]:
        exchange, routing_key = options.get("exchange", ""), options.get("routing_key", "")
        destination = _destination(exchange, routing_key)
        attributes = {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": name,
            "messaging.operation.type": "send",
            "messaging.destination.name": destination,
            "messaging.rabbitmq.destination.routing_key": routing_key,
        }
        for option, attribute in (
            ("message_id", "messaging.message.id"),
            ("correlation_id", "messaging.message.conversation_id"),
        ):
            if isinstance(options.get(option), str):
                attributes[attribute] = options[option]
        span = tracer.start_as_current_span(f"{name} {destination}", kind=SpanKind.PRODUCER, attributes=attributes)
        return span, options

    def with_context(options: dict[str, Any]) -> dict[str, Any]:
        headers = dict(options.get("headers") or {})
        propagate.inject(headers)
        return {**options, "headers": headers}

    def publish(self: Any, body: Any, **options: Any) -> Any:
        span, options = begin(options)
        with span:
            return original(self, body, **with_context(options))

    async def aio_publish(self: Any, body: Any, **options: Any) -> Any:
        span, options = begin(options)
        with span:
            return await original(self, body, **with_context(options))

    method = aio_publish if is_aio else publish
    method.__name__, method.__doc__ = name, original.__doc__
    return method


class _Headers:
    """The headers of a message, as propagators read them."""

    def get(self, carrier: dict[str, Any], key: str) -> Optional[list[str]]:
        value = carrier.get(key)
        return [value] if isinstance(value, str) else None

    def keys(self, carrier: dict[str, Any]) -> Iterable[str]:
        return list(carrier)


def _entering(original: Callable[..., Any], tracer: Any) -> Callable[..., Any]:
    from opentelemetry import propagate
    from opentelemetry.trace import SpanKind

    getter: Any = _Headers()

    def enter(self: Any) -> Any:
        delivery = original(self)
        destination = _destination(delivery.exchange, delivery.routing_key)
        attributes = {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": destination,
            "messaging.rabbitmq.destination.routing_key": delivery.routing_key,
            "messaging.rabbitmq.message.delivery_tag": delivery.delivery_tag,
            "messaging.message.body.size": len(delivery.body),
        }
        if delivery.message_id:
            attributes["messaging.message.id"] = delivery.message_id
        if delivery.correlation_id:
            attributes["messaging.message.conversation_id"] = delivery.correlation_id
        self._span = tracer.start_as_current_span(
            f"process {destination}",
            context=propagate.extract(delivery.headers, getter=getter),
            kind=SpanKind.CONSUMER,
            attributes=attributes,
        )
        self._span.__enter__()
        return delivery

    return enter


def _exiting(original: Callable[..., Any]) -> Callable[..., Any]:
    def leave(self: Any, kind: Any, error: Any, traceback: Any) -> None:
        span = self.__dict__.pop("_span", None)
        try:
            original(self, kind, error, traceback)
        finally:
            if span is not None:
                # It records the exception, which goes on.
                span.__exit__(kind, error, traceback)

    return leave
