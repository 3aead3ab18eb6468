"""Properties and headers: every type there and back, and what cannot be sent."""

from __future__ import annotations

import datetime
import math
from decimal import Decimal

import pytest

import murano_messaging as mm

UTC = datetime.timezone.utc


async def test_properties_arrive_as_they_were_sent(face, broker, queue):
    sent = {
        "content_type": "application/x-test",
        "content_encoding": "identity",
        "correlation_id": "c-1",
        "reply_to": "answers",
        "message_id": "m-1",
        "type": "plan",
        "user_id": "guest",
        "app_id": "tests",
        "cluster_id": "",
        "priority": 7,
        "expiration": 12.5,
        "timestamp": datetime.datetime(2024, 2, 29, 12, 30, 1, tzinfo=UTC),
        "persistent": False,
        "headers": {"k": "v"},
    }
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        await client.publish(b"x", routing_key=queue, **sent)
        delivery = await client.get(queue)
        assert delivery.properties == sent
        for name, value in sent.items():
            assert getattr(delivery, name) == value, name
        assert (delivery.exchange, delivery.routing_key, delivery.redelivered) == ("", queue, False)
        assert delivery.message_count == 0
        # What was received can be sent on.
        await client.publish(delivery.body, routing_key=queue, **delivery.properties)
        await delivery.ack()
        again = await client.get(queue)
        assert again.properties == sent


async def test_kind_is_the_old_name_of_type(face, broker, queue):
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        with pytest.warns(DeprecationWarning, match="type"):
            await client.publish(b"x", routing_key=queue, kind="plan")
        delivery = await client.get(queue)
        assert delivery.type == "plan"
        with pytest.warns(DeprecationWarning, match="type"):
            assert delivery.kind == "plan"
        with pytest.warns(DeprecationWarning, match="type"), pytest.raises(mm.InvalidArgumentError, match="type"):
            await client.publish(b"x", routing_key=queue, kind="plan", type="plan")


async def test_a_message_without_properties_has_an_id_and_is_persistent(face, broker, queue):
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        await client.publish(b"x", routing_key=queue)
        delivery = await client.get(queue)
        assert delivery.persistent
        assert delivery.message_id
        assert set(delivery.properties) == {"persistent", "message_id"}
        assert delivery.headers == {}
        assert delivery.timestamp is delivery.priority is delivery.expiration is delivery.reply_to is None
        assert delivery.headers_error is None


HEADERS = {
    "none": None,
    "true": True,
    "false": False,
    "int": 42,
    "negative": -(2**63),
    "largest": 2**63 - 1,
    "float": 1.5,
    "str": "grüße",
    "empty": "",
    "bytes": b"\x00\xff",
    "decimal": Decimal("12.34"),
    "negative decimal": Decimal("-0.001"),
    "datetime": datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
    "list": [1, "two", None, [True, {"deep": 3.5}]],
    "dict": {"a": {"b": {"c": [1, 2, 3]}}},
}


async def test_headers_of_every_type_arrive_as_they_were_sent(face, broker, queue):
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        await client.publish(b"x", routing_key=queue, headers=HEADERS)
        delivery = await client.get(queue)
        assert delivery.headers == HEADERS
        for name, value in HEADERS.items():
            assert type(delivery.headers[name]) is type(value), name


async def test_header_types_that_have_no_field_of_their_own(face, broker, queue):
    sent = {
        "tuple": (1, 2),
        "bytearray": bytearray(b"ab"),
        "memoryview": memoryview(b"cd"),
        "naive": datetime.datetime(2030, 1, 2, 3, 4, 5),
        "elsewhere": datetime.datetime(2030, 1, 2, 4, 4, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
        "exponent": Decimal("12E3"),
    }
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        await client.publish(b"x", routing_key=queue, headers=sent)
        moment = datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
        assert (await client.get(queue)).headers == {
            "tuple": [1, 2],
            "bytearray": b"ab",
            "memoryview": b"cd",
            "naive": moment,
            "elsewhere": moment,
            "exponent": Decimal(12000),
        }


def endless() -> list[object]:
    loop: list[object] = []
    loop.append(loop)
    return loop


BAD_HEADERS = [
    (2**63, mm.InvalidArgumentError),
    (math.nan, mm.InvalidArgumentError),
    (Decimal("1.23456789012"), mm.InvalidArgumentError),
    (Decimal("NaN"), mm.InvalidArgumentError),
    (Decimal("1E999999999"), mm.InvalidArgumentError),
    (datetime.datetime(1969, 12, 31, tzinfo=UTC), mm.InvalidArgumentError),
    (endless(), mm.InvalidArgumentError),
    ({1: "key"}, TypeError),
    ({"k" * 256: "key"}, mm.InvalidArgumentError),
    (object(), TypeError),
]


@pytest.mark.parametrize("index", range(len(BAD_HEADERS)))
async def test_headers_that_cannot_be_sent_are_refused(face, broker, queue, index):
    value, expected = BAD_HEADERS[index]
    async with face.connect(broker) as client:
        with pytest.raises(expected) as caught:
            await client.publish(b"x", routing_key=queue, headers={"name": value})
        assert "name" in str(caught.value)
        assert client.stats().published == 0


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("priority", 256, mm.InvalidArgumentError),
        ("priority", -1, mm.InvalidArgumentError),
        ("expiration", -1, mm.InvalidArgumentError),
        ("expiration", math.inf, mm.InvalidArgumentError),
        ("expiration", "60000", TypeError),
        ("expiration", datetime.timedelta(days=3651), mm.InvalidArgumentError),
        ("timestamp", "now", TypeError),
        ("message_id", 5, TypeError),
        ("headers", [1], TypeError),
        ("delivery_mode", 2, TypeError),
        ("timeout", -1, mm.InvalidArgumentError),
        ("timeout", True, TypeError),
    ],
)
async def test_properties_that_cannot_be_sent_are_refused(face, broker, queue, name, value, expected):
    async with face.connect(broker) as client:
        with pytest.raises(expected) as caught:
            await client.publish(b"x", routing_key=queue, **{name: value})
        assert name in str(caught.value)
        assert client.stats().published == 0


async def test_the_longest_expiration(face, broker, queue):
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        longest = datetime.timedelta(days=3650)
        await client.publish(b"", routing_key=queue, expiration=longest)
        assert (await client.get(queue, no_ack=True)).expiration == longest.total_seconds()


async def test_durations_are_seconds_or_timedelta(face, broker, queue):
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=datetime.timedelta(minutes=1), message_ttl=30)
        for expiration in (5, 5.0, datetime.timedelta(seconds=5)):
            await client.publish(b"x", routing_key=queue, expiration=expiration)
            assert (await client.get(queue)).expiration == 5.0
