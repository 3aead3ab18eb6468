"""Where to connect to, and how to speak TLS there."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit


def parse_amqp_url(amqp_url: str) -> tuple[str, str, str, str, int, bool]:
    """Return user, password, virtual host, host, port, and whether to speak TLS.

    >>> parse_amqp_url("amqp://a:b@c:1/d")
    ('a', 'b', 'd', 'c', 1, False)
    >>> parse_amqp_url("amqps://")
    ('guest', 'guest', '/', 'localhost', 5672, True)
    """
    assert amqp_url.startswith(("amqp://", "amqps://")), "Only amqp:// and amqps:// protocols are supported."
    parts = urlsplit("http" + amqp_url[len("amqp") :])
    username = "guest" if parts.username is None else unquote(parts.username)
    password = "guest" if parts.password is None else unquote(parts.password)
    path = parts.path[1:]
    vhost = unquote(path) if path else "/"
    host = unquote(parts.hostname) if parts.hostname else "localhost"
    return username, password, vhost, host, parts.port or 5672, parts.scheme == "https"


class SslConnectionParameters:
    """How to speak TLS.

    Without ``ca_certs`` the broker is not verified. With it, its certificate must be in that file, or issued by one
    that is. Its name is only checked if ``check_hostname`` says so.
    """

    def __init__(self) -> None:
        """Begin with no file at all."""
        self.certfile: Any = None
        self.keyfile: Any = None
        self.ca_certs: Any = None
        self.require_certificate = True
        self.check_hostname = False
