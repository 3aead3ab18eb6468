"""TLS in front of a broker that has none, for the tests."""

from __future__ import annotations

import socket
import ssl
import threading
from typing import Any
from urllib.parse import urlsplit

import trustme


class TlsFront:
    """TLS in front of a broker that has none."""

    def __init__(
        self, uri: str, authority: trustme.CA, name: str = "localhost", client: bool = False, certificate: Any = None
    ) -> None:
        parts = urlsplit(uri)
        assert parts.hostname and parts.port
        self._target = parts.hostname, parts.port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if certificate is None:
            authority.issue_cert(name).configure_cert(self._context)
        else:
            # What servers that were set up long ago still allow.
            self._context.set_ciphers("DEFAULT:@SECLEVEL=0")
            self._context.load_cert_chain(certificate)
        if client:
            self._context.verify_mode = ssl.CERT_REQUIRED
            authority.configure_trust(self._context)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.uri = f"amqps://guest:guest@localhost:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        try:
            front = self._context.wrap_socket(raw, server_side=True)
        except OSError:
            raw.close()
            return
        with front, socket.create_connection(self._target) as back:
            # One thread at a time may use an SSL socket: it reads while nothing is to be written.
            front.settimeout(0.02)
            back.settimeout(0.02)
            while True:
                for source, target in ((front, back), (back, front)):
                    try:
                        data = source.recv(65536)
                    except (TimeoutError, socket.timeout):
                        continue
                    except OSError:
                        return
                    if not data:
                        return
                    target.sendall(data)

    def close(self) -> None:
        self._listener.close()
