"""A TCP proxy in front of a broker that stalls and cuts connections when told to."""

from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit


class Proxy:
    """Forwards to the broker of a URI; ``uri`` leads through it."""

    def __init__(self, uri: str, ipv6: bool = False) -> None:
        parts = urlsplit(uri)
        self._target = (parts.hostname, parts.port)
        if ipv6:
            self._listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        else:
            self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        address = "[::1]" if ipv6 else "127.0.0.1"
        self.uri = f"amqp://{parts.username}:{parts.password}@{address}:{self.port}"
        self._flowing = threading.Event()
        self._flowing.set()
        self._welcome = threading.Event()
        self._welcome.set()
        self._sockets: list[socket.socket] = []
        self.received = 0
        self.accepted = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self) -> None:
        """Forward nothing, and keep the connections."""
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def inject(self, data: bytes) -> None:
        """Send this to every client, as if the broker had."""
        with self._lock:
            for client in self._sockets[::2]:
                client.sendall(data)

    def cut(self) -> None:
        """Close the connections; new ones are welcome."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for end in sockets:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def refuse(self) -> None:
        """Take no new connections."""
        self._welcome.clear()

    def welcome(self) -> None:
        """Take new connections again."""
        self._welcome.set()

    def close(self) -> None:
        self._listener.close()
        self.cut()
        self.resume()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                if not self._welcome.is_set():
                    client.close()
                    continue
                server = socket.create_connection(self._target)
            except OSError:
                return
            with self._lock:
                self.accepted += 1
                self._sockets += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                with self._lock:
                    self.received += len(data)
                self._flowing.wait()
                target.sendall(data)
        except (OSError, EOFError):
            # The other direction has closed them; EOFError is eventlet's way to say so.
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()
