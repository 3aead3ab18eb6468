"""Spans, and their context in headers."""

from __future__ import annotations

import asyncio
import threading

import pytest

import children
import murano_messaging as mm
import murano_messaging.opentelemetry as ours
from murano_messaging import aio

trace_sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="OpenTelemetry is not installed")

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode


@pytest.fixture
def spans():
    exporter = InMemorySpanExporter()
    provider = trace_sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    ours.instrument(provider)
    yield exporter.get_finished_spans
    ours.uninstrument()


@pytest.fixture
def embedded():
    with mm.Broker() as embedded:
        yield embedded


def hexadecimal(span):
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{int(span.context.trace_flags):02x}"


def test_the_context_of_a_publish_is_that_of_its_handler(spans, embedded):
    with mm.connect(embedded.uri) as client:
        client.declare_queue("q")
        client.publish(b"body", routing_key="q", headers={"kept": 1}, message_id="7", correlation_id="c")
        with client.get("q").process() as delivery:
            headers = delivery.headers
    sent, handled = spans()
    assert headers == {"kept": 1, "traceparent": hexadecimal(sent)}
    assert (sent.name, sent.kind) == ("publish q", SpanKind.PRODUCER)
    assert (handled.name, handled.kind) == ("process q", SpanKind.CONSUMER)
    assert (handled.context.trace_id, handled.parent.span_id) == (sent.context.trace_id, sent.context.span_id)
    common = {
        "messaging.system": "rabbitmq",
        "messaging.destination.name": "q",
        "messaging.rabbitmq.destination.routing_key": "q",
        "messaging.message.id": "7",
        "messaging.message.conversation_id": "c",
    }
    assert dict(sent.attributes) == {
        **common,
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
    }
    assert dict(handled.attributes) == {
        **common,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.rabbitmq.message.delivery_tag": 1,
        "messaging.message.body.size": 4,
    }


def test_what_fails_is_recorded_and_goes_on(spans, embedded):
    with mm.connect(embedded.uri) as client:
        client.declare_queue("q")
        with pytest.raises(mm.UnroutableError):
            client.publish(b"x", routing_key="nowhere")
        client.publish_nowait(b"x", routing_key="q").result(10)
        with pytest.raises(ZeroDivisionError), client.get("q").process():
            raise ZeroDivisionError
    failed, _, handled = spans()
    assert failed.status.status_code is StatusCode.ERROR
    assert handled.status.status_code is StatusCode.ERROR
    assert handled.events[0].attributes["exception.type"] == "ZeroDivisionError"


def test_a_handler_that_publishes_goes_on_with_the_trace(spans, embedded):
    stop = threading.Event()
    with mm.connect(embedded.uri) as client:
        client.declare_queue("q")
        client.declare_queue("next")

        def handle(delivery):
            client.publish(b"y", routing_key="next")
            stop.set()

        client.publish(b"x", routing_key="q")
        client.run("q", handle, stop=stop)
    assert len({span.context.trace_id for span in spans()}) == 1


def test_asyncio_is_traced_task_by_task(spans, embedded):
    async def main():
        async with aio.connect(embedded.uri) as client:
            await client.declare_queue("q")
            stop = asyncio.Event()
            seen = []

            async def handle(delivery):
                seen.append(delivery.headers["traceparent"])
                await asyncio.sleep(0)
                if len(seen) == 5:
                    stop.set()

            await asyncio.gather(*(client.publish(b"x", routing_key="q") for _ in range(5)))
            await client.run("q", handle, concurrency=5, stop=stop)
            return seen

    seen = asyncio.run(main())
    sent = [span for span in spans() if span.kind is SpanKind.PRODUCER]
    handled = [span for span in spans() if span.kind is SpanKind.CONSUMER]
    assert sorted(map(hexadecimal, sent)) == sorted(seen)
    assert {span.parent.span_id for span in handled} == {span.context.span_id for span in sent}


def test_headers_of_others_are_no_context(spans, embedded):
    with mm.connect(embedded.uri) as client:
        client.declare_queue("q")
        ours.uninstrument()
        client.publish(b"x", routing_key="q", headers={"traceparent": 5})
        ours.instrument()
        with client.get("q").process():
            pass


def test_uninstrument_leaves_nothing(embedded):
    before = [mm.Client.publish, aio.Client.request]
    ours.instrument()
    ours.instrument()
    assert mm.Client.publish is not before[0]
    ours.uninstrument()
    ours.uninstrument()
    assert [mm.Client.publish, aio.Client.request] == before
    with mm.connect(embedded.uri) as client:
        client.declare_queue("q")
        client.publish(b"x", routing_key="q")
        with client.get("q").process() as delivery:
            assert delivery.headers == {}


def test_nothing_is_imported_before_it_is_asked_for(uri):
    out = children.run(
        """
        import sys
        import murano_messaging, murano_messaging.opentelemetry
        print([name for name in sys.modules if name.split(".")[0] == "opentelemetry"])
        """,
        uri,
    )
    assert out == "[]\n"
