"""How long a sender waits: the timeout of a call, and the retries of oslo.messaging."""

from __future__ import annotations

import time
from typing import Any, Optional

import oslo_messaging

from .. import MessagingError
from .errors import failure

#: For ever, as the client below takes it: three years.
FOREVER = 1e8

#: How long one attempt may take at a broker that cannot be reached, in seconds.
ATTEMPT = 1.5

#: How long a broker that can be reached has for its confirm, where the caller counts attempts, in seconds.
CONFIRM = 30.0

#: How long a declaration may take before it is tried again, in seconds.
OPERATION = 30.0


class Patience:
    """Until when a message is tried.

    ``timeout`` is in seconds. ``retry`` counts attempts at a broker that is away, as the driver rabbit makes them, and is
    for ever if it is ``None`` or -1.
    """

    def __init__(
        self,
        what: str,
        timeout: Optional[float] = None,
        retry: Optional[int] = None,
        intervals: tuple[float, float, float] = (1, 2, 30),
    ) -> None:
        """Begin to wait."""
        now = time.monotonic()
        self._what = what
        self._timeout = timeout
        self._deadline = None if timeout is None else now + timeout
        self._away_until: Optional[float] = None
        if retry is not None and retry >= 0:
            start, step, most = intervals
            self._away_until = now + ATTEMPT + sum(min(start + n * step, most) for n in range(retry))

    @property
    def counts_attempts(self) -> bool:
        """Whether it ends after some time without a broker."""
        return self._away_until is not None

    def left(self) -> float:
        """Return the seconds that are left of the timeout; 0 at the least."""
        if self._deadline is None:
            return FOREVER
        return max(self._deadline - time.monotonic(), 0.0)

    def left_away(self) -> float:
        """Return the seconds that are left as long as the broker is away."""
        if self._away_until is None:
            return self.left()
        return max(min(self.left(), self._away_until - time.monotonic()), 0.0)

    def operation(self) -> float:
        """Return the seconds that a declaration may take."""
        return min(self.left_away(), OPERATION)

    @property
    def over(self) -> bool:
        """Whether the timeout has passed."""
        return self.left() <= 0

    def ended(self, error: Optional[MessagingError] = None) -> Any:
        """Return the exception for an end without an answer."""
        reason = f": {error}" if error is not None else ""
        if self._deadline is not None and self.over:
            raised = oslo_messaging.MessagingTimeout(f"{self._what} timed out after {self._timeout} s{reason}")
        elif error is not None:
            return failure(self._what, error)
        else:
            raised = oslo_messaging.MessageDeliveryFailure(f"{self._what}: the broker cannot be reached")
        raised.__cause__ = error
        return raised
