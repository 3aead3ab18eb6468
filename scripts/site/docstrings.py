"""Docstrings in the site: the little reStructuredText that they have becomes Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Changes each docstring when it was read."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of a module, a class, a function or an attribute."""
        if obj.docstring is not None and not isinstance(obj, griffe.Alias):
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    """Roles become code, sessions of the interpreter become fences."""
    text = re.sub(r":[a-z]+:`~?([^`]+)`", r"`\1`", text)
    out: list[str] = []
    session = False
    for line in text.split("\n"):
        begins = line.startswith(">>> ")
        if begins and not session:
            out += ["", "```pycon"]
            session = True
        elif session and not line.strip():
            out.append("```")
            session = False
        out.append(line)
    if session:
        out.append("```")
    return "\n".join(out)
