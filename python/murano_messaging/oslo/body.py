"""Bodies: JSON in an envelope, compressed or not."""

from __future__ import annotations

import bz2
import json
import zlib
from dataclasses import dataclass, field
from typing import Any, Optional

from oslo_messaging._drivers import common
from oslo_serialization import jsonutils

import murano_messaging as mm

#: The most that a compressed body may decode to, in bytes; a few kilobytes can decode to gigabytes.
LIMIT = 128 << 20

_HEADERS = {"gzip": "application/x-gzip", "bz2": "application/x-bz2"}
#: The names that kombu knows. What it calls gzip is a zlib stream.
_KNOWN = {
    **dict.fromkeys(("gzip", "zlib", "application/x-gzip"), "gzip"),
    **dict.fromkeys(("bzip2", "bzip", "bz2", "application/x-bz2"), "bz2"),
}


@dataclass(frozen=True)
class Message:
    """A body and the properties that it is published with."""

    body: bytes
    properties: dict[str, Any] = field(default_factory=dict)


def encode(fields: dict[str, Any], compression: Optional[str], envelope: bool = True) -> Message:
    """Return the message with these fields; without ``envelope`` as notifications of version 1.0 are sent."""
    text = json.dumps(common.serialize_msg(fields)) if envelope else jsonutils.dumps(fields)
    body = text.encode()
    properties: dict[str, Any] = {"content_type": "application/json", "content_encoding": "utf-8", "priority": 0}
    if compression:
        kind = _kind(compression)
        body = zlib.compress(body) if kind == "gzip" else bz2.compress(body)
        properties["headers"] = {"compression": _HEADERS[kind]}
    return Message(body, properties)


def decode(delivery: mm.Delivery) -> dict[str, Any]:
    """Return the fields of a message; ``ValueError`` if it has none."""
    body = delivery.body
    compression = delivery.headers.get("compression")
    if compression:
        body = _decompress(_kind(str(compression)), body)
    fields = common.deserialize_msg(json.loads(body))
    if not isinstance(fields, dict):
        raise ValueError("the body is no JSON object")
    return fields


def _kind(name: str) -> str:
    kind = _KNOWN.get(name.lower())
    if kind is None:
        raise ValueError(f"compression {name!r} is not known; gzip and bz2 are")
    return kind


def _decompress(kind: str, body: bytes) -> bytes:
    decoder: Any = zlib.decompressobj() if kind == "gzip" else bz2.BZ2Decompressor()
    try:
        decoded: bytes = decoder.decompress(body, LIMIT + 1)
    except (zlib.error, OSError) as error:
        raise ValueError(f"the body is not {kind}: {error}") from error
    if len(decoded) > LIMIT:
        raise ValueError(f"the body decodes to more than {LIMIT} bytes")
    if not decoder.eof:
        raise ValueError(f"the body is not {kind}: it is cut off")
    return decoded
