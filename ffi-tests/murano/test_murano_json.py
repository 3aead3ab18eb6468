"""What becomes of a body's values in JSON: the engine's as oslo.serialization has it, the others' as the module json."""

from __future__ import annotations

import collections
import datetime
import decimal
import io
import ipaddress
import itertools
import json
import types
import uuid

import netaddr
import pytest
from generations import Generation
from oslo_serialization import jsonutils

import murano_messaging as mm


class FrozenDict(collections.abc.Mapping):
    """As yaql has it: the parameters of a plan are of this kind."""

    def __init__(self, *args, **kwargs):
        self._dict = dict(*args, **kwargs)

    def __getitem__(self, key):
        return self._dict[key]

    def __iter__(self):
        return iter(self._dict)

    def __len__(self):
        return len(self._dict)


class Iterable:
    def __iter__(self):
        return iter((1, 2))


NOW = datetime.datetime(2014, 3, 1, 12, 30, 5)
AN_ID = uuid.UUID(int=17)

# What JSON has no form for, and oslo.serialization has.
MORE = [
    FrozenDict({"port": 80}),
    FrozenDict({"a": FrozenDict({"b": [FrozenDict({"c": {1}})]})}),
    FrozenDict({NOW: {AN_ID: NOW}, b"bytes": None}),
    types.MappingProxyType({"a": {"b": (1, 2)}}),
    collections.UserDict({"a": collections.UserList([1])}),
    {1},
    frozenset({"a"}),
    collections.deque([1, NOW]),
    range(3),
    {"a": 1}.keys(),
    Iterable(),
    NOW,
    NOW.replace(microsecond=250),
    NOW.replace(tzinfo=datetime.timezone.utc),
    NOW.date(),
    AN_ID,
    ipaddress.ip_address("10.0.0.1"),
    ipaddress.ip_address("::1"),
    ipaddress.ip_network("10.0.0.0/30"),
    netaddr.IPAddress("10.0.0.1"),
    netaddr.IPNetwork("10.0.0.0/30"),
    ValueError("no"),
    bytearray(b"ab"),
    itertools.count(3),
    len,
    json,
    dict,
    [].append,
    (n for n in range(2)),
]
# And what only its later releases have, which do not run on every Python.
LATER = {decimal.Decimal("1.50"): "1.50", netaddr.IPRange("10.0.0.1", "10.0.0.2"): "10.0.0.1-10.0.0.2"}
PLAIN = [
    None,
    True,
    5,
    2.5,
    float("inf"),
    "naïve",
    [1, (2, "3")],
    {"a": {"b": []}},
    {5: "a", None: "b", True: "c"},
    collections.OrderedDict(b=1, a=2),
    collections.namedtuple("Pair", "a b")(1, 2),
]
NO_FORM = [object(), io.BytesIO(b"ab"), datetime.timedelta(1)]


def what(value: object) -> str:
    return f"{type(value).__name__} {str(value)[:20]}"


@pytest.fixture
def sent(uri, queue):
    """Sends a body, and returns the text that the broker got."""
    with mm.connect(uri) as direct:
        direct.declare_queue(queue, expires=60)

        def sent(generation: Generation, body: object) -> str:
            with generation.client(uri) as client:
                client.send(generation.message(body), queue)
            return direct.get(queue, no_ack=True).text()

        yield sent
        assert direct.delete_queue(queue) == 0


@pytest.mark.parametrize("value", PLAIN, ids=what)
def test_what_json_has_a_form_for(generation, sent, value):
    assert sent(generation, {"value": value}) == json.dumps({"value": value})


@pytest.mark.parametrize("value", MORE, ids=what)
def test_the_engine_sends_what_oslo_serialization_makes_of_the_rest(sent, value):
    assert sent(Generation("engine"), {"value": value}) == jsonutils.dumps({"value": value})
    assert sent(Generation("engine"), value) == jsonutils.dumps(value)


@pytest.mark.parametrize("value", LATER, ids=what)
def test_the_engine_sends_what_later_releases_make_of_it(sent, value):
    assert json.loads(sent(Generation("engine"), {"value": value})) == {"value": LATER[value]}


def test_mappings_keep_what_they_have_however_deep_they_are(sent):
    body = 5
    for _ in range(8):
        body = FrozenDict({"a": [body]})
    assert json.loads(sent(Generation("engine"), body)) == json.loads('{"a": [' * 8 + "5" + "]}" * 8)


@pytest.mark.parametrize("value", [*MORE, *LATER], ids=what)
@pytest.mark.parametrize("name", ["2014", "agent"])
def test_the_others_refuse_the_rest_before_anything_is_sent(sent, name, value):
    with pytest.raises(TypeError, match="has no form in JSON"):
        sent(Generation(name), {"value": value})


@pytest.mark.parametrize("value", NO_FORM, ids=what)
def test_what_nobody_has_a_form_for_is_refused_before_anything_is_sent(generation, sent, value):
    with pytest.raises(ValueError if generation.name == "engine" else TypeError, match="has no form in JSON"):
        sent(generation, {"value": value})
    if generation.name == "engine":
        with pytest.raises(ValueError):
            jsonutils.dumps({"value": value})


def test_bytes_are_text(generation, sent):
    # In Python 2 all text was.
    assert sent(generation, {"a": b"na\xc3\xafve", "b": [b""]}) == json.dumps({"a": "naïve", "b": [""]})
    with pytest.raises(UnicodeDecodeError):
        sent(generation, {"a": b"\xff"})
