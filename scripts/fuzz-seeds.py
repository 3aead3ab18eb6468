"""Makes seeds of `core/fuzz` out of what the contract suite's clients and the embedded broker said to each other.

    mkdir /tmp/traffic
    MURANO_RECORD_TRAFFIC=/tmp/traffic cargo test -p murano-messaging --test contract memory
    python3 scripts/fuzz-seeds.py /tmp/traffic

Of each sequence of methods one conversation is kept, the shortest, and of each list of property flags and each set of table
types one content header and one table; `make fuzz` finds the rest.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

SEEDS = Path(__file__).parent.parent / "core" / "fuzz" / "seeds"

# Larger ones teach the fuzzer nothing, and it changes them slowly.
LARGEST = 1500
MOST = 60

# Of methods with a table: fixed bytes, short strings and fixed bytes before it (core/src/wire/guard.rs).
TABLES = {
    (10, 10): (2, 0, 0),
    (10, 11): (0, 0, 0),
    (40, 10): (2, 2, 1),
    (60, 20): (2, 2, 1),
    (40, 30): (2, 3, 1),
    (40, 40): (2, 3, 1),
    (50, 20): (2, 3, 1),
    (50, 10): (2, 1, 1),
    (50, 50): (2, 3, 0),
}


def frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and payload of each whole frame."""
    at = 8 if data.startswith(b"AMQP") else 0
    while at + 7 <= len(data):
        kind, _, size = struct.unpack_from(">BHI", data, at)
        yield kind, data[at + 7 : at + 7 + size]
        at += size + 8


def shape(data: bytes) -> tuple[bytes, ...]:
    """What a conversation is made of: repetitions of a frame's kind count once."""
    kinds: list[bytes] = []
    for kind, payload in frames(data):
        step = payload[:4] if kind == 1 else bytes([kind])
        if step not in kinds:
            kinds.append(step)
    return tuple(kinds)


def table_of(payload: bytes) -> bytes | None:
    """The table in a method."""
    layout = TABLES.get(struct.unpack_from(">HH", payload))
    if layout is None:
        return None
    at = 4 + layout[0]
    for _ in range(layout[1]):
        at += 1 + payload[at]
    return payload[at + layout[2] :]


def keep(target: str, seeds: dict[object, bytes]) -> None:
    """Writes the smallest seeds."""
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    for seed in sorted(seeds.values(), key=len)[:MOST]:
        (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


def main() -> None:
    to_client: dict[object, bytes] = {}
    to_broker: dict[object, bytes] = {}
    headers: dict[object, bytes] = {}
    tables: dict[object, bytes] = {}

    def offer(seeds: dict[object, bytes], key: object, seed: bytes) -> None:
        if len(seed) <= LARGEST and (key not in seeds or len(seed) < len(seeds[key])):
            seeds[key] = seed

    for file in sorted(Path(sys.argv[1]).iterdir()):
        data = file.read_bytes()
        offer(to_client if file.suffix == ".client" else to_broker, shape(data), data)
        for kind, payload in frames(data):
            if kind == 2:
                offer(headers, payload[12:14], payload)
                if payload[12] & 0x20:
                    at = 14
                    for flag in (0x80, 0x40):
                        if payload[12] & flag:
                            at += 1 + payload[at]
                    offer(tables, payload[at + 4 : at + 40], payload[at:])
            elif kind == 1 and (table := table_of(payload)) is not None:
                offer(tables, table[4:40], table)
    keep("client_bytes", {key: b"\0" + bytes(24) + seed for key, seed in to_client.items()})
    keep("broker_bytes", {key: b"\0" + seed for key, seed in to_broker.items()})
    both = {**to_client, **{key: seed[8:] for key, seed in to_broker.items()}}
    keep("frames", {key: b"\x80" + seed for key, seed in both.items()})
    keep("properties", headers)
    keep("tables", tables)


main()
