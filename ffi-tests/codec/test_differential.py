"""What our codec reads, pika and py-amqp read too, of the same bytes; where they differ, it is for a reason given here.

``codec-peer`` is our codec. The bytes are made from a seed: field tables with every type, content headers with every
property, method frames, each as it should be and with some bits spoilt. (``core/fuzz`` compares with ``amq-protocol``
in the same way.)

What our codec refuses, they may read: both take lengths that pass the end of their table as shorter ones, and names and
keys that are not UTF-8 as bytes or surrogates. Such a message is delivered by us with ``headers_error``.
"""

from __future__ import annotations

import datetime
import decimal
import json
import math
import pathlib
import random
import struct
import subprocess
from typing import Any, Callable

import amqp.serialization
import pika.data
import pika.frame
import pika.spec
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CASES = 3000

Read = Callable[[bytes], Any]


def ours(kind: str, cases: list[bytes]) -> list[Any]:
    """What our codec makes of each."""
    program = ROOT / "target" / "debug" / "examples" / "codec-peer"
    assert program.exists(), "run: cargo build -p murano-messaging --example codec-peer"
    lines = "".join(f"{kind} {case.hex()}\n" for case in cases)
    done = subprocess.run([program], input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


# ---- bytes ---------------------------------------------------------------------------------------------------------


def short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def long(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


def value(rng: random.Random, depth: int) -> bytes:
    kind = rng.choice(b"tbBsUuIiLlfdDSxTVFA" if depth < 4 else b"tbBsUuIiLlfdDSxTV")
    number = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.getrandbits(64)]).to_bytes(8, "big")
    if kind in b"tbB":
        return bytes([kind]) + number[-1:]
    if kind in b"sUu":
        return bytes([kind]) + number[-2:]
    if kind in b"Ii":
        return bytes([kind]) + number[-4:]
    if kind in b"LlT":
        return bytes([kind]) + (number if kind != ord("T") else rng.getrandbits(rng.choice([31, 40])).to_bytes(8, "big"))
    if kind == ord("f"):
        return b"f" + struct.pack(">f", rng.uniform(-1e6, 1e6))
    if kind == ord("d"):
        return b"d" + struct.pack(">d", rng.uniform(-1e300, 1e300))
    if kind == ord("D"):
        return b"D" + bytes([rng.randrange(8)]) + number[-4:]
    if kind == ord("S"):
        return b"S" + long(rng.choice([b"", b"text", "é✓".encode(), rng.randbytes(6)]))
    if kind == ord("x"):
        return b"x" + long(rng.randbytes(rng.randrange(9)))
    if kind == ord("F"):
        return b"F" + table(rng, depth + 1)
    if kind == ord("A"):
        return b"A" + long(b"".join(value(rng, depth + 1) for _ in range(rng.randrange(4))))
    return b"V"


def table(rng: random.Random, depth: int = 0) -> bytes:
    keys = [b"k", b"key", "ключ".encode(), b"", b"x-death"]
    rng.shuffle(keys)
    return long(b"".join(short(key) + value(rng, depth) for key in keys[: rng.randrange(6)]))


def header(rng: random.Random) -> bytes:
    flags = rng.getrandbits(14) << 2
    out = struct.pack(">HHQH", 60, 0, rng.getrandbits(40), flags)
    for bit in range(15, 1, -1):
        if not flags >> bit & 1:
            continue
        if bit == 13:
            out += table(rng)
        elif bit in (12, 11):
            out += bytes([rng.randrange(10)])
        elif bit == 6:
            out += struct.pack(">Q", rng.getrandbits(rng.choice([31, 40])))
        else:
            out += short(rng.choice([b"", b"text", "é".encode(), b"n" * 255]))
    return out


def spoilt(rng: random.Random, case: bytes, first: int = 0) -> bytes:
    """Half of them with some bits turned, from the byte ``first`` on."""
    if rng.random() < 0.5 or len(case) <= first:
        return case
    changed = bytearray(case)
    for _ in range(rng.randrange(1, 4)):
        changed[rng.randrange(first, len(case))] ^= 1 << rng.randrange(8)
    return bytes(changed)


# ---- what was read, in one form ------------------------------------------------------------------------------------


#: What others raise where a value is not representable.
REFUSALS = (ValueError, OverflowError, OSError, ArithmeticError)


class RefusesError(Exception):
    """The other codec refuses the value that it cannot represent."""


def plain(found: Any) -> Any:
    """What another codec read, in the form in which `codec-peer` prints."""
    if found is None or isinstance(found, bool):
        return found
    if isinstance(found, int):
        return {"int": str(found)}
    if isinstance(found, float):
        return {"float": struct.pack(">d", found).hex()}
    if isinstance(found, str):
        return {"bytes": found.encode("utf-8", "surrogatepass").hex()}
    if isinstance(found, (bytes, bytearray, memoryview)):
        return {"bytes": bytes(found).hex()}
    if isinstance(found, decimal.Decimal):
        return {"decimal": str(found.normalize())}
    if isinstance(found, datetime.datetime):
        if found.tzinfo is None:
            found = found.replace(tzinfo=datetime.timezone.utc)
        return {"time": str(int(found.timestamp()))}
    if isinstance(found, (list, tuple)):
        return {"array": [plain(entry) for entry in found]}
    assert isinstance(found, dict), type(found)
    return {"table": {name(key): plain(entry) for key, entry in found.items()}}


def name(key: Any) -> str:
    return (key if isinstance(key, bytes) else key.encode("utf-8", "surrogatepass")).hex()


def expected(read: Any, whole_floats: bool) -> Any:
    """What another codec must have read where ours has read this, with the differences that there are."""
    if read is None or isinstance(read, bool):
        return read
    ((kind, content),) = read.items()
    if kind == "float" and whole_floats:
        # pika cuts floats to integers.
        (number,) = struct.unpack(">d", bytes.fromhex(content))
        if not math.isfinite(number):
            raise RefusesError
        return {"int": str(int(number))}
    if kind == "decimal":
        # Both take the digits as signed; RabbitMQ and amq-protocol, and so we, as unsigned.
        scale, digits = content
        signed = digits - (1 << 32) if digits >= 1 << 31 else digits
        try:
            return {"decimal": str((decimal.Decimal(signed) / decimal.Decimal(10**scale)).normalize())}
        except decimal.DecimalException:
            raise RefusesError from None
    if kind == "time" and int(content) >= 253402300800:
        # datetime ends with the year 9999; the number is kept by us.
        raise RefusesError
    if kind == "array":
        return {"array": [expected(entry, whole_floats) for entry in content]}
    if kind == "table":
        return {"table": {key: expected(entry, whole_floats) for key, entry in content.items()}}
    return read


def compare(found: Any, case: bytes, read: Read, whole_floats: bool, wrap: Callable[[Any], Any]) -> str:
    """Fails if the other codec reads something else; returns what became of the case."""
    if "read" not in found:
        return "refused"
    try:
        must_be = expected(wrap(found["read"]), whole_floats)
    except RefusesError:
        with pytest.raises(REFUSALS):
            read(case)
        return "not representable"
    try:
        theirs = plain(read(case))
    except REFUSALS:
        # A key that a turned bit has made equal to another: they read both values; ours is the last.
        return "replaced"
    assert theirs == must_be, case.hex()
    return "equal"


def run(cases: list[bytes], kind: str, read: Read, whole_floats: bool, wrap: Callable[[Any], Any]) -> None:
    outcomes = [compare(found, case, read, whole_floats, wrap) for found, case in zip(ours(kind, cases), cases)]
    counts = {outcome: outcomes.count(outcome) for outcome in set(outcomes)}
    print(counts)
    # Otherwise nothing was compared.
    assert counts["equal"] > len(cases) // 3, counts
    assert counts.get("replaced", 0) < len(cases) // 100, counts


# ---- tests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["pika", "amqp"])
def test_tables_of_every_type_are_read_alike(codec: str) -> None:
    rng = random.Random(1)
    cases = [spoilt(rng, table(rng), 4) for _ in range(CASES)]
    readers: dict[str, Read] = {
        "pika": lambda case: pika.data.decode_table(case, 0)[0],
        "amqp": lambda case: amqp.serialization.loads("F", case, 0)[0][0],
    }
    run(cases, "table", readers[codec], codec == "pika", lambda read: read)


def pika_properties(case: bytes) -> dict[str, Any]:
    properties = pika.spec.BasicProperties()
    properties.decode(case[12:])
    return {name: entry for name, entry in vars(properties).items() if entry is not None}


def amqp_properties(case: bytes) -> dict[str, Any]:
    properties, _ = amqp.serialization.decode_properties_basic(case, 12)
    if "application_headers" in properties:
        properties["headers"] = properties.pop("application_headers")
    return dict(properties)


@pytest.mark.parametrize("codec", ["pika", "amqp"])
def test_properties_are_read_alike(codec: str) -> None:
    rng = random.Random(2)
    cases = [spoilt(rng, header(rng), 12) for _ in range(CASES)]
    if codec == "pika":
        # Bit 0 says that more flags follow. Class basic has no more than fit into the first word: only pika reads on.
        cases = [case for case in cases if not case[13] & 1]

    def wrap(read: Any) -> Any:
        # A timestamp of a message is a number to both.
        found = {key: {"int": entry["time"]} if key == "timestamp" else entry for key, entry in read.items()}
        return {"table": {name(key): entry for key, entry in found.items()}}

    run(cases, "header", pika_properties if codec == "pika" else amqp_properties, codec == "pika", wrap)


def test_method_frames_are_read_alike() -> None:
    """Class, method, channel and length; ``core/fuzz/targets/frames.rs`` compares the fields too."""
    rng = random.Random(3)
    cases = []
    for method in pika.spec.methods.values():
        for _ in range(20):
            fields = encoded(method)
            if fields is not None:
                payload = struct.pack(">I", method.INDEX) + fields
                frame = struct.pack(">BHI", 1, rng.randrange(5), len(payload)) + payload + b"\xce"
                cases.append(spoilt(rng, frame, 11) if rng.random() < 0.3 else frame)
    equal = 0
    for found, case in zip(ours("frame", cases), cases):
        if "read" not in found:
            continue
        length, theirs = pika.frame.decode_frame(case)
        class_name, _, method_name = theirs.method.NAME.partition(".")
        kind, _, rest = found["read"].partition("(")
        channel = int(rest.split(",")[0])
        assert (kind, channel, found["length"]) == ("Method", theirs.channel_number, length), case.hex()
        assert f"{class_name}({method_name}(" in found["read"], (theirs.method.NAME, found["read"])
        equal += 1
    assert equal > len(cases) // 2


def encoded(method: Any) -> bytes | None:
    """The fields of a method with pika's defaults; ``None`` if there are not enough."""
    try:
        made = method()
        if method is pika.spec.Connection.Start:
            made.server_properties = {"product": "x", "version": 1}
        return b"".join(made.encode())
    except Exception:
        return None
