"""Frames: results are dicts of the class that belongs to their method (AMQP 0-9-1 and RabbitMQ's extensions)."""

from __future__ import annotations

import ssl
from typing import Any

from . import spec_exceptions
from .exceptions import ConnectionBroken, UnsupportedProtocol, mark_frame

CLASS_BASIC = 60


class Frame(dict):  # type: ignore[type-arg]
    """The result of a promise. Its keys are the fields of the method; they are not attributes."""

    has_content = False
    is_error = False


def _frame(name: str, class_id: int, method_id: int) -> type[Frame]:
    words = name.replace(".", "_").split("_")
    namespace: dict[str, Any] = {"name": name, "method_id": class_id << 16 | method_id, "__module__": __name__}
    if name in ("basic.return", "basic.deliver", "basic.get_ok"):
        namespace.update(has_content=True, class_id=CLASS_BASIC)
    return type("Frame" + "".join(word.capitalize() for word in words), (Frame,), namespace)


FrameConnectionStart = _frame("connection.start", 10, 10)
FrameConnectionClose = _frame("connection.close", 10, 50)
FrameConnectionCloseOk = _frame("connection.close_ok", 10, 51)
FrameChannelClose = _frame("channel.close", 20, 40)
FrameExchangeDeclareOk = _frame("exchange.declare_ok", 40, 11)
FrameExchangeDeleteOk = _frame("exchange.delete_ok", 40, 21)
FrameExchangeBindOk = _frame("exchange.bind_ok", 40, 31)
FrameExchangeUnbindOk = _frame("exchange.unbind_ok", 40, 51)
FrameQueueDeclareOk = _frame("queue.declare_ok", 50, 11)
FrameQueueBindOk = _frame("queue.bind_ok", 50, 21)
FrameQueuePurgeOk = _frame("queue.purge_ok", 50, 31)
FrameQueueDeleteOk = _frame("queue.delete_ok", 50, 41)
FrameQueueUnbindOk = _frame("queue.unbind_ok", 50, 51)
FrameBasicQosOk = _frame("basic.qos_ok", 60, 11)
FrameBasicCancelOk = _frame("basic.cancel_ok", 60, 31)
FrameBasicReturn = _frame("basic.return", 60, 50)
FrameBasicDeliver = _frame("basic.deliver", 60, 60)
FrameBasicGetOk = _frame("basic.get_ok", 60, 71)
FrameBasicGetEmpty = _frame("basic.get_empty", 60, 72)
FrameBasicNack = _frame("basic.nack", 60, 120)


_CODES = {"InvalidArgument": 406, "ConsumerCancelled": 406, "LimitReached": 504}
"""Reply codes for what the engine refuses by itself, where it does not know the broker's."""


def failed(
    kind: str,
    text: str,
    reply: tuple[int, str, int, int] | None,
    returned: Frame | None,
    tls_failure: str | None,
    foreseen: int | None,
) -> Frame:
    """Return the frame of an error of the engine: its kind and text, and what the broker said if it spoke.

    ``foreseen`` is the reply code of a broker that was not asked because it would have refused.
    """
    if returned is not None:
        return _marked(returned)
    if reply is not None and kind != "Authentication":
        return _marked(_refusal(*reply))
    if kind == "Closed":
        return _marked(FrameConnectionCloseOk())
    if kind == "Nacked":
        frame = _replied(FrameBasicNack(), spec_exceptions.PublishNacked.reply_code, text)
        return _marked(frame, spec_exceptions.PublishNacked(frame))
    code = foreseen or _CODES.get(kind)
    if code is not None:
        # Whatever the code, the connection is still there.
        return _marked(_replied(FrameChannelClose(), code, text))
    return _marked(_replied(FrameConnectionClose(), 0, text), _broken(kind, text, tls_failure))


def _marked(frame: Frame, exception: BaseException | None = None) -> Frame:
    marked: Frame = mark_frame(frame, exception)
    return marked


def _refusal(code: int, text: str, class_id: int, method_id: int) -> Frame:
    hard = issubclass(spec_exceptions.ERRORS.get(code, spec_exceptions.AMQPError), spec_exceptions.AMQPHardError)
    return _replied(FrameConnectionClose() if hard else FrameChannelClose(), code, text, class_id, method_id)


def _replied(frame: Frame, code: int, text: str, class_id: int = 0, method_id: int = 0) -> Frame:
    frame.update(reply_code=code, reply_text=text, class_id=class_id, method_id=method_id)
    return frame


def _broken(kind: str, text: str, tls_failure: str | None) -> BaseException:
    """What became of the connection."""
    if kind == "Tls":
        of_the_certificate = tls_failure in ("Expired", "WrongName", "UnknownIssuer", "UnsupportedCertificate")
        return (ssl.SSLCertVerificationError if of_the_certificate else ssl.SSLError)(ssl.SSL_ERROR_SSL, text)
    if kind == "Protocol" and "protocol header" in text:
        return UnsupportedProtocol(text)
    return ConnectionBroken(text)
