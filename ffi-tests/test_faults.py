"""Errors and events of faults, raised for real: alarms, limits, broken frames, unreadable messages."""

from __future__ import annotations

import threading

import pytest

import murano_messaging as mm
from nodes import ControlledNode
from proxy import Proxy
from raw import RawPublisher, long, short


def wait_for(events, kind):
    while True:
        event = events.get(timeout=60)
        assert event is not None, f"no {kind.__name__}"
        if isinstance(event, kind):
            return event


@pytest.fixture(scope="module")
def own_node():
    with ControlledNode() as node:
        yield node


def test_an_alarm_of_the_broker(own_node, queue):
    """Publishing ends with its deadline; consuming goes on; then all is well again."""
    with mm.connect(own_node.uri) as client:
        client.declare_queue(queue)
        for n in range(3):
            client.publish(str(n), routing_key=queue)
        events = client.events()
        own_node.ctl("set_vm_memory_high_watermark", "0.00001")
        with pytest.raises(mm.BlockedError) as caught:
            client.publish(b"blocked", routing_key=queue, timeout=1)
        assert isinstance(caught.value, TimeoutError)
        blocked = wait_for(events, mm.events.Blocked)
        assert blocked.role == "publish"
        assert "memory" in blocked.reason
        with client.consume(queue) as deliveries:
            for n in range(3):
                delivery = deliveries.get(timeout=30)
                assert delivery.text() == str(n)
                delivery.ack()
        waiting = client.publish_nowait(b"later", routing_key=queue, timeout=120)
        own_node.ctl("set_vm_memory_high_watermark", "0.4")
        assert wait_for(events, mm.events.Unblocked) == mm.events.Unblocked("publish")
        waiting.result(timeout=60)


def test_a_virtual_host_without_room_for_a_connection(own_node):
    own_node.ctl("set_vhost_limits", '{"max-connections":0}')
    try:
        with pytest.raises(mm.LimitReachedError) as caught:
            mm.connect(own_node.uri)
        assert isinstance(caught.value, ConnectionError)
    finally:
        own_node.ctl("clear_vhost_limits")
    mm.connect(own_node.uri).close()


def test_channels_run_out(uri, queue):
    with mm.connect(uri, channel_max=3) as client:
        client.declare_queue(queue, exclusive=True)
        consumers = []
        with pytest.raises(mm.LimitReachedError, match="channel"):
            while len(consumers) < 5:
                consumers.append(client.consume(queue))
        # Those that there are work on.
        client.publish(b"x", routing_key=queue)
        assert any(consumer.get(timeout=1) for consumer in consumers)


def test_a_close_under_an_alarm_waits_for_no_publish_that_has_ended(own_node):
    """RabbitMQ reads nothing from a connection that it blocks, and answers its close at the end of the alarm."""
    for separate in (True, False):
        with mm.connect(own_node.uri, timeout=600, separate_publish_connection=separate) as client:
            events = client.events()
            own_node.ctl("set_vm_memory_high_watermark", "0.00001")
            try:
                # On the wire when the connection is blocked: its place in the window is held for its confirm.
                with pytest.raises(mm.BlockedError):
                    client.publish(b"x", routing_key="nowhere", mandatory=False, timeout=1)
                wait_for(events, mm.events.Blocked)
                # Less than the client's own deadline would be endless.
                client.close(timeout=60)
            finally:
                own_node.ctl("set_vm_memory_high_watermark", "0.4")


def test_a_peer_that_breaks_the_protocol(uri, queue):
    proxy = Proxy(uri)
    client = mm.connect(proxy.uri, recovery=False)
    client.declare_queue(queue, exclusive=True)
    consumer = client.consume(queue)
    events = client.events()
    errors = []

    def consume():
        try:
            consumer.get()
        except mm.MessagingError as error:
            errors.append(error)

    waiting = threading.Thread(target=consume)
    waiting.start()
    # There is no frame of type 9.
    proxy.inject(b"\x09\0\0\0\0\0\0\xce")
    waiting.join(30)
    (error,) = errors
    assert isinstance(error, mm.ProtocolError)
    assert isinstance(error, ConnectionError)
    assert isinstance(wait_for(events, mm.events.Lost).reason, mm.ProtocolError)
    with pytest.raises(mm.ProtocolError):
        client.check_exchange("amq.direct")
    proxy.close()


def test_a_message_whose_headers_cannot_be_read(uri, queue):
    """It arrives, with its body and what its properties were; so do the messages around it."""
    nested = b""
    for _ in range(40):
        nested = long(short(b"k") + b"F" + (nested or long(b"")))
    properties = b"\x20\0" + nested
    raw = RawPublisher(uri)
    with mm.connect(uri) as client:
        client.declare_queue(queue, exclusive=False, expires=60)
        events = client.events()
        client.publish(b"before", routing_key=queue, headers={"k": 1})
        raw.publish(queue, properties, b"poison")
        client.publish(b"after", routing_key=queue)
        with client.consume(queue) as deliveries:
            before, poison, after = (deliveries.get(timeout=30) for _ in range(3))
            assert (before.body, poison.body, after.body) == (b"before", b"poison", b"after")
            assert before.headers_error is None and before.raw_headers is None
            assert "deeper than 32" in poison.headers_error
            assert nested in poison.raw_headers
            assert poison.headers == {}
            defect = wait_for(events, mm.events.HeadersDefect)
            assert (defect.queue, defect.reason) == (queue, poison.headers_error)
            for delivery in (before, poison, after):
                delivery.ack()
        assert client.stats().reconnects == 0
    raw.close()
