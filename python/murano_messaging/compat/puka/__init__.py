"""The interface of Puka 0.0.8, and of the Murano fork of it, on the engine of murano_messaging.

``import puka`` gives the same after ``pip install murano-messaging``. What differs from Puka is listed in
``docs/puka.md``.
"""

from __future__ import annotations

from .._warnings import InsecureTLSWarning
from ._loop import loop
from .client import Client
from .connection import SslConnectionParameters
from .exceptions import ConnectionBroken
from .spec_exceptions import (
    ERRORS,
    AccessRefused,
    AMQPError,
    AMQPHardError,
    AMQPNotImplemented,
    AMQPSoftError,
    AMQPSyntaxError,
    ChannelError,
    CommandInvalid,
    ConnectionForced,
    ContentTooLarge,
    FrameError,
    InternalError,
    InvalidPath,
    NoConsumers,
    NoRoute,
    NotAllowed,
    NotFound,
    PreconditionFailed,
    PublishNacked,
    ResourceError,
    ResourceLocked,
    UnexpectedFrame,
)

__all__ = [
    "ERRORS",
    "AMQPError",
    "AMQPHardError",
    "AMQPNotImplemented",
    "AMQPSoftError",
    "AMQPSyntaxError",
    "AccessRefused",
    "ChannelError",
    "Client",
    "CommandInvalid",
    "ConnectionBroken",
    "ConnectionForced",
    "ContentTooLarge",
    "FrameError",
    "InsecureTLSWarning",
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
    "SslConnectionParameters",
    "UnexpectedFrame",
    "loop",
]
