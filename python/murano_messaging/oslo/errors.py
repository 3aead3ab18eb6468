"""What callers of oslo.messaging are told."""

from __future__ import annotations

from typing import Any

import oslo_messaging

from .. import MessagingError


class QueueGoneError(oslo_messaging.MessageUndeliverable, oslo_messaging.MessageDeliveryFailure):  # type: ignore[misc]
    """No queue took the message. Callers may catch either base: only the second one is a ``MessagingException``."""

    def __str__(self) -> str:
        """Say which message and why."""
        return (
            f"no queue took a message of exchange '{self.exchange}', routing key '{self.routing_key}': {self.exception}"
        )


def failure(what: str, error: MessagingError) -> Any:
    """Return the exception of a message that was not delivered."""
    unknown = " (it may have been delivered all the same)" if error.outcome_unknown else ""
    raised = oslo_messaging.MessageDeliveryFailure(f"{what}: {error}{unknown}")
    raised.__cause__ = error
    return raised
