"""What stands in fences of the documents."""

from __future__ import annotations

import pathlib
import re
import textwrap
from typing import NamedTuple, Optional

ROOT = pathlib.Path(__file__).resolve().parent.parent

DOCUMENTS = {
    str(path.relative_to(ROOT)): path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md")]
}


class Block(NamedTuple):
    """One fence."""

    line: int
    """The line of the document that its text begins in."""
    language: str
    title: Optional[str]
    """A file name, in which the text is to be saved."""
    mark: Optional[str]
    """How it is run, from a comment in front of it: ``<!-- run: tls -->``."""
    text: str


def blocks(document: str) -> list[Block]:
    """The fences of a document."""
    text = DOCUMENTS[document].read_text(encoding="utf-8")
    fence = r"^(?:<!-- run: (?P<mark>[\w ]+) -->\n\n?)?^(?P<indent> *)```(?P<info>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$"
    found = []
    for match in re.finditer(fence, text, re.MULTILINE | re.DOTALL):
        language, _, rest = match["info"].partition(" ")
        title = re.search(r'title="([^"]+)"', rest)
        found.append(
            Block(
                text.count("\n", 0, match.start("text")) + 1,
                language,
                title[1] if title else None,
                match["mark"],
                textwrap.dedent(match["text"]),
            )
        )
    return found
