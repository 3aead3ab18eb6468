"""Texts of the core as the command line shows them."""

from __future__ import annotations

import re

# Names of arguments of `connect`, which its errors have, and of options here.
_OPTIONS = {
    "ca_file": "--ca-file",
    "cert_file": "--cert-file",
    "key_file": "--key-file",
    "key_password": "--key-password-file",
    "server_name": "--server-name",
    "pinned": "--pinned",
}


def redacted(text: str) -> str:
    """Take the users with their passwords out of URIs."""
    return re.sub(r"([\w+.-]+://)[^\s:@]*:\S*@", r"\1***@", text)


def one_line(error: BaseException) -> str:
    """An error in one line, with the names of options."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = text.replace(" (queue)", " (--queue)")
    text = re.sub(r"\b(" + "|".join(_OPTIONS) + r")\b", lambda found: _OPTIONS[found[0]], text)
    return redacted(text)
