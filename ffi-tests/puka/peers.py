"""What programs run with."""

from __future__ import annotations

import os


def environment(own: bool) -> dict[str, str]:
    """Ours is found where the tests find it; Puka where pip has put it."""
    known = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if not own:
        known.pop("PYTHONPATH", None)
    return known
