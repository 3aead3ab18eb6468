"""Taking tokens and passwords out of what is to be logged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class TokenSanitizer:
    """Replaces the values whose names look like those of secrets."""

    def __init__(self, tokens: Iterable[str] = ("token", "pass"), message: str = "*** SANITIZED ***") -> None:
        """Take what the names of secrets contain, and what the secrets are replaced by."""
        self._tokens = tokens
        self._message = message

    @property
    def tokens(self) -> Iterable[str]:
        """What the names of secrets contain."""
        return self._tokens

    @property
    def message(self) -> str:
        """What the secrets are replaced by."""
        return self._message

    def _contains_token(self, name: Any) -> bool:
        if isinstance(name, bytes):
            name = name.decode("latin-1")
        return isinstance(name, str) and any(token.lower() in name.lower() for token in self.tokens)

    def sanitize(self, obj: Any) -> Any:
        """Return ``obj`` with its secrets replaced: in dicts, lists and ``(key, value)`` tuples at any depth."""
        if isinstance(obj, dict):
            return dict(self.sanitize(item) for item in obj.items())
        if isinstance(obj, list):
            return [self.sanitize(item) for item in obj]
        if isinstance(obj, tuple) and len(obj) == 2:
            key, value = obj
            if self._contains_token(key) and isinstance(value, (str, bytes, bytearray)):
                return key, self.message
            return key, self.sanitize(value)
        return obj
