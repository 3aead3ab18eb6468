"""Warnings of the drop-in packages."""

from __future__ import annotations


class InsecureTLSWarning(UserWarning):
    """A TLS connection whose peer is not verified, as the original package had it."""
