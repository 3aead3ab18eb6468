"""A broker that only shakes hands, and remembers what the client has said."""

from __future__ import annotations

import socket
import struct
import threading


def _short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def _long(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


def _method(class_id: int, method_id: int, arguments: bytes = b"") -> bytes:
    payload = struct.pack(">HH", class_id, method_id) + arguments
    return struct.pack(">BHI", 1, 0, len(payload)) + payload + b"\xce"


class FakeBroker:
    """Takes one connection; when that is open, ``start_ok`` and ``tune_ok`` have the arguments of these methods."""

    def __init__(self) -> None:
        self.start_ok = b""
        self.tune_ok: tuple[int, int, int] | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"amqp://user:password@127.0.0.1:{self._listener.getsockname()[1]}/"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        peer, _ = self._listener.accept()
        with peer, peer.makefile("rb") as reader:
            assert reader.read(8).startswith(b"AMQP")
            properties = _short(b"product") + b"S" + _long(b"Fake") + _short(b"version") + b"S" + _long(b"1.2.3")
            peer.sendall(_method(10, 10, b"\0\x09" + _long(properties) + _long(b"PLAIN") + _long(b"en_US")))
            self.start_ok = self._arguments(reader)
            peer.sendall(_method(10, 30, struct.pack(">HIH", 2047, 131072, 60)))
            self.tune_ok = struct.unpack(">HIH", self._arguments(reader))
            self._arguments(reader)
            peer.sendall(_method(10, 41, b"\0"))
            # Until the client has gone.
            reader.read()

    def _arguments(self, reader: object) -> bytes:
        _, _, size = struct.unpack(">BHI", reader.read(7))  # type: ignore[attr-defined]
        payload = reader.read(size + 1)  # type: ignore[attr-defined]
        return bytes(payload[4:-1])
