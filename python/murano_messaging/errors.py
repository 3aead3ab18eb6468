"""What can go wrong: one base class, and one class per kind of error.

Catch :class:`MessagingError` for all of it, or a class below. Each also derives from the built-in exception that fits,
so that ``except ConnectionError`` and ``except TimeoutError`` work. No error contains a password.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._types import Returned

__all__ = [
    "AccessRefusedError",
    "AlreadySettledError",
    "AuthenticationError",
    "BlockedError",
    "ClosedError",
    "ConnectFailedError",
    "ConnectionForcedError",
    "ConnectionLostError",
    "ConsumerCancelledError",
    "ForkedError",
    "InvalidArgumentError",
    "JsonError",
    "LimitReachedError",
    "MessagingError",
    "NackedError",
    "NotFoundError",
    "OperationTimeoutError",
    "PreconditionFailedError",
    "ProtocolError",
    "PublishCancelledError",
    "RefusedError",
    "RemoteError",
    "ResourceLockedError",
    "TlsError",
    "UnroutableError",
    "VhostRefusedError",
]


class MessagingError(Exception):
    """The base of all errors of this package."""

    reply_code: int | None = None
    """The AMQP reply code, e.g. 404, where the broker spoke."""
    reply_text: str | None = None
    """The broker's text, e.g. ``NOT_FOUND - no queue 'x' in vhost '/'``, where the broker spoke."""
    outcome_unknown: bool = False
    """Whether the operation may have taken effect all the same: a publish that was written and not confirmed."""


class InvalidArgumentError(MessagingError, ValueError):
    """The caller asked for something that cannot be; nothing was sent."""


class ConnectFailedError(MessagingError, ConnectionError):
    """No host could be reached, or none answered within the connect timeout."""


class ConnectionLostError(MessagingError, ConnectionError):
    """The connection was lost and is not being recovered."""


class ConnectionForcedError(MessagingError, ConnectionError):
    """The broker closed the connection on purpose (320) and it is not being recovered."""


class ClosedError(MessagingError, ConnectionError):
    """The client was closed by its owner."""


class PublishCancelledError(MessagingError):
    """The publish was cancelled by its owner; ``outcome_unknown`` says whether the broker may have taken it."""


class AuthenticationError(MessagingError, PermissionError):
    """The broker refused the login."""


class VhostRefusedError(MessagingError, PermissionError):
    """The virtual host does not exist, or the user may not enter it."""


class LimitReachedError(MessagingError, ConnectionError):
    """A limit on connections or channels was reached."""


class TlsError(MessagingError, ConnectionError):
    """The TLS handshake failed."""

    tls_failure: str | None = None
    """Which check failed: ``expired``, ``wrong_name``, ``unknown_issuer``, ``unsupported_certificate``,
    ``protocol_version``, ``nothing_in_common``, ``client_certificate_required``, ``client_certificate_refused``,
    ``not_tls`` or ``other``."""


class OperationTimeoutError(MessagingError, TimeoutError):
    """The deadline passed. For a publish the outcome is unknown."""


class BlockedError(MessagingError, TimeoutError):
    """The broker blocks publishers (a memory or disk alarm) and the deadline passed."""


class UnroutableError(MessagingError):
    """A mandatory message could not be routed: no queue took it."""

    returned: Returned | None = None
    """The message as it came back."""


class NackedError(MessagingError):
    """The broker refused responsibility for a message (``basic.nack``)."""


class NotFoundError(MessagingError, LookupError):
    """404: no such queue or exchange."""


class AccessRefusedError(MessagingError, PermissionError):
    """403: permission denied, or the queue is in exclusive use by another consumer."""


class ResourceLockedError(MessagingError, PermissionError):
    """405: the queue is exclusive to another connection."""


class PreconditionFailedError(MessagingError):
    """406: the queue or exchange exists with other properties, or a consumer took too long to ack."""


class RefusedError(MessagingError):
    """The broker refused for another reason; ``reply_code`` has the code."""


class ConsumerCancelledError(MessagingError):
    """The broker cancelled the consumer: its queue was deleted, or its node failed."""


class RemoteError(MessagingError):
    """A remote method raised, or the server does not have it (``NoSuchMethod``, ``UnsupportedVersion``).

    ``args`` are the arguments of the exception.
    """

    class_name: str = ""
    """The class of the exception, e.g. ``ValueError``."""
    module: str = ""
    """The module that has the class, e.g. ``builtins``."""
    message: str = ""
    """The text of the exception."""
    kwargs: dict[str, Any]
    """The named arguments of the exception, where its class keeps them."""
    traceback: list[str]
    """The lines of its traceback at the server."""

    def __init__(self, *args: Any) -> None:
        """Take the arguments of the exception; the core sets the rest."""
        super().__init__(*args)
        self.kwargs = {}
        self.traceback = []

    def __str__(self) -> str:
        """Return the class and the text, as the last line of a traceback has them."""
        if not self.class_name:
            return super().__str__()
        name = self.class_name if self.module == "builtins" else f"{self.module}.{self.class_name}"
        return f"{name}: {self.message}"


class AlreadySettledError(MessagingError, RuntimeError):
    """The delivery was acked, nacked or rejected before."""


class ProtocolError(MessagingError, ConnectionError):
    """The peer broke the protocol, or a bound; the message names it."""


class JsonError(MessagingError, ValueError):
    """A body is not JSON, or cannot be."""


class ForkedError(MessagingError, RuntimeError):
    """A client was used in a forked child of the process that made it.

    Also when the thread that drove its connections was ended from outside. A new client works in both.
    """
