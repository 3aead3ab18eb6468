"""Where to connect to, and how to speak TLS there."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote


def parse_amqp_url(amqp_url: str) -> tuple[str, str, str, str, int, bool]:
    """Return user, password, virtual host, host, port, and whether to speak TLS.

    >>> parse_amqp_url("amqp://a:b@c:1/d")
    ('a', 'b', 'd', 'c', 1, False)
    >>> parse_amqp_url("amqps://")
    ('guest', 'guest', '/', 'localhost', 5672, True)
    """
    assert amqp_url.startswith(("amqp://", "amqps://")), "Only amqp:// and amqps:// protocols are supported."
    scheme, _, rest = amqp_url.partition("://")
    authority, path = _split(rest, "/?#")
    if ("[" in authority) != ("]" in authority):
        raise ValueError("the URL has one of [ and ] before its path: in a user name or password they are %5B and %5D")
    login, has_login, _ = authority.rpartition("@")
    username, has_password, password = login.partition(":")
    host, port = _host_and_port(authority.split("@")[-1])
    # What is behind ? or # has no meaning.
    vhost = _split(path, "?#")[0][1:] if path.startswith("/") else ""
    return (
        unquote(username) if has_login else "guest",
        unquote(password) if has_password else "guest",
        unquote(vhost) or "/",
        unquote(host) or "localhost",
        port or 5672,
        scheme == "amqps",
    )


def _split(text: str, delimiters: str) -> tuple[str, str]:
    """Split the text before the first of the delimiters."""
    place = min((place for place in map(text.find, delimiters) if place >= 0), default=len(text))
    return text[:place], text[place:]


def _host_and_port(text: str) -> tuple[str, int]:
    """Split them; an IPv6 address is in brackets. No port is 0."""
    host = text.split("]")[0][1:] if "[" in text and "]" in text else text.split(":")[0]
    rest = text.split("]")[-1]
    port = int(rest.split(":")[1]) if ":" in rest else 0
    return host.lower(), port


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
