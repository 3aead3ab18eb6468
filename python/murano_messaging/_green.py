"""Waiting under eventlet and gevent: the green thread switches to its hub, which resumes it when it may go on.

Each hub watches one descriptor, however many green threads wait.
"""

from __future__ import annotations

import sys
from typing import Any, Callable

from ._native import Completions

_EVENTLET_PARTS = ("socket", "select", "thread")
_GEVENT_PARTS = ("socket", "select", "threading")

# Whether green threads of eventlet yield where nothing is monkey-patched: eventlet.patcher's import_patched did that.
without_patching = False


class _EventletHub:
    """Waiting in one hub of eventlet."""

    def __init__(self, hub: Any) -> None:
        self.completions = Completions()
        self._hub = hub
        self._watched = False
        hub.add(hub.READ, self.completions.fileno(), self._ready, self._closed, lambda: None)

    def wait(self, number: int, background: bool) -> None:  # noqa: ARG002 (only gevent's hubs end by themselves)
        """Wait until ``number`` is complete, or something is thrown into this green thread."""
        self.completions.register(number, _getcurrent())
        if not self._watched:
            self._watched = True
            self._hub.schedule_call_global(Completions.LONG, self._watch)
        try:
            self._hub.switch()
        finally:
            self.completions.forget(number)

    @staticmethod
    def give_way() -> None:
        """Let the others run."""
        import eventlet

        eventlet.sleep(0)

    @staticmethod
    def sleep(seconds: float) -> None:
        """Let the others run for so long."""
        import eventlet

        eventlet.sleep(seconds)

    def _ready(self, _descriptor: int) -> None:
        self.completions.begin()
        self._resume()

    def _resume(self) -> None:
        # One at a time: a green thread that goes on may kill another that is ready too.
        while (waiter := self.completions.next()) is not None:
            try:
                waiter.switch()
            except self._hub.SYSTEM_EXCEPTIONS:
                # It ends the hub's turn: those behind it go on in the next.
                self._hub.schedule_call_global(0, self._resume)
                raise
            except BaseException:
                # A green thread that ends with an error raises it here. The hub would take it for ours, and watch the
                # descriptor no more.
                self._hub.squelch_generic_exception(sys.exc_info())

    def _watch(self) -> None:
        self._watched = self.completions.look_after_waiting()
        if self._watched:
            self._hub.schedule_call_global(Completions.LONG, self._watch)
        else:
            self._resume()

    def _closed(self, *_: Any) -> None:
        """The hub was told that the descriptor was closed: it was not, it is only ours to close."""


class _GeventHub:
    """Waiting in one hub of gevent."""

    def __init__(self, hub: Any) -> None:
        self.completions = Completions()
        self._hub = hub
        self._waiting = 0
        # Without a reference: it does not keep the hub from finding that it is done.
        self._watcher = hub.loop.io(self.completions.fileno(), 1, ref=False)
        self._watcher.start(self._ready)
        self._timer = hub.loop.timer(Completions.LONG, Completions.LONG, ref=False)

    def wait(self, number: int, background: bool) -> None:
        """Wait until ``number`` is complete, or something is thrown into this green thread.

        What waits in the background is nothing that the hub has left to do, unless it is what the thread itself does.
        """
        current = _getcurrent()
        background = background and current.parent is not None
        self.completions.register(number, current)
        if not self._timer.active:
            self._timer.start(self._watch)
        if not background:
            self._waiting += 1
            self._watcher.ref = True
        try:
            self._hub.switch()
        finally:
            if not background:
                self._waiting -= 1
                self._watcher.ref = self._waiting > 0
            self.completions.forget(number)

    @staticmethod
    def give_way() -> None:
        """Let the others run."""
        import gevent

        gevent.sleep(0)

    @staticmethod
    def sleep(seconds: float) -> None:
        """Let the others run for so long."""
        import gevent

        gevent.sleep(seconds)

    def _watch(self) -> None:
        if not self.completions.look_after_waiting():
            self._timer.stop()
            self._resume()

    def _ready(self) -> None:
        self.completions.begin()
        self._resume()

    def _resume(self) -> None:
        while (waiter := self.completions.next()) is not None:
            try:
                waiter.switch()
            except BaseException:
                # A green thread that ends with an error raises it here. The loop would take it for ours, and watch the
                # descriptor no more.
                self._hub.handle_error(waiter, *sys.exc_info())


def _getcurrent() -> Any:
    import greenlet

    return greenlet.getcurrent()


def _patched_eventlet_hub() -> Any:
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is None:
        return None
    if not without_patching and not any(patcher.is_monkey_patched(part) for part in _EVENTLET_PARTS):
        return None
    from eventlet import hubs

    # One that nobody has made has no green threads to yield to.
    return getattr(hubs._threadlocal, "hub", None)


def _patched_gevent_hub() -> Any:
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not any(monkey.is_module_patched(part) for part in _GEVENT_PARTS):
        return None
    from gevent._hub_local import get_hub_if_exists

    return get_hub_if_exists()


def spawner(main: bool) -> Callable[..., Any] | None:
    """Return what starts a green thread in the hub of this thread; ``None`` in a thread without one.

    The main thread gets its hub here if nobody made it yet; another may be one of a pool, which never runs a hub.
    """
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("thread"):
        import eventlet
        from eventlet import hubs

        if main or hasattr(hubs._threadlocal, "hub"):
            return eventlet.spawn  # type: ignore[no-any-return]
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        import gevent
        from gevent._hub_local import get_hub_if_exists

        if main or get_hub_if_exists() is not None:
            return gevent.spawn  # type: ignore[no-any-return]
    return None


def start_native() -> Callable[..., Any] | None:
    """Return what starts a native thread where ``threading`` starts green ones."""
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("thread"):
        return patcher.original("_thread").start_new_thread  # type: ignore[no-any-return]
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        return monkey.get_original("_thread", "start_new_thread")  # type: ignore[no-any-return]
    return None


def hub() -> _EventletHub | _GeventHub | None:
    """Return where this green thread waits; ``None`` for a thread that just blocks."""
    native = _patched_eventlet_hub()
    kind: Any = _EventletHub
    if native is None:
        native = _patched_gevent_hub()
        kind = _GeventHub
    if native is None or _getcurrent() is getattr(native, "greenlet", native):
        # The hub itself cannot wait for itself.
        return None
    ours: _EventletHub | _GeventHub = _ours(native, kind)
    return ours


def imported_hub() -> _EventletHub | None:
    """Return where a module waits that was imported with eventlet's green modules, monkey-patched or not."""
    from eventlet import hubs

    native = hubs.get_hub()
    if _getcurrent() is native.greenlet:
        return None
    ours: _EventletHub = _ours(native, _EventletHub)
    return ours


def _ours(native: Any, kind: Any) -> Any:
    # Kept in the hub itself: thread-locals are local to green threads when they are monkey-patched.
    known = getattr(native, "_murano_messaging", None)
    if known is None or known.completions.inherited:
        known = native._murano_messaging = kind(native)
    return known
