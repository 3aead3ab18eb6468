"""Requests and notifications that have arrived, as oslo.messaging's servers take them."""

from __future__ import annotations

import logging
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any, Optional

import oslo_messaging
from oslo_messaging._drivers import base, common

import murano_messaging as mm

from . import publishing
from .body import Message, encode
from .patience import Patience

if TYPE_CHECKING:
    from .listener import Listener

LOG = logging.getLogger(__name__)

#: How long a reply may take whose request does not say how long its caller waits, in seconds.
REPLY = 60.0


class LostDeliveryError(RuntimeError):
    """The message is not this server's any more: the broker delivers it again."""


class RpcIncoming(base.RpcIncomingMessage):  # type: ignore[misc]
    """A request."""

    def __init__(
        self,
        listener: Listener,
        delivery: mm.Delivery,
        context: Any,
        message: dict[str, Any],
        unique_id: Optional[str],
    ) -> None:
        """Take a request that was delivered."""
        super().__init__(context.to_dict(), message, context.msg_id)
        self.client_timeout = context.client_timeout
        self._listener = listener
        self._delivery = delivery
        self._unique_id = unique_id
        # A cast has none, and is given an id of its own by the base.
        self._request_id = context.msg_id
        self._reply_q = context.reply_q
        self._came = time.monotonic()

    def acknowledge(self) -> None:
        """Take the request, just before its method is called; raises for one that must not be called."""
        ack_on = self._listener.ack_on
        if ack_on == "receipt":
            return
        if self._delivery.stale:
            raise LostDeliveryError(f"request {self.msg_id} was lost with its connection, and is delivered again")
        duplicates = self._listener.duplicates
        if not duplicates.begin(self._unique_id, self._delivery):
            raise LostDeliveryError(f"request {self.msg_id} has come twice")
        if ack_on == "dispatch":
            self._delivery.ack()
            duplicates.end(self._unique_id)

    def requeue(self) -> None:
        """Do nothing: requests are not put back."""

    def reply(self, reply: Any = None, failure: Any = None) -> None:
        """Send what the method has returned or raised. Servers call this for casts too, which have no reply."""
        try:
            if self._request_id:
                self._reply(reply, failure)
        finally:
            if self._listener.ack_on == "done":
                self._delivery.ack()
                self._listener.duplicates.end(self._unique_id)

    def _reply(self, reply: Any, failure: Any) -> None:
        gone = self._listener.driver.gone_queues
        if not gone.reply_q_valid(self._reply_q, self.msg_id):
            return
        try:
            message = self._encode(reply, failure)
        except Exception:
            # The caller is to hear of it, not to wait for a result that cannot be sent.
            LOG.exception("The result of request %s cannot be encoded", self.msg_id)
            message = self._encode(None, sys.exc_info())
        sending = Sending(self, message)
        if not sending.begin(wait=self._listener.ack_on == "done"):
            self._listener.driver.late_replies.add(sending.go_on)

    def _patience(self) -> Patience:
        # After that nobody waits for it.
        limit = self._delivery.expiration or REPLY
        return Patience(f"the reply to {self.msg_id}", max(limit - (time.monotonic() - self._came), 1.0))

    def _refusal(self, error: mm.MessagingError) -> Message:
        """Return the reply that says that the other one was refused."""
        try:
            raise oslo_messaging.MessageDeliveryFailure(f"the reply was refused by the broker: {error}")
        except oslo_messaging.MessageDeliveryFailure:
            return self._encode(None, sys.exc_info())

    def _encode(self, reply: Any, failure: Any, ending: bool = True) -> Message:
        if failure:
            failure = common.serialize_remote_exception(failure)
        fields = {
            "result": reply,
            "failure": failure,
            "ending": ending,
            "_msg_id": self.msg_id,
            "_unique_id": uuid.uuid4().hex,
        }
        return encode(fields, self._listener.settings.compression)

    def heartbeat(self) -> None:
        """Tell the caller that the method is still being called."""
        message = self._encode(None, None, ending=False)
        patience = Patience("a heartbeat", float(self.client_timeout or REPLY))
        try:
            publishing.to_queue(self._listener.connection, self._reply_q, message, patience)
        except mm.MessagingError as error:
            raise oslo_messaging.MessageDeliveryFailure(f"Heartbeat send failed: {error}") from error


class Sending:
    """A reply on its way."""

    def __init__(self, request: RpcIncoming, message: Message) -> None:
        """Prepare to send it."""
        self._request = request
        self._listener = request._listener
        self._message = message
        self._queue = request._reply_q
        self._patience = request._patience()
        self._retry_until = time.monotonic() + self._listener.settings.missing_consumer_retry
        self._confirmation: Optional[mm.Confirmation] = None
        self._is_refusal = False

    def begin(self, wait: bool) -> bool:
        """Send it; with ``wait`` until the broker has answered. Returns whether nothing is left to do."""
        self._send()
        if wait and self._confirmation is not None:
            self._confirmation.exception()
        return self._look()

    def go_on(self) -> bool:
        """Look what became of it, and send it again if it has to be; returns whether nothing is left to do."""
        if self._confirmation is None:
            self._send()
        return self._look()

    def _look(self) -> bool:
        confirmation = self._confirmation
        if confirmation is None:
            return True
        if not confirmation.done():
            return False
        error = confirmation.exception()
        self._confirmation = None
        return error is None or self._has_failed(error)

    def _send(self) -> None:
        if not self._listener.driver.gone_queues.reply_q_valid(self._queue, self._request.msg_id):
            return
        try:
            self._confirmation = publishing.towards_queue(
                self._listener.connection, self._queue, self._message, self._patience
            )
        except (mm.MessagingError, oslo_messaging.MessagingException) as error:
            LOG.error("The reply to %s could not be sent: %s", self._request.msg_id, error)

    def _has_failed(self, error: mm.MessagingError) -> bool:
        msg_id = self._request.msg_id
        if isinstance(error, (mm.UnroutableError, mm.NackedError)):
            if time.monotonic() < self._retry_until:
                return False
            self._listener.driver.gone_queues.add(self._queue, msg_id)
            LOG.error("The reply to %s is dropped, its queue %s is gone: %s", msg_id, self._queue, error)
        elif isinstance(error, (mm.PreconditionFailedError, mm.RefusedError, mm.InvalidArgumentError)):
            # The message itself is refused: it is over the broker's size limit, for one.
            LOG.error("The reply to %s was refused by the broker: %s", msg_id, error)
            if not self._is_refusal:
                self._is_refusal = True
                self._message = self._request._refusal(error)
                return False
        else:
            LOG.error("The reply to %s could not be sent: %s", msg_id, error)
        return True


class NotificationIncoming(base.IncomingMessage):  # type: ignore[misc]
    """A notification."""

    def __init__(
        self,
        listener: Listener,
        delivery: mm.Delivery,
        context: Any,
        message: dict[str, Any],
        unique_id: Optional[str],
    ) -> None:
        """Take a notification that was delivered."""
        super().__init__(context.to_dict(), message, context.msg_id)
        self._listener = listener
        self._delivery = delivery
        self._unique_id = unique_id

    def acknowledge(self) -> None:
        """Tell the broker that it is done."""
        try:
            self._delivery.ack()
        except mm.MessagingError as error:
            LOG.warning("A notification could not be acknowledged: %s", error)
        self._listener.duplicates.end(self._unique_id)

    def requeue(self) -> None:
        """Put it back into its queue."""
        try:
            self._delivery.requeue()
        except mm.MessagingError as error:
            LOG.warning("A notification could not be put back: %s", error)
        self._listener.duplicates.give_up(self._unique_id)
