"""Where the originals waited: for a broker that is coming up, for the end of an alarm, for a queue about to be declared.

Nothing here waits by blocking the hub of eventlet or gevent.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Callable, Optional

import murano_messaging as mm
from murano_messaging import _green

log = logging.getLogger("murano-common.messaging")

# Kombu's one further attempt to connect came after 2 s. Ours begin 0.25, 0.75, 1.5 and 2.5 s after the first failure.
_CONNECT_FOR = 2.0
_CONNECT_DELAYS = (0.25, 0.5, 0.75, 1.0)

# How long a result waits for its queue: whoever declares it may be about to.
_UNROUTABLE_DELAYS = (0.1, 0.2, 0.4, 0.8)

# Seconds of an alarm after which a wait is told of.
WARN_AFTER = 30.0
# The longest time between two looks at whether there still is an alarm.
_LOOK = 1.0
# A deadline that is none.
_FOREVER = 365 * 86400.0


class _Repeated:
    """What is said once, and then once a minute while it lasts."""

    _PERIOD = 60.0

    def __init__(self) -> None:
        self._said: dict[Any, float] = {}
        self._lock = threading.Lock()

    def is_due(self, what: Any) -> bool:
        now = time.monotonic()
        with self._lock:
            if now - self._said.get(what, -self._PERIOD) < self._PERIOD:
                return False
            if len(self._said) > 1000:
                self._said.clear()
            self._said[what] = now
            return True


_said = _Repeated()


def pause(seconds: float) -> None:
    """Sleep; other green threads run meanwhile, also where nothing is monkey-patched."""
    hub = _green.hub()
    if hub is None:
        time.sleep(seconds)
    else:
        hub.sleep(seconds)


def _is_blip(error: mm.MessagingError) -> bool:
    """Whether another attempt may go better at once: a broker that is starting, or a connection cut in the handshake."""
    if isinstance(error, mm.TlsError):
        # Not a certificate that was refused: a connection that was lost.
        return error.tls_failure == "other"
    return isinstance(error, (mm.ConnectFailedError, mm.ConnectionLostError, mm.ConnectionForcedError))


def connect(make: Callable[[], mm.Client], within: float) -> mm.Client:
    """Connect, at least as patiently as the originals. A refused login fails at once.

    No attempt begins more than ``within`` seconds after the first.
    """
    began = time.monotonic()
    failed = None
    for delay in (*_CONNECT_DELAYS, None):
        try:
            return make()
        except mm.MessagingError as error:
            now = time.monotonic()
            failed = failed or now
            if delay is None or not _is_blip(error) or now - failed >= _CONNECT_FOR or now + delay - began >= within:
                raise
            level = logging.WARNING if _said.is_due(("connect", str(error))) else logging.DEBUG
            log.log(level, "not connected, trying again: %s", error)
        pause(delay)
    raise AssertionError("the last attempt raises or returns")


def publish(
    client: mm.Client,
    body: str,
    timeout: Optional[float],
    operation_timeout: float,
    blocked_timeout: Optional[float],
    **message: Any,
) -> None:
    """Publish and wait for the confirm, at most ``timeout`` seconds if that is given.

    Without a ``timeout`` the end of an alarm is waited for, at most ``blocked_timeout`` seconds if that is given; all
    else ends after ``operation_timeout``. A message that no queue takes is tried again for a moment: its
    queue may be about to be declared.
    """
    began = time.monotonic()
    for delay in (*_UNROUTABLE_DELAYS, None):
        left = None if timeout is None else max(timeout - (time.monotonic() - began), 0)
        try:
            if left is not None:
                client.publish(body, timeout=left, **message)
            else:
                _publish_under_alarms(client, body, operation_timeout, blocked_timeout, message)
            return
        except mm.UnroutableError:
            if delay is None or (timeout is not None and time.monotonic() - began + delay > timeout):
                raise
        pause(delay)


def _publish_under_alarms(
    client: mm.Client, body: str, operation_timeout: float, blocked_timeout: Optional[float], message: dict[str, Any]
) -> None:
    began = time.monotonic()
    if client.blocked and blocked_timeout is not None and blocked_timeout <= operation_timeout:
        # Nothing is queued that is to be given up at once.
        client.publish(body, timeout=blocked_timeout, **message)
        return
    confirmation = client.publish_nowait(body, timeout=_FOREVER, **message)
    # When an answer is overdue, if there is no alarm.
    overdue = began + operation_timeout
    try:
        while True:
            try:
                mm.wait_all([confirmation], timeout=max(min(_LOOK, overdue - time.monotonic()), 0))
                return
            except mm.OperationTimeoutError:
                now = time.monotonic()
            waited = now - began
            if client.blocked:
                overdue = now + operation_timeout
                if blocked_timeout is not None and waited >= blocked_timeout:
                    raise _given_up(mm.BlockedError, message, waited, "the broker takes no messages (an alarm)")
                if waited >= WARN_AFTER and _said.is_due("blocked"):
                    log.warning(
                        "message %r to %r has waited for %.0f s: the broker takes none (an alarm of memory or disk)",
                        message.get("message_id"),
                        message.get("routing_key"),
                        waited,
                    )
            elif now >= overdue:
                raise _given_up(mm.OperationTimeoutError, message, waited, "the broker does not answer")
    except BaseException:
        # Not sent again after this, and nobody is told of its outcome.
        confirmation.cancel()
        raise


def _given_up(kind: type[mm.MessagingError], message: dict[str, Any], waited: float, why: str) -> mm.MessagingError:
    error = kind(
        f"message {message.get('message_id')!r} to {message.get('routing_key')!r} was not confirmed within"
        f" {waited:.0f} s: {why}; it may arrive all the same"
    )
    # It may be on the wire, or in the broker's buffers.
    error.outcome_unknown = True
    return error
