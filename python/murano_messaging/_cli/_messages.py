"""Messages as lines of JSON, and back.

A line is an object: ``body`` (text; any other JSON value stands for its own JSON), or ``body_base64`` for a body that is
no UTF-8; ``exchange`` and ``routing_key``; ``properties`` with the names that ``publish`` has, ``headers`` among them.
What JSON has no value for is an object with one key: ``{"$base64": …}``, ``{"$timestamp": seconds}``,
``{"$decimal": "1.20"}``.
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from typing import Any

import murano_messaging as mm

from ._connecting import Failure

PROPERTIES = {
    "app_id",
    "cluster_id",
    "content_encoding",
    "content_type",
    "correlation_id",
    "expiration",
    "headers",
    "message_id",
    "persistent",
    "priority",
    "reply_to",
    "timestamp",
    "type",
    "user_id",
}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return {"$base64": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        return {"$timestamp": int(value.timestamp())}
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    return value


def _rich(value: Any) -> Any:
    if isinstance(value, list):
        return [_rich(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, inner),) = value.items()
        if key == "$base64":
            return base64.b64decode(inner, validate=True)
        if key == "$timestamp":
            return datetime.fromtimestamp(inner, timezone.utc)
        if key == "$decimal":
            return Decimal(inner)
    return {key: _rich(inner) for key, inner in value.items()}


def to_line(delivery: mm.Delivery) -> str:
    """A delivery as a line of JSON, without its end."""
    line: dict[str, Any] = {}
    try:
        line["body"] = delivery.text()
    except ValueError:
        line["body_base64"] = base64.b64encode(delivery.body).decode()
    line["exchange"] = delivery.exchange
    line["routing_key"] = delivery.routing_key
    line["redelivered"] = delivery.redelivered
    line["properties"] = _plain(delivery.properties)
    if delivery.headers_error is not None:
        line["headers_error"] = delivery.headers_error
        line["raw_headers_base64"] = base64.b64encode(delivery.raw_headers or b"").decode()
    return json.dumps(line, ensure_ascii=False)


def from_line(text: str, where: str) -> tuple[bytes, dict[str, Any]]:
    """The body of a line, and the arguments of its publish. ``where`` is what the line is called in errors."""
    try:
        line = json.loads(text)
    except ValueError as error:
        raise Failure(f"{where} is not JSON: {error}") from None
    if not isinstance(line, dict) or ("body" in line) == ("body_base64" in line):
        raise Failure(f'{where} is no message: it must be an object with "body" or "body_base64"')
    known = {"body", "body_base64", "exchange", "routing_key", "properties", "redelivered"}
    if unknown := sorted(set(line) - known):
        raise Failure(
            f'{where} has {unknown[0]!r}, which is not known; properties are an object of their own, "properties"'
        )
    properties = line.get("properties") or {}
    if not isinstance(properties, dict) or not set(properties) <= PROPERTIES:
        found = sorted(set(properties) - PROPERTIES) if isinstance(properties, dict) else ["no object"]
        raise Failure(f"{where} has properties that are not known: {found[0]}; known are {', '.join(sorted(PROPERTIES))}")
    arguments: dict[str, Any] = {}
    try:
        arguments.update({key: _rich(value) for key, value in properties.items()})
        if "body_base64" in line:
            body = base64.b64decode(line["body_base64"], validate=True)
        elif isinstance(line["body"], str):
            body = line["body"].encode()
        else:
            body = json.dumps(line["body"], ensure_ascii=False).encode()
            arguments.setdefault("content_type", "application/json")
    except (binascii.Error, TypeError, ValueError, InvalidOperation, OverflowError) as error:
        raise Failure(f"{where} has a value that cannot be read: {error}") from None
    for key in ("exchange", "routing_key"):
        if key in line:
            if not isinstance(line[key], str):
                raise Failure(f"{where} has a {key} that is no text")
            arguments[key] = line[key]
    return body, arguments
