"""URLs, as the standard library parses them."""

from __future__ import annotations

from urllib.parse import *  # noqa: F403
from urllib.parse import __all__ as __all__
