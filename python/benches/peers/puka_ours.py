"""The programs of `puka_peer`, with our drop-in in the place of Puka."""

from __future__ import annotations

import sys

import murano_messaging.compat.puka

sys.modules["puka"] = murano_messaging.compat.puka

from puka_peer import consume, publish, publish_batch, publish_wait  # noqa: E402

__all__ = ["consume", "publish", "publish_batch", "publish_wait"]
