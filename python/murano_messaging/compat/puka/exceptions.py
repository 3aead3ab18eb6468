"""What goes wrong with connections, and how a frame becomes an error."""

from __future__ import annotations

from typing import Any

from . import spec_exceptions


class ConnectionBroken(OSError):
    """The connection was lost, or could not be made."""


class UnsupportedProtocol(OSError):
    """The peer speaks another version of AMQP."""


def exception_from_frame(result: Any) -> spec_exceptions.AMQPError:
    """Return the exception for a frame with a reply code."""
    known = spec_exceptions.ERRORS.get(result.get("reply_code", 0), spec_exceptions.AMQPError)
    return known(result)


def mark_frame(result: Any, exception: BaseException | None = None) -> Any:
    """Make a frame that of an error."""
    result.is_error = True
    result.exception = exception_from_frame(result) if exception is None else exception
    return result
