"""What goes wrong, in the words of who configures Murano: there it is ``host``, ``port`` and ``ca_certs``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Union

import murano_messaging as mm

Host = Union[str, Iterable[Any]]

_TLS = {
    "unknown_issuer": (
        "the broker's certificate was issued by none of the authorities in ca_certs: name a PEM file there that has the"
        " authority which issued it, or the broker's own certificate"
    ),
    "client_certificate_required": (
        "the broker wants a client certificate, which these arguments cannot name: use MqClient.from_url with cert_file"
        " and key_file, or set fail_if_no_peer_cert = false in the broker's ssl_options"
    ),
}
_WITHOUT_CA_CERTS = (
    "the broker's certificate was issued by none of the authorities that this system trusts: name its authority, a PEM"
    " file, as ca_certs"
)


def in_words_of_murano(error: mm.MessagingError, ca_certs: Any) -> mm.MessagingError:
    """Return the error for the arguments of a constructor, which have other names than those of ``connect``."""
    text = str(error)
    failure = getattr(error, "tls_failure", None)
    known = _TLS.get(failure or "")
    if known is not None:
        if failure == "unknown_issuer" and not ca_certs:
            known = _WITHOUT_CA_CERTS
        where, found, _ = text.partition(": TLS failed: ")
        text = f"{where}{found}{known}" if found else known
    else:
        text = text.replace("the CA file", "the file that ca_certs names,").replace("ca_file", "ca_certs")
    if text == str(error):
        return error
    ours = type(error)(text)
    ours.__dict__.update(error.__dict__)
    return ours


def port_number(port: Union[int, str]) -> int:
    """Return a port that may be text."""
    text = str(port).strip()
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise mm.InvalidArgumentError(f"port is {port!r}: give a number up to 65535")
    return int(text)


def hosts(host: Host, port: int) -> list[tuple[str, int]]:
    """Return hosts as ``connect`` takes them: one, or several in a sequence or with commas, with ports of their own."""
    return [_host(one, port) for one in (host.split(",") if isinstance(host, str) else host)]


def _host(given: Any, port: int) -> tuple[str, int]:
    if not isinstance(given, str):
        name, own = given
        return name, port_number(own)
    name = given.strip()
    if name.startswith("["):
        name, bracket, rest = name[1:].partition("]")
        whole = bool(bracket) and (not rest or rest.startswith(":"))
    else:
        # More colons are those of an IPv6 address.
        name, colon, rest = name.partition(":") if name.count(":") == 1 else (name, "", "")
        rest, whole = colon + rest, True
    own = rest[1:]
    if not name or not whole or any(c in "/@ \t\n" for c in name) or (rest and not (own.isascii() and own.isdigit())):
        # What is before an @ may be a password.
        shown = given.rpartition("@")[2]
        raise mm.InvalidArgumentError(
            f"{shown!r} is not a host: give name, name:port or [IPv6]:port as host, several with commas between"
        )
    return name, port_number(own) if rest else port
