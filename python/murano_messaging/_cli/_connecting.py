"""How commands connect: the URI, the password, TLS."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from typing import Any
from urllib.parse import unquote

import murano_messaging as mm

FROM_ENVIRONMENT = "env:AMQP_URL"


class Failure(Exception):  # noqa: N818
    """What a command cannot do, and what to do about it: one line."""


def is_uri(word: str) -> bool:
    """Whether a word of the command line is the URI."""
    return word == FROM_ENVIRONMENT or word.startswith(("amqp://", "amqps://", "memory://"))


def _uri(word: str) -> str:
    if not is_uri(word):
        # What is before an @ may be a password.
        shown = word.rpartition("@")[2]
        raise argparse.ArgumentTypeError(
            f"{shown!r} is no URI: give amqp://user@host/vhost (amqps:// for TLS) first, or set AMQP_URL"
        )
    return word


def seconds(text: str) -> float:
    """A positive number of seconds."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return number


def count(text: str) -> int:
    """A whole number above 0."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def options() -> argparse.ArgumentParser:
    """The URI and the options of every command that connects, as a parent of its parser."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument(
        "uri",
        metavar="URI",
        type=_uri,
        help="amqp://user@host:port/vhost, or amqps:// for TLS; from the environment variable AMQP_URL if left out",
    )
    group = parent.add_argument_group("connecting")
    group.add_argument("--username", help="the user, instead of the one in the URI")
    group.add_argument(
        "--password-file",
        metavar="FILE",
        help="a file with the password in its first line; - is standard input. So the password is in no list of"
        " processes",
    )
    group.add_argument("--ask-password", action="store_true", help="ask for the password at the terminal")
    group.add_argument(
        "--mechanism",
        choices=("plain", "amqplain", "external"),
        help="how to log in (external: by the client certificate)",
    )
    group.add_argument(
        "--ca-file", metavar="FILE", help="trust the CA in this PEM file instead of the system's (amqps://)"
    )
    group.add_argument("--system-roots", action="store_true", default=None, help="trust the system's CAs too")
    group.add_argument("--cert-file", metavar="FILE", help="the client's certificate (PEM)")
    group.add_argument("--key-file", metavar="FILE", help="the key of the client's certificate (PEM)")
    group.add_argument("--key-password-file", metavar="FILE", help="a file with the password of that key")
    group.add_argument("--server-name", metavar="NAME", help="the name to expect in the broker's certificate")
    group.add_argument(
        "--pinned", action="store_true", default=None, help="accept the very certificate that is in --ca-file"
    )
    group.add_argument(
        "--insecure", action="store_true", default=None, help="accept any certificate: anyone in between can read all"
    )
    group.add_argument(
        "--timeout",
        type=seconds,
        default=10.0,
        metavar="SECONDS",
        help="how long connecting, and each operation, may take (default: 10)",
    )
    group.add_argument("-v", "--verbose", action="store_true", help="log what happens to standard error")
    return parent


def _first_line(path: str, what: str) -> str:
    try:
        if path == "-":
            line = sys.stdin.readline()
        else:
            with open(path, encoding="utf-8") as file:
                line = file.readline()
    except OSError as error:
        raise Failure(f"the file of the {what} cannot be read: {error}") from None
    except UnicodeDecodeError:
        raise Failure(f"the file of the {what}, {path}, is not UTF-8") from None
    line = line.rstrip("\r\n")
    if not line:
        raise Failure(f"the file of the {what} is empty: its first line must be the {what}")
    return line


def _user_of(uri: str) -> str:
    authority = uri.partition("://")[2].partition("/")[0]
    user = authority.partition("@")[0].partition(":")[0] if "@" in authority else ""
    return unquote(user) or "guest"


def user(arguments: argparse.Namespace) -> str:
    """Return the user who logs in."""
    uri = os.environ.get("AMQP_URL", "") if arguments.uri == FROM_ENVIRONMENT else arguments.uri
    return str(arguments.username or _user_of(uri))


def given(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Return the URI and the keyword arguments for ``connect``."""
    uri: str = arguments.uri
    if uri == FROM_ENVIRONMENT:
        uri = os.environ.get("AMQP_URL", "")
        if not is_uri(uri) or uri == FROM_ENVIRONMENT:
            raise Failure("AMQP_URL is no URI: set it to amqp://user@host/vhost")
    names = ("ca_file", "system_roots", "cert_file", "key_file", "server_name", "pinned", "insecure", "mechanism")
    found = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    password = None
    if arguments.password_file and arguments.ask_password:
        raise Failure("--password-file and --ask-password are both given: leave out one")
    if arguments.password_file:
        password = _first_line(arguments.password_file, "password")
    elif arguments.ask_password:
        password = getpass.getpass("Password: ")
    elif arguments.username:
        raise Failure("--username goes with --password-file or --ask-password")
    if password is not None:
        found["username"] = arguments.username or _user_of(uri)
        found["password"] = password
    if arguments.key_password_file:
        found["key_password"] = _first_line(arguments.key_password_file, "key's password")
    found["connect_timeout"] = found["timeout"] = arguments.timeout
    found["connection_name"] = f"murano-messaging {arguments.command}"
    return uri, found


def connect(arguments: argparse.Namespace, **more: Any) -> mm.Client:
    """Connect as the command line says."""
    uri, found = given(arguments)
    return mm.connect(uri, **{**found, **more})
