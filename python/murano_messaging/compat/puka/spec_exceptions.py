"""What brokers refuse with: a class for each reply code of AMQP 0-9-1 (section 1.2)."""

from __future__ import annotations

__all__ = [
    "ERRORS",
    "AMQPError",
    "AMQPHardError",
    "AMQPNotImplemented",
    "AMQPSoftError",
    "AMQPSyntaxError",
    "AccessRefused",
    "ChannelError",
    "CommandInvalid",
    "ConnectionForced",
    "ContentTooLarge",
    "FrameError",
    "InternalError",
    "InvalidPath",
    "NoConsumers",
    "NoRoute",
    "NotAllowed",
    "NotFound",
    "PreconditionFailed",
    "PublishNacked",
    "ResourceError",
    "ResourceLocked",
    "UnexpectedFrame",
]


class AMQPError(Exception):
    """The base of these errors; ``args[0]`` is the frame."""


class AMQPSoftError(AMQPError):
    """An operation was refused; the client goes on."""


class AMQPHardError(AMQPError):
    """The connection was closed."""


class PublishNacked(AMQPSoftError):
    """The broker refused responsibility for a message (``basic.nack``), which has no reply code: 0 is none."""

    reply_code = 0


class ContentTooLarge(AMQPSoftError):
    reply_code = 311


class NoRoute(AMQPSoftError):
    reply_code = 312


class NoConsumers(AMQPSoftError):
    reply_code = 313


class AccessRefused(AMQPSoftError):
    reply_code = 403


class NotFound(AMQPSoftError):
    reply_code = 404


class ResourceLocked(AMQPSoftError):
    reply_code = 405


class PreconditionFailed(AMQPSoftError):
    reply_code = 406


class ConnectionForced(AMQPHardError):
    reply_code = 320


class InvalidPath(AMQPHardError):
    reply_code = 402


class FrameError(AMQPHardError):
    reply_code = 501


class AMQPSyntaxError(AMQPHardError):
    reply_code = 502


class CommandInvalid(AMQPHardError):
    reply_code = 503


class ChannelError(AMQPHardError):
    reply_code = 504


class UnexpectedFrame(AMQPHardError):
    reply_code = 505


class ResourceError(AMQPHardError):
    reply_code = 506


class NotAllowed(AMQPHardError):
    reply_code = 530


class AMQPNotImplemented(AMQPHardError):
    reply_code = 540


class InternalError(AMQPHardError):
    reply_code = 541


ERRORS = {
    error.reply_code: error
    for error in (
        ContentTooLarge,
        NoRoute,
        NoConsumers,
        AccessRefused,
        NotFound,
        ResourceLocked,
        PreconditionFailed,
        ConnectionForced,
        InvalidPath,
        FrameError,
        AMQPSyntaxError,
        CommandInvalid,
        ChannelError,
        UnexpectedFrame,
        ResourceError,
        NotAllowed,
        AMQPNotImplemented,
        InternalError,
    )
}
"""The class of each reply code."""
