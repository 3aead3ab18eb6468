"""Watching a descriptor for asyncio loops that cannot, as Windows' proactor loop."""

from __future__ import annotations

import asyncio
import selectors
import threading
import weakref

from . import _native


def watch(loop: asyncio.AbstractEventLoop, completions: _native.Completions) -> None:
    """Have a thread tell ``loop`` of what is complete, once for all that is there."""
    name = "murano-messaging-watcher"
    threading.Thread(target=_watch, args=(weakref.ref(loop), completions), name=name, daemon=True).start()


def _watch(reference: weakref.ref[asyncio.AbstractEventLoop], completions: _native.Completions) -> None:
    looked = threading.Event()

    def look() -> None:
        try:
            completions()
        finally:
            looked.set()

    with selectors.DefaultSelector() as selector:
        selector.register(completions.fileno(), selectors.EVENT_READ)
        while True:
            # Nobody tells of the end of a loop.
            ready = selector.select(timeout=1)
            loop = reference()
            if loop is None or loop.is_closed():
                return
            if ready:
                looked.clear()
                try:
                    loop.call_soon_threadsafe(look)
                except RuntimeError:
                    # It was closed just now.
                    return
                while not looked.wait(timeout=1):
                    if loop.is_closed():
                        return
            del loop
