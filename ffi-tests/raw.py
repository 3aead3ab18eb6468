"""A publisher that sends properties which no sound client would."""

from __future__ import annotations

import socket
import struct
from urllib.parse import urlsplit


def short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def long(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


class RawPublisher:
    """A connection with a channel in confirm mode."""

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=30)
        self._stream = self._socket.makefile("rb")
        self._socket.sendall(b"AMQP\0\0\x09\x01")
        self._expect(10, 10)
        login = f"\0{parts.username}\0{parts.password}".encode()
        self._send(0, 10, 11, long(b"") + short(b"PLAIN") + long(login) + short(b"en_US"))
        self._expect(10, 30)
        self._send(0, 10, 31, struct.pack(">HIH", 2047, 131072, 0))
        self._send(0, 10, 40, short(b"/") + b"\0\0")
        self._expect(10, 41)
        self._send(1, 20, 10, b"\0")
        self._expect(20, 11)
        self._send(1, 85, 10, b"\0")
        self._expect(85, 11)

    def _send(self, channel: int, kind: int, method: int, fields: bytes) -> None:
        self._socket.sendall(frame(1, channel, struct.pack(">HH", kind, method) + fields))

    def _expect(self, kind: int, method: int) -> None:
        _, _, size = struct.unpack(">BHI", self._stream.read(7))
        payload = self._stream.read(size + 1)
        assert struct.unpack(">HH", payload[:4]) == (kind, method), payload

    def publish(self, queue: str, properties: bytes, body: bytes) -> None:
        """Publish with this list of properties, flags included, and wait for the confirm."""
        self._send(1, 60, 40, b"\0\0" + short(b"") + short(queue.encode()) + b"\0")
        self._socket.sendall(frame(2, 1, struct.pack(">HHQ", 60, 0, len(body)) + properties) + frame(3, 1, body))
        self._expect(60, 80)

    def close(self) -> None:
        self._stream.close()
        self._socket.close()
